//! Decisions, and how the promises are kept.

use std::collections::HashMap;

use utoipa::ToSchema;

#[derive(ToSchema)]
pub(crate) struct RouterReport {
    slas: Vec<SlaReport>,
    features: FeatureReport,
    /// By model.
    cost_model: HashMap<String, CostModel>,
    cost_model_overall: OverallErrors,
}

/// What the router sees of texts; the counts since the start are absent where words are all.
#[derive(ToSchema)]
pub(crate) struct FeatureReport {
    source: FeatureSource,
    #[schema(nullable = false)]
    embedding: Option<String>,
    #[schema(nullable = false)]
    embedded: Option<u64>,
    #[schema(nullable = false)]
    missed: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum FeatureSource {
    Ngrams,
    Hidden,
    Modernbert,
}

/// One promise.
#[derive(ToSchema)]
pub(crate) struct SlaReport {
    sla: String,
    alpha: f64,
    policy: String,
    requests: u64,
    /// Never answered: they do not count for the promise.
    withdrawn: u64,
    /// Answers judged, by weight of the label.
    judged: f64,
    expired: u64,
    /// Share of judged answers that satisfied; `null` before the first.
    satisfaction: Option<f64>,
    /// Wilson's, 95 %.
    #[schema(value_type = Option<Vec<f64>>, min_items = 2, max_items = 2)]
    interval: Option<(f64, f64)>,
    /// Requests behind the promise; negative is ahead.
    queue: f64,
    v: f64,
    price: f64,
    explored_share: f64,
    exploration_rate: f64,
    /// What the models' rates allow, from all cheapest to all best.
    #[schema(value_type = Option<Vec<f64>>, min_items = 2, max_items = 2)]
    reachable: Option<(f64, f64)>,
    /// False when the promise lies above what any choice of models reaches.
    feasible: bool,
    warming: bool,
    /// How often some model was found to have changed.
    changes: u64,
    stage: PredictorStage,
    models: Vec<ModelPart>,
}

/// Which predictor speaks.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum PredictorStage {
    BaseRates,
    Clusters,
    Head,
    Embedding,
}

#[derive(ToSchema)]
pub(crate) struct ModelPart {
    model: String,
    share: f64,
    requests: u64,
    joules: f64,
    exploration_joules: f64,
    satisfaction: f64,
    satisfaction_sd: f64,
    labels: u64,
    mean_joules: f64,
}

/// Expected against final joules.
#[derive(ToSchema)]
pub(crate) struct ExpectationErrors {
    answers: u64,
    /// Median of |expected − final| / final.
    median_error: f64,
    /// Σ expected / Σ final − 1.
    bias: f64,
}

#[derive(ToSchema)]
pub(crate) struct OverallErrors {
    errors: Option<ExpectationErrors>,
    given_length: Option<ExpectationErrors>,
    since_start: Option<ExpectationErrors>,
}

#[derive(ToSchema)]
pub(crate) struct CostModel {
    measured: u64,
    median_error: Option<f64>,
    bias: Option<f64>,
    mean_joules: f64,
    given_length: Option<ExpectationErrors>,
    since_start: Option<ExpectationErrors>,
    correction: f64,
    cached_share: f64,
    length: LengthModel,
    law: CostLaw,
}

#[derive(ToSchema)]
pub(crate) struct LengthModel {
    mean: Option<f64>,
    errors: Option<ExpectationErrors>,
}

/// Joules.
#[derive(ToSchema)]
pub(crate) struct CostLaw {
    prompt_token: f64,
    request: f64,
    output_token: f64,
    shared_step: f64,
}

/// What would be decided; for a named model `policy` and `model` are all.
#[derive(ToSchema)]
pub(crate) struct RouteDecision {
    policy: String,
    model: String,
    #[schema(nullable = false)]
    sla: Option<String>,
    #[schema(nullable = false)]
    alpha: Option<f64>,
    #[schema(nullable = false)]
    explored: Option<bool>,
    #[schema(nullable = false)]
    satisfaction: Option<HashMap<String, f64>>,
    #[schema(nullable = false)]
    expected_joules: Option<HashMap<String, f64>>,
    #[schema(nullable = false)]
    queue: Option<f64>,
    /// Models that would answer too, unseen, to be learnt from.
    #[schema(nullable = false)]
    explore: Option<Vec<String>>,
    /// Probability with which exactly this choice is drawn.
    #[schema(nullable = false)]
    propensity: Option<f64>,
    #[schema(nullable = false)]
    price: Option<f64>,
    #[schema(nullable = false)]
    stage: Option<PredictorStage>,
    /// Of the request under its promise.
    #[schema(nullable = false)]
    number: Option<u64>,
}
