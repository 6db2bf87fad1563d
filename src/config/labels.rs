//! `[[sla]] labels`: whose word on an answer counts, and how much.

use super::reader::Section;
use super::{ConfigError, Refusal, check};

/// Whose word on an answer a service level trusts: from 0, not at all, to 1, like the user's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// `POST /v1/feedback`.
    pub user: f64,
    /// The request's own `messplus.reference`.
    pub reference: f64,
    /// Whether an answer agrees with the largest model's, where that one answered too.
    pub agreement: f64,
    /// The verdict of a model of the zoo.
    pub judge: f64,
    /// The name of the model that judges; the largest where none is named.
    pub judge_model: Option<String>,
    /// The share of answers that the judge is asked about, apart from those made to learn from, which it always is.
    pub judge_share: f64,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            user: 1.0,
            reference: 1.0,
            agreement: 0.0,
            judge: 0.0,
            judge_model: None,
            judge_share: 0.05,
        }
    }
}

/// Reads the table `labels` and its neighbours `judge` and `judge_share`. Trust that is not mentioned stays as it is by
/// default. `models` are the names of the zoo.
pub(super) fn read(section: &mut Section<'_>, models: &[&str]) -> Result<Labels, ConfigError> {
    let mut labels = Labels::default();
    let table = section.section("labels")?;
    let judge = section.get("judge");
    let share = section.get("judge_share");
    if let Some(mut table) = table {
        let found = [
            (table.get("user"), &mut labels.user),
            (table.get("reference"), &mut labels.reference),
            (table.get("agreement"), &mut labels.agreement),
            (table.get("judge"), &mut labels.judge),
        ];
        table.finish()?;
        for (value, trust) in found {
            let Some(value) = value else { continue };
            *trust = check::share(value.number()?).map_err(|refusal| value.refuse(refusal))?;
        }
    }
    if let Some(value) = judge {
        let name = value.string()?;
        if !models.contains(&name) {
            let problem = format!("is '{name}', and the zoo has no such model");
            return Err(value.refuse(Refusal::new(
                problem,
                format!("name one of {}", models.join(", ")),
            )));
        }
        if labels.judge == 0.0 {
            return Err(value.refuse(Refusal::new(
                "names a model whose verdict nobody trusts",
                "add labels = { judge = 0.5 }, or leave judge out",
            )));
        }
        labels.judge_model = Some(name.into());
    }
    if let Some(value) = share {
        labels.judge_share = check::share(value.number()?).map_err(|refusal| value.refuse(refusal))?;
    }
    Ok(labels)
}
