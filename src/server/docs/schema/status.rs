//! What the server says of itself.

use utoipa::ToSchema;

/// How far the loading of the models is.
#[derive(ToSchema)]
pub(crate) struct LoadingProgress {
    models_loaded: u64,
    /// With the router's encoder, where there is one.
    models: u64,
    loaded_bytes: u64,
    total_bytes: u64,
    /// Since loading began.
    seconds: f64,
    /// What is being loaded.
    now: Option<String>,
}

#[derive(ToSchema)]
#[schema(example = json!({"status": "loading", "meters": null, "loading": {"models_loaded": 1, "models": 3,
    "loaded_bytes": 1976131072, "total_bytes": 38613852160u64, "seconds": 4.2, "now": "qwen2.5-1.5b"}}))]
pub(crate) struct Health {
    status: HealthStatus,
    /// What the joules rest on; `null` while nobody can tell.
    meters: Option<Vec<MeterState>>,
    /// While the models load.
    #[schema(nullable = false)]
    loading: Option<LoadingProgress>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum HealthStatus {
    Ok,
    Loading,
    Draining,
}

#[derive(ToSchema)]
pub(crate) struct MeterState {
    device: String,
    source: EnergySource,
    quantity: MeterQuantity,
    state: MeterTest,
}

/// `modelled` is declared watts times time, never a measurement.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum EnergySource {
    Nvml,
    Rapl,
    Modelled,
}

/// What a meter's readings are.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum MeterQuantity {
    Counter,
    PowerIntegrated,
    PowerAveraged,
    Declared,
}

/// How the test of the meter at the start went.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
pub(crate) enum MeterTest {
    Running,
    Passed,
    FellBack,
    Failed,
    Untested,
}

#[derive(ToSchema)]
#[schema(example = json!({"status": "ready"}))]
pub(crate) struct Ready {
    status: ReadyStatus,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ReadyStatus {
    Ready,
}
