//! `messplus serve`: load the zoo, answer over HTTP until told to stop.

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Align, CliError, Plan, ServeArgs, emit, house, stop_signal, table};
use crate::config::{Zoo, bytes_text};
use crate::server::{self, AppState, Desk, Keys, Tls};

/// Runs the verb.
pub async fn serve(args: ServeArgs) -> Result<(), CliError> {
    let mut zoo = Zoo::load(args.zoo.as_deref())?;
    if let Some(listen) = &args.listen {
        zoo.listen_on(listen)?;
    }
    let keys = Keys::new(zoo.api_keys()?, zoo.server.max_per_key);
    let tls = match &zoo.server.tls {
        None => None,
        Some(files) => {
            let read = Tls::read(&files.certificate, &files.key).await;
            Some(read.map_err(|e| CliError::Usage(e.to_string()))?)
        }
    };
    let plan = Plan::of(&zoo)?;
    plan.refuse_what_does_not_fit(&zoo)?;
    if plan.auto.is_some() {
        emit(plan.auto_line().trim_end());
    }
    let address = zoo.server.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        CliError::Failed(format!(
            "{address} cannot be listened on ({error}): choose another with --listen"
        ))
    })?;
    let stop = stop_signal()?;
    reload_on_hangup(zoo.clone(), keys.clone(), tls.clone())?;
    // A stream takes a descriptor; many systems hand out fewer than they could.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the number of open connections cannot be raised");
    }

    // It listens while the models load, and says so to whoever asks.
    let address = listener.local_addr().unwrap_or(address);
    let state = AppState::loading(keys);
    let serving = tokio::spawn(server::serve(listener, tls, state.clone(), stop));
    let desk = house::open(&zoo, &plan, &args.data_dir).await?;
    if serving.is_finished() {
        desk.close().await;
        return Ok(());
    }
    announce(&zoo, &desk).await;
    state.open(desk);
    let scheme = if zoo.server.tls.is_some() { "https" } else { "http" };
    emit(&format!("listening on {scheme}://{address}"));
    match serving.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CliError::Failed(format!("serving on {address} ended: {error}"))),
        Err(error) => Err(CliError::Failed(format!("the server's task ended: {error}"))),
    }
}

/// At each SIGHUP the keys and the certificate are read anew. What cannot be read leaves the old in use.
fn reload_on_hangup(zoo: Zoo, keys: Keys, tls: Option<Tls>) -> Result<(), CliError> {
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.map_err(|e| CliError::Failed(format!("signals cannot be listened for: {e}")))?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match zoo.api_keys() {
                Ok(read) => {
                    tracing::info!(keys = read.len(), "the keys were read anew");
                    keys.replace(read, zoo.server.max_per_key);
                }
                Err(error) => tracing::error!(%error, "the keys stay as they were"),
            }
            if let Some(tls) = &tls {
                match tls.reload().await {
                    Ok(()) => tracing::info!("the certificate was read anew"),
                    Err(error) => tracing::error!(%error, "the certificate stays as it was"),
                }
            }
        }
    });
    Ok(())
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
