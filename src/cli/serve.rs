//! `messplus serve`: load the zoo, answer over HTTP until told to stop.

use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;

use super::signals::{Signals, listen};
use super::{Align, CliError, Plan, ServeArgs, emit, house, table};
use crate::config::{Zoo, bytes_text};
use crate::server::{self, AppState, Desk, Keys, Limits, Tls};

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
    let mut signals = Signals::listen()?;
    reload_on_hangup(zoo.clone(), keys.clone(), tls.clone())?;
    // A stream takes a descriptor; many systems hand out fewer than they could.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the number of open connections cannot be raised");
    }

    // It listens while the models load, and says so to whoever asks.
    let address = listener.local_addr().unwrap_or(address);
    let loading = house::loading(&zoo, &plan);
    let state = AppState::loading(loading.clone(), keys, Limits::new(zoo.server.max_body));
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(server::serve(listener, tls, state.clone(), async {
        // Dropped unsent only when the verb itself has ended.
        let _ = stopped.await;
    }));
    let serving = async {
        match serving.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(CliError::Failed(format!("serving on {address} ended: {error}"))),
            Err(error) => Err(CliError::Failed(format!("the server's task ended: {error}"))),
        }
    };
    let opening = async {
        let desk = house::open(&zoo, &plan, &args.data_dir, loading).await?;
        announce(&zoo, &desk).await;
        state.open(desk);
        let scheme = if zoo.server.tls.is_some() { "https" } else { "http" };
        emit(&format!("listening on {scheme}://{address}"));
        Ok(())
    };
    let whole = async { tokio::try_join!(serving, opening).map(drop) };
    tokio::pin!(whole);
    let signal = tokio::select! {
        ended = &mut whole => return ended,
        signal = signals.next() => signal,
    };
    if !state.is_open() {
        tracing::info!(signal, "ended while the models were loading");
        return Ok(());
    }
    tracing::info!(
        signal,
        under_way = state.under_way(),
        "no new requests; those under way come to their end"
    );
    // Without a receiver the server has ended already.
    let _ = stop.send(());
    tokio::select! {
        ended = &mut whole => ended,
        signal = signals.next() => Err(CliError::Failed(format!(
            "a second signal ({signal}) ended the server at once: {} requests were broken off",
            state.under_way()
        ))),
    }
}

/// At each SIGHUP the keys and the certificate are read anew. What cannot be read leaves the old in use.
fn reload_on_hangup(zoo: Zoo, keys: Keys, tls: Option<Tls>) -> Result<(), CliError> {
    let mut hangup = listen(SignalKind::hangup())?;
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
