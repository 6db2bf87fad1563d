//! `messplus serve`: load the zoo, answer over HTTP until told to stop.

use tokio::net::TcpListener;

use super::{Align, CliError, Plan, ServeArgs, emit, house, stop_signal, table};
use crate::config::{Zoo, bytes_text};
use crate::server::{self, AppState, Desk, Keys};

/// Runs the verb.
pub async fn serve(args: ServeArgs) -> Result<(), CliError> {
    let mut zoo = Zoo::load(args.zoo.as_deref())?;
    if let Some(listen) = &args.listen {
        zoo.listen_on(listen)?;
    }
    let keys = Keys::new(zoo.api_keys()?);
    let plan = Plan::of(&zoo)?;
    plan.refuse_what_does_not_fit(&zoo)?;
    let address = zoo.server.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        CliError::Failed(format!(
            "{address} cannot be listened on ({error}): choose another with --listen"
        ))
    })?;
    let stop = stop_signal()?;

    // It listens while the models load, and says so to whoever asks.
    let address = listener.local_addr().unwrap_or(address);
    let state = AppState::loading(keys);
    let serving = tokio::spawn(server::serve(listener, state.clone(), stop));
    let desk = house::open(&zoo, &plan, &args.data_dir).await?;
    if serving.is_finished() {
        desk.close().await;
        return Ok(());
    }
    announce(&zoo, &desk).await;
    state.open(desk);
    emit(&format!("listening on http://{address}"));
    match serving.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CliError::Failed(format!("serving on {address} ended: {error}"))),
        Err(error) => Err(CliError::Failed(format!("the server's task ended: {error}"))),
    }
}

async fn announce(zoo: &Zoo, desk: &Desk) {
    let meters = desk.devices().await;
    let columns = [
        ("model", Align::Left),
        ("parameters", Align::Right),
        ("device", Align::Left),
        ("dtype", Align::Left),
        ("weights", Align::Right),
        ("runs", Align::Left),
        ("context", Align::Right),
        ("meter", Align::Left),
    ];
    let rows = desk.models().iter().map(|model| {
        let meter = meters.iter().find(|m| m.device == model.device);
        vec![
            model.name.clone(),
            model.parameters.to_string(),
            model.device_name.clone(),
            model.dtype.clone(),
            bytes_text(model.weight_bytes),
            if model.batched { "batched" } else { "one at a time" }.to_owned(),
            model.max_context.to_string(),
            meter.map_or_else(String::new, |m| m.source.to_string()),
        ]
    });
    let promises: Vec<_> = zoo
        .slas
        .iter()
        .map(|sla| format!("{} {}", sla.name, sla.alpha))
        .collect();
    emit(&table(&columns, rows));
    for meter in &meters {
        emit(&format!("meter of {}: {}", meter.name, meter.meter));
    }
    emit(&format!(
        "policy {}, promises: {}",
        zoo.router.policy,
        promises.join(", ")
    ));
}
