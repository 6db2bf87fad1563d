//! Which tokens of which sequences go into a step: a pure function.

/// How many tokens a sequence has yet to compute; 1 is a decode row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need<Key> {
    pub key: Key,
    pub tokens: usize,
}

/// All decode rows, then prefill chunks in order until `budget` tokens are reached.
///
/// Decode rows are never left out, so a long prompt cannot stall the answers beside it; the first prefill in order
/// always gets at least one token, so many answers cannot stall a prompt.
pub fn plan<Key: Copy>(needs: &[Need<Key>], budget: usize) -> Vec<Need<Key>> {
    let mut step: Vec<_> = needs.iter().copied().filter(|n| n.tokens == 1).collect();
    let mut left = budget.saturating_sub(step.len()).max(1);
    for need in needs.iter().filter(|n| n.tokens > 1) {
        if left == 0 {
            break;
        }
        let tokens = need.tokens.min(left);
        left -= tokens;
        step.push(Need {
            key: need.key,
            tokens,
        });
    }
    step
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decode_rows_always_and_prefill_within_the_budget(
            tokens in prop::collection::vec(1usize..200, 1..40),
            budget in 1usize..300,
        ) {
            let needs: Vec<_> = tokens.iter().enumerate().map(|(key, &tokens)| Need { key, tokens }).collect();
            let step = plan(&needs, budget);
            let decode = tokens.iter().filter(|t| **t == 1).count();
            prop_assert_eq!(step.iter().filter(|n| tokens[n.key] == 1).count(), decode);
            let total: usize = step.iter().map(|n| n.tokens).sum();
            prop_assert!(total <= budget.max(decode + 1));
            prop_assert!(total >= 1);
            let prefills: Vec<_> = step.iter().filter(|n| tokens[n.key] > 1).collect();
            // Only the last chunk may be a part, and no prompt is overtaken.
            for (place, chunk) in prefills.iter().enumerate() {
                prop_assert!(chunk.tokens == tokens[chunk.key] || place + 1 == prefills.len());
            }
            let waiting: Vec<_> = needs.iter().filter(|n| n.tokens > 1).map(|n| n.key).collect();
            let taken: Vec<_> = prefills.iter().map(|n| n.key).collect();
            prop_assert_eq!(&waiting[..taken.len()], &taken[..]);
        }
    }
}
