//! `messplus check`: is the zoo file right, where would everything sit, does it fit. Loads nothing.

mod devices;
mod meter;
mod plan;
#[cfg(test)]
mod tests;

use serde_json::json;

use super::{Align, CheckArgs, CliError, emit, table};
use crate::config::{ConfigError, Zoo, bytes_text};
use crate::energy::MeterInspection;

pub use meter::meter_settings;
pub use plan::{DeviceNeed, Eyes, Place, Plan, model_source};

/// Runs the verb.
pub fn check(args: CheckArgs) -> Result<(), CliError> {
    let zoo = Zoo::load(args.zoo.as_deref())?;
    let plan = Plan::before_fetching(&zoo)?;
    let meters = meter::meters(&zoo, &plan)?;
    let misfit = plan.refuse_what_does_not_fit(&zoo).err();
    emit(&if args.json {
        as_json(&zoo, &plan, &meters, misfit.as_ref())
    } else {
        as_tables(&zoo, &plan, &meters)
    });
    match misfit {
        // After the tables, so that who is refused sees the numbers that refuse.
        Some(misfit) if plan.is_fetched() => Err(misfit.into()),
        // Who plans before fetching asks what a zoo would take, maybe of another machine: that is an answer too.
        Some(misfit) => {
            eprintln!("messplus: not on this machine: {misfit}");
            Ok(())
        }
        None => Ok(()),
    }
}

fn as_tables(zoo: &Zoo, plan: &Plan, meters: &[MeterInspection]) -> String {
    use Align::{Left, Right};
    let columns = [
        ("model", Left),
        ("source", Left),
        ("located", Left),
        ("device", Left),
        ("dtype", Left),
        ("parameters", Right),
        ("weights", Right),
        ("KV a token", Right),
        ("runs", Left),
        ("context", Right),
        ("KV pool", Right),
    ];
    let models = plan.models.iter().zip(&zoo.models).map(|(place, model)| {
        vec![
            model.name.clone(),
            model.source.to_string(),
            place.located.clone(),
            place.device.clone(),
            place.dtype_text(),
            count_text(place.parameters),
            bytes_text(place.weight_bytes),
            bytes_text(place.kv_bytes_per_token),
            place.runs().into(),
            place.max_context.to_string(),
            bytes_text(place.kv_bytes),
        ]
    });
    let devices = plan.devices.iter().map(|device| {
        vec![
            device.name.clone(),
            bytes_text(device.weight_bytes),
            bytes_text(device.workspace_bytes),
            bytes_text(device.kv_bytes),
            bytes_text(device.total()),
            device.free_bytes.map_or("unknown".into(), bytes_text),
        ]
    });
    let device_columns = [
        ("device", Left),
        ("weights", Right),
        ("steps", Right),
        ("KV pool", Right),
        ("total", Right),
        ("free", Right),
    ];
    let promises: Vec<_> = zoo
        .slas
        .iter()
        .map(|sla| format!("{} {}", sla.name, sla.alpha))
        .collect();
    format!(
        "{}: the file is right\n\n{}\n\n{}\n\n{}\n\n{}meter: {}\npolicy: {}\nfeatures: {}\npromises: {}\nlisten: {}",
        zoo.origin,
        table(&columns, models),
        table(&device_columns, devices),
        meter::meter_table(meters),
        plan.auto_line(),
        meter::line(meters),
        zoo.router.policy,
        features_text(zoo, plan),
        promises.join(", "),
        zoo.server.listen,
    )
}

fn as_json(zoo: &Zoo, plan: &Plan, meters: &[MeterInspection], misfit: Option<&ConfigError>) -> String {
    let models = plan.models.iter().zip(&zoo.models).map(|(place, model)| {
        json!({
            "name": model.name, "source": model.source.to_string(), "located": place.located, "fetched": place.fetched,
            "device": place.device, "dtype": place.dtype, "stored_dtype": place.stored_dtype,
            "parameters": place.parameters, "batched": place.batched, "weight_bytes": place.weight_bytes,
            "workspace_bytes": place.workspace_bytes, "kv_bytes_per_token": place.kv_bytes_per_token, "max_context": place.max_context,
            "kv_bytes": place.kv_bytes,
        })
    });
    let devices = plan.devices.iter().map(|device| {
        json!({
            "device": device.name, "weight_bytes": device.weight_bytes,
            "workspace_bytes": device.workspace_bytes, "kv_bytes": device.kv_bytes,
            "total_bytes": device.total(), "free_bytes": device.free_bytes,
        })
    });
    let slas = zoo
        .slas
        .iter()
        .map(|sla| json!({"name": sla.name, "alpha": sla.alpha}));
    let report = json!({
        "zoo": zoo.origin,
        "models": models.collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
        "auto": plan.auto,
        "fits": misfit.is_none(),
        "misfit": misfit.map(ToString::to_string),
        "meter": meter::line(meters),
        "meters": meter::meters_json(meters),
        "policy": zoo.router.policy.to_string(),
        "features": features_json(zoo, plan),
        "sla": slas.collect::<Vec<_>>(),
        "listen": zoo.server.listen.to_string(),
    });
    format!("{report:#}")
}

/// What the router sees of a text, and who makes it.
fn features_text(zoo: &Zoo, plan: &Plan) -> String {
    match &plan.eyes {
        Eyes::Words => "ngrams".into(),
        Eyes::Hidden(at) => format!("ngrams and the hidden state of {}", zoo.models[*at].name),
        Eyes::Encoder(reader) => format!(
            "ngrams and {} numbers of the encoder at {} ({} parameters, {})",
            reader.width,
            reader.located,
            count_text(reader.parameters),
            bytes_text(reader.weight_bytes)
        ),
    }
}

fn features_json(zoo: &Zoo, plan: &Plan) -> serde_json::Value {
    match &plan.eyes {
        Eyes::Words => json!({"source": "ngrams"}),
        Eyes::Hidden(at) => json!({"source": "hidden", "model": zoo.models[*at].name}),
        Eyes::Encoder(reader) => json!({
            "source": "modernbert", "located": reader.located, "parameters": reader.parameters,
            "weight_bytes": reader.weight_bytes, "width": reader.width,
        }),
    }
}

/// Parameters as people say them: `494 M`.
fn count_text(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{:.0} k", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} B", count as f64 / 1e9),
    }
}
