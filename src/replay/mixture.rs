//! The cheapest way to an average satisfaction for one who knows: hulls, mixtures and the oracle's choice.

/// Cost and satisfaction of one model.
pub type Offer = (f64, f64);

/// Models worth mixing: corners of the lower convex hull of (satisfaction, cost), from the cheapest to the best.
pub fn hull(offers: &[Offer]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..offers.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (offers[*a], offers[*b]);
        a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1))
    });
    let slope = |a: usize, b: usize| (offers[b].0 - offers[a].0) / (offers[b].1 - offers[a].1);
    let mut corners: Vec<usize> = vec![];
    for place in order {
        if corners
            .last()
            .is_some_and(|last| offers[place].1 <= offers[*last].1)
        {
            continue;
        }
        while let [.., before, last] = corners[..] {
            if slope(before, last) < slope(last, place) {
                break;
            }
            corners.pop();
        }
        corners.push(place);
    }
    corners
}

/// Two models drawn from by lot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    pub low: usize,
    pub high: usize,
    /// Chance of `high`.
    pub share: f64,
}

/// The cheapest mixtures, one a group, whose mean satisfaction is α: the linear programme
/// min Σ_g w_g Σ_m p_gm e_gm subject to Σ_g w_g Σ_m p_gm s_gm ≥ α, solved by walking the groups' hulls in order of
/// joules per satisfied answer. Where α is out of reach every group gets its best model.
pub fn mixtures(groups: &[(f64, Vec<Offer>)], alpha: f64) -> Vec<Mix> {
    let total: f64 = groups.iter().map(|(weight, _)| weight).sum();
    let hulls: Vec<Vec<usize>> = groups.iter().map(|(_, offers)| hull(offers)).collect();
    let mut mixes: Vec<Mix> = hulls
        .iter()
        .map(|corners| Mix {
            low: corners[0],
            high: corners[0],
            share: 0.0,
        })
        .collect();
    let reached = |(mix, (weight, offers)): (&Mix, &(f64, Vec<Offer>))| weight * offers[mix.low].1;
    let mut missing = alpha * total - mixes.iter().zip(groups).map(reached).sum::<f64>();
    let mut steps: Vec<(f64, usize, usize, usize)> = vec![];
    for (group, corners) in hulls.iter().enumerate() {
        let offers = &groups[group].1;
        for pair in corners.windows(2) {
            let (low, high) = (offers[pair[0]], offers[pair[1]]);
            steps.push(((high.0 - low.0) / (high.1 - low.1), group, pair[0], pair[1]));
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (_, group, low, high) in steps {
        if missing <= 0.0 {
            break;
        }
        let (weight, offers) = &groups[group];
        let gain = weight * (offers[high].1 - offers[low].1);
        mixes[group] = if gain <= missing {
            Mix {
                low: high,
                high,
                share: 0.0,
            }
        } else {
            Mix {
                low,
                high,
                share: missing / gain,
            }
        };
        missing -= gain;
    }
    mixes
}

/// The cheapest choices, one a request, of which at least `needed` satisfy: exact where satisfaction is 0 or 1.
pub fn knowing(offers: &[Vec<Offer>], needed: f64) -> Vec<usize> {
    trade(offers, |at, model| offers[at][model].1, needed)
}

/// Choices, one a request, by what is believed (`offers`), until `needed` satisfy in truth.
///
/// Every request starts with its cheapest answer; then one answer after another is traded for one believed to be
/// better, in order of joules for the gain: the choices of a rising price of satisfaction.
pub fn trade(offers: &[Vec<Offer>], truth: impl Fn(usize, usize) -> f64, needed: f64) -> Vec<usize> {
    let hulls: Vec<Vec<usize>> = offers.iter().map(|request| hull(request)).collect();
    let mut choices: Vec<usize> = hulls.iter().map(|corners| corners[0]).collect();
    let mut missing = needed
        - choices
            .iter()
            .enumerate()
            .map(|(at, choice)| truth(at, *choice))
            .sum::<f64>();
    let mut trades: Vec<(f64, usize, usize)> = vec![];
    for (at, (request, corners)) in offers.iter().zip(&hulls).enumerate() {
        for pair in corners.windows(2) {
            let (low, high) = (request[pair[0]], request[pair[1]]);
            trades.push(((high.0 - low.0) / (high.1 - low.1), at, pair[1]));
        }
    }
    trades.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (_, at, model) in trades {
        if missing <= 1e-9 {
            break;
        }
        missing -= truth(at, model) - truth(at, choices[at]);
        choices[at] = model;
    }
    choices
}

/// Educated guessing, the paper's baseline that knows every model's average: models are drawn evenly where that
/// meets α, else the best one is drawn as much more often as α needs. (The paper gives no formula; this one gives the
/// joules and satisfaction of its table on every benchmark.)
pub fn educated(rates: &[f64], alpha: f64) -> Vec<f64> {
    let count = rates.len();
    let even = 1.0 / count as f64;
    let mean = rates.iter().sum::<f64>() * even;
    let best = (0..count).fold(0, |best, m| if rates[m] > rates[best] { m } else { best });
    if count == 1 || mean >= alpha || rates[best] <= mean {
        return vec![even; count];
    }
    let others = (rates.iter().sum::<f64>() - rates[best]) / (count - 1) as f64;
    let most = ((alpha - others) / (rates[best] - others)).clamp(even, 1.0);
    let mut shares = vec![(1.0 - most) / (count - 1) as f64; count];
    shares[best] = most;
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(groups: &[(f64, Vec<Offer>)], mixes: &[Mix]) -> Offer {
        let part = |((weight, offers), mix): (&(f64, Vec<Offer>), &Mix)| {
            let blend = |of: fn(&Offer) -> f64| {
                weight * ((1.0 - mix.share) * of(&offers[mix.low]) + mix.share * of(&offers[mix.high]))
            };
            (blend(|o| o.0), blend(|o| o.1))
        };
        groups
            .iter()
            .zip(mixes)
            .map(part)
            .fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }

    /// All choices of one model a request.
    fn every_choice(requests: usize, models: usize) -> impl Iterator<Item = Vec<usize>> {
        (0..models.pow(requests as u32)).map(move |mut code| {
            (0..requests)
                .map(|_| {
                    let digit = code % models;
                    code /= models;
                    digit
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_oracle_is_the_cheapest_choice_there_is(
            answers in prop::collection::vec(prop::collection::vec((1u32..50, any::<bool>()), 3), 1..7),
            needed in 0usize..8,
        ) {
            let offers: Vec<Vec<Offer>> = answers
                .iter()
                .map(|models| models.iter().map(|(cost, good)| (f64::from(*cost), f64::from(*good))).collect())
                .collect();
            let total = |choice: &[usize]| {
                choice.iter().zip(&offers).fold((0.0, 0.0), |sum, (c, o)| (sum.0 + o[*c].0, sum.1 + o[*c].1))
            };
            let ours = total(&knowing(&offers, needed as f64));
            let reach = every_choice(offers.len(), 3).map(|c| total(&c).1).fold(0.0, f64::max);
            let goal = (needed as f64).min(reach);
            let best = every_choice(offers.len(), 3)
                .map(|c| total(&c))
                .filter(|(_, good)| *good >= goal)
                .map(|(cost, _)| cost)
                .fold(f64::INFINITY, f64::min);
            prop_assert!(ours.1 >= goal);
            prop_assert_eq!(ours.0, best);
        }

        /// No mixture on a fine grid of shares is cheaper and as good.
        #[test]
        fn a_mixture_is_as_cheap_as_any(
            groups in prop::collection::vec(prop::collection::vec((1u32..50, 0u32..=10), 3), 1..3),
            alpha in 0.05f64..0.95,
        ) {
            let share = 1.0 / groups.len() as f64;
            let groups: Vec<(f64, Vec<Offer>)> = groups
                .iter()
                .map(|g| (share, g.iter().map(|(c, s)| (f64::from(*c), f64::from(*s) / 10.0)).collect()))
                .collect();
            let (cost, good) = value(&groups, &mixtures(&groups, alpha));
            let reach: f64 = groups.iter().map(|(w, o)| w * o.iter().map(|o| o.1).fold(0.0, f64::max)).sum();
            let goal = alpha.min(reach);
            prop_assert!(good >= goal - 1e-9, "{good} of {goal}");
            const GRID: usize = 12;
            let lots: Vec<[f64; 3]> = (0..=GRID)
                .flat_map(|a| (0..=GRID - a).map(move |b| [a, b, GRID - a - b].map(|n| n as f64 / GRID as f64)))
                .collect();
            for choice in every_choice(groups.len(), lots.len()) {
                let (mut grid_cost, mut grid_good) = (0.0, 0.0);
                for (lot, (weight, offers)) in choice.iter().map(|c| lots[*c]).zip(&groups) {
                    for (share, offer) in lot.iter().zip(offers) {
                        grid_cost += weight * share * offer.0;
                        grid_good += weight * share * offer.1;
                    }
                }
                prop_assert!(grid_good < goal || grid_cost >= cost - 1e-9, "{choice:?} costs {grid_cost}, ours {cost}");
            }
        }
    }

    /// Three rows of the paper's table: the even draw where it is enough, more of the best where it is not.
    #[test]
    fn educated_guessing_as_in_the_paper() {
        let mean = |shares: &[f64], of: [f64; 3]| shares.iter().zip(of).map(|(s, v)| s * v).sum::<f64>();
        let logiqa = educated(&[0.272, 0.290, 0.493], 0.40);
        assert!((mean(&logiqa, [0.272, 0.290, 0.493]) - 0.399).abs() < 2e-3);
        assert!((mean(&logiqa, [0.17, 0.81, 4.11]) - 2.51).abs() < 0.02);
        let boolq = educated(&[0.692, 0.842, 0.888], 0.80);
        assert!((mean(&boolq, [0.14, 0.43, 3.40]) - 1.31).abs() < 0.02);
    }
}
