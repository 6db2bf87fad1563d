//! `messplus load`: a client that drives a server with the demo questions and says what it cost and how well it went.

mod client;
mod drive;
mod live;
mod numbers;
mod questions;
mod report;
mod settle;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::{CliError, FeedbackBy, LoadArgs, emit};
use client::Client;
use drive::{Arrivals, Judge, Run};
use live::Live;
use report::{Baseline, Report, ServerView};
use tally::Tally;

/// Runs the verb.
pub async fn load(args: LoadArgs) -> Result<(), CliError> {
    let report = measure(&args, interrupted()).await?;
    emit(&if args.json {
        report.as_json()
    } else {
        report.as_table()
    });
    report.verdict()
}

/// Sends the questions, and gathers what the answers and the server say about them. `stop` ends it early.
async fn measure(args: &LoadArgs, stop: impl Future<Output = ()>) -> Result<Report, CliError> {
    let client = Arc::new(Client::new(
        &args.url,
        args.api_key.as_deref(),
        Duration::from_secs(args.timeout),
    )?);
    let models = client.models().await?;
    let before = client.router().await;
    let questions = Arc::new(questions::demo(args.seed).map_err(CliError::Failed)?);

    let run = Run {
        model: args.model.clone(),
        sla: Some(args.sla.clone()).filter(|_| args.model == "auto"),
        judge: match args.feedback_by {
            FeedbackBy::Server => Judge::Server,
            FeedbackBy::Client => Judge::Client,
        },
        max_tokens: args.max_tokens,
        requests: args.requests,
        concurrency: args.concurrency,
        arrivals: args
            .rate
            .map_or(Arrivals::OneAfterAnother, |rate| Arrivals::Poisson {
                rate,
                seed: args.seed,
            }),
    };
    let mut live = Live::start(args.requests, "load");
    let mut stop = std::pin::pin!(stop);
    let mut tally = Tally::default();
    let ended = drive::drive(&client, &run, &questions, &mut tally, &mut live, stop.as_mut()).await;
    live.end();
    // The server's view first: what follows adds to it.
    let after = client.router().await;
    let unsettled = settle::settle(&client, &mut tally, args.concurrency).await;

    let mut baseline = None;
    if ended.is_whole() && args.baseline_sample > 0 && tally.answered() > 0 {
        let expected = tally
            .dearest()
            .filter(|name| models.iter().any(|m| m.name == *name));
        // By size: a small model that is rarely asked runs alone in its batch and may be expected to cost more.
        let largest = client::largest(&models);
        let known = largest.filter(|m| m.parameters > 0);
        let model = known
            .map(|m| m.name.clone())
            .or(expected)
            .or_else(|| largest.map(|m| m.name.clone()));
        let Some(model) = model else {
            return Err(no_models(&args.url));
        };
        let run = Run {
            model: model.clone(),
            sla: None,
            // A sample to compare with must not teach the router anything.
            judge: Judge::Nobody,
            requests: args.baseline_sample.min(args.requests),
            ..run
        };
        let mut live = Live::start(run.requests, "always largest");
        let mut tally = Tally::default();
        drive::drive(&client, &run, &questions, &mut tally, &mut live, stop.as_mut()).await;
        live.end();
        settle::settle(&client, &mut tally, args.concurrency).await;
        baseline = Some(Baseline { model, tally });
    }
    let energy = client.energy().await;
    let server = ServerView::new(&args.sla, before.as_ref(), after.as_ref(), energy.as_ref());
    Ok(Report {
        requests: args.requests,
        tally,
        ended,
        unsettled,
        baseline,
        server,
    })
}

fn no_models(url: &str) -> CliError {
    CliError::Failed(format!("the server at {url} serves no model: check its zoo file"))
}

/// Ends when somebody presses Ctrl-C, or a supervisor asks for the end.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the default action ends the process, which is what was asked for.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
