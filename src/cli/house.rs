//! Opening the house: from a checked zoo file to a desk that answers.

use std::path::Path;
use std::sync::Arc;

use super::check::{Eyes, model_source};
use super::{CliError, Place, Plan, locate, meter_settings};
use crate::config::{Model, Zoo};
use crate::energy::{EnergyHandle, LaneDevice, MeterSettings, check_record, open_meters};
use crate::engine::{Compute, Engine, EngineSettings, HostSpec, cuda_device, lane_devices};
use crate::router::{ModelInfo, Policy, RouterConfig, SlaConfig};
use crate::server::{self, Desk, DeskSetup, Loading, LoadingPart, Metrics, StepTap, saved_ledger};
use crate::store::Store;
use crate::units::{Clock, ModelId};

/// Draws the router's exploration; fixed, so that a log can be replayed.
const ROUTER_SEED: u64 = 42;

/// What [`open`] is going to load, in its order.
pub fn loading(zoo: &Zoo, plan: &Plan) -> Loading {
    let encoder = match &plan.eyes {
        // The first lane loads it, in the name of the first model.
        Eyes::Encoder(reader) => Some(LoadingPart {
            model: ModelId(0),
            name: "the router's encoder".to_owned(),
            bytes: reader.weight_bytes,
        }),
        Eyes::Words | Eyes::Hidden(_) => None,
    };
    let models = (0..).map(ModelId).zip(zoo.models.iter().zip(&plan.models));
    let part = |(id, (model, place)): (ModelId, (&Model, &Place))| LoadingPart {
        model: id,
        name: model.name.clone(),
        bytes: place.weight_bytes,
    };
    Loading::new(encoder.into_iter().chain(models.map(part)).collect())
}

/// Loads every model of `zoo`, with what `data_dir` remembers. `plan` is the zoo's own, already found to fit; `loading`
/// is told how it goes.
pub async fn open(zoo: &Zoo, plan: &Plan, data_dir: &Path, loading: Loading) -> Result<Desk, CliError> {
    let specs = specs(zoo, plan)?;
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    let (store, recovered) = Store::open(data_dir).map_err(|e| failed(&e))?;
    let clock = Clock::start();
    let lanes = lanes(&specs);
    let names: Vec<String> = zoo.models.iter().map(|m| m.name.clone()).collect();
    let promises: Vec<String> = zoo.slas.iter().map(|sla| sla.name.clone()).collect();
    let settings = MeterSettings {
        models: names.clone(),
        ..meter_settings(&zoo.energy)
    };
    check_record(&settings).map_err(|e| failed(&e))?;
    let meters = open_meters(&settings, &lanes).map_err(|e| failed(&e))?;
    let ledger = saved_ledger(&recovered).map_err(|e| failed(&e))?;
    let energy = EnergyHandle::start(meters, &lanes, &settings, clock, Some(ledger));
    let metrics = Metrics::new(names, &promises).map_err(|e| failed(&e))?;
    let tap = Arc::new(StepTap::new(energy.clone(), metrics.clone(), loading));
    let engine_settings = EngineSettings {
        max_queue: zoo.server.max_queue,
        max_rows: zoo.server.max_batch,
        prefix_cache: zoo.server.prefix_cache,
        ..EngineSettings::default()
    };
    let encoder = match &plan.eyes {
        Eyes::Encoder(reader) => Some(reader.source.clone()),
        Eyes::Words | Eyes::Hidden(_) => None,
    };
    let starting = tokio::task::spawn_blocking(move || {
        Engine::start_with_encoder(&specs, encoder, engine_settings, clock, tap)
    });
    let engine = starting.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;

    let models: Vec<ModelInfo> = engine
        .models()
        .iter()
        .map(|m| ModelInfo {
            name: m.name.clone(),
            parameters: m.parameters,
        })
        .collect();
    let policy = Policy::parse(&zoo.router.policy.to_string(), &models).map_err(|e| failed(&e))?;
    let slas = zoo
        .slas
        .iter()
        .map(|sla| SlaConfig {
            name: sla.name.clone(),
            alpha: sla.alpha,
        })
        .collect();
    let eyes = server_eyes(zoo, plan);
    let router = RouterConfig {
        embedding: eyes.source(),
        ..RouterConfig::new(policy, models, slas, ROUTER_SEED)
    };
    let setup = DeskSetup {
        engine,
        energy,
        router,
        eyes,
        labels: zoo.slas.iter().map(|sla| sla.labels.clone()).collect(),
        store,
        recovered,
        metrics,
        most_prompt: zoo.server.max_prompt,
    };
    Desk::start(setup).await.map_err(|e| failed(&e))
}

/// The same with names: a router that finds another name in its log knows that its vectors are others.
fn server_eyes(zoo: &Zoo, plan: &Plan) -> server::Eyes {
    match &plan.eyes {
        Eyes::Words => server::Eyes::Words,
        Eyes::Hidden(at) => server::Eyes::Hidden {
            model: ModelId(*at as u16),
            name: zoo.models[*at].name.clone(),
        },
        Eyes::Encoder(reader) => server::Eyes::Encoder(format!("modernbert:{}", reader.located)),
    }
}

/// The devices of `specs`, as meters know them.
pub fn lanes(specs: &[HostSpec]) -> Vec<LaneDevice> {
    let lane = |(device, compute, name)| LaneDevice {
        device,
        name,
        cuda_ordinal: match compute {
            Compute::Cpu => None,
            Compute::Cuda(ordinal) => Some(ordinal),
        },
        cuda_uuid: match compute {
            Compute::Cpu => None,
            // Who has no such device is told so when its lane opens it.
            Compute::Cuda(ordinal) => cuda_device(ordinal).ok().and_then(|facts| facts.uuid),
        },
    };
    lane_devices(specs).into_iter().map(lane).collect()
}

/// What the engine is told of each model of the zoo.
pub fn specs(zoo: &Zoo, plan: &Plan) -> Result<Vec<HostSpec>, CliError> {
    let spec = |(model, place): (&Model, &Place)| {
        Ok(HostSpec {
            name: model.name.clone(),
            source: model_source(locate(zoo, model)?),
            compute: place.compute,
            precision: place.precision,
            max_context: Some(place.max_context),
            kv_bytes: place.kv_bytes,
        })
    };
    zoo.models.iter().zip(&plan.models).map(spec).collect()
}
