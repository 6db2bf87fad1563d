//! The colour of a policy, the same in every plot.

use plotters::style::RGBColor;

/// Colours of Okabe and Ito, told apart by colour-blind eyes too, for policies that learn; greys for references.
const COLOURS: [(&str, RGBColor); 14] = [
    ("mess-plus", RGBColor(213, 94, 0)),
    ("paper", RGBColor(0, 114, 178)),
    ("mess-plus-no-context", RGBColor(230, 159, 0)),
    ("thompson", RGBColor(0, 158, 115)),
    ("ucb", RGBColor(86, 180, 233)),
    ("epsilon-greedy", RGBColor(204, 121, 167)),
    ("threshold", RGBColor(160, 140, 0)),
    ("cascade", RGBColor(120, 60, 20)),
    ("static-mix", RGBColor(70, 70, 70)),
    ("static-mix-category", RGBColor(120, 120, 120)),
    ("logistic", RGBColor(150, 150, 150)),
    ("oracle", RGBColor(0, 0, 0)),
    ("educated", RGBColor(175, 175, 175)),
    ("random", RGBColor(200, 200, 200)),
];

/// A policy's colour.
pub fn colour(policy: &str) -> RGBColor {
    COLOURS
        .iter()
        .find(|(name, _)| *name == policy)
        .map_or(RGBColor(60, 60, 60), |(_, colour)| *colour)
}

/// Policies in the order in which lines are drawn over one another; later in the list is less in front.
pub fn rank(policy: &str) -> usize {
    COLOURS
        .iter()
        .position(|(name, _)| *name == policy)
        .unwrap_or(COLOURS.len())
}
