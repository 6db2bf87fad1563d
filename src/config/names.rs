//! Names: which are allowed, and which known one a mistyped one was meant to be.

use super::Refusal;

/// Refuses names that would be ambiguous in `model` of a request, or that cannot be typed there plainly.
pub(super) fn model_name(name: &str) -> Result<(), Refusal> {
    plain_name(name)?;
    if name == "auto" || name.starts_with("auto:") {
        return Err(Refusal::new(
            format!("is '{name}', which in a request means that the router chooses"),
            "give the model another name",
        ));
    }
    Ok(())
}

/// Names go into URLs, metric labels and column heads, so they are kept to what needs no quoting there.
pub(super) fn plain_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::new("is empty", "give it a name"));
    }
    match name
        .chars()
        .find(|c| !c.is_alphanumeric() && !"._-/:+@".contains(*c))
    {
        None => Ok(()),
        Some(c) => Err(Refusal::new(
            format!("is {name:?}, and {c:?} may not be in a name"),
            "use letters, digits and . _ - / : + @",
        )),
    }
}

/// The known word nearest to a mistyped one, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |k: &str| distance(&word.to_lowercase(), &k.to_lowercase());
    let best = known.iter().min_by_key(|k| near(k))?;
    (near(best) <= 1 + best.len().max(word.len()) / 4).then_some(*best)
}

/// Levenshtein's distance with a swap of neighbours counted once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["name", "source", "device", "dtype", "max_context"];
        assert_eq!(nearest("sorce", &known), Some("source"));
        assert_eq!(nearest("Device", &known), Some("device"));
        assert_eq!(nearest("max_contxet", &known), Some("max_context"));
        assert_eq!(nearest("dytpe", &known), Some("dtype"));
        assert_eq!(nearest("temperature", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
