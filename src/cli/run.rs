//! `messplus run`: one answer on standard output, what it cost on standard error.

use std::io::{Read, Write};

use super::{CliError, Plan, RunArgs, emit, house};
use crate::config::Zoo;
use crate::engine::ChatMessage;
use crate::server::{Ask, Delivery, Piece, Prompt, SamplingWish, Summary, Target};
use crate::units::RequestId;

/// Runs the verb.
pub async fn run(args: RunArgs) -> Result<(), CliError> {
    let prompt = match args.prompt.as_deref() {
        None | Some("-") => standard_input()?,
        Some(prompt) => prompt.to_owned(),
    };
    let zoo = Zoo::load(args.zoo.as_deref())?;
    let plan = Plan::of(&zoo)?;
    plan.refuse_what_does_not_fit(&zoo)?;
    let target = target(&args.model);
    // One answer leaves nothing behind: its log lives as long as it does.
    let scratch = Scratch::new()?;
    let desk = house::open(&zoo, &plan, &scratch.0, house::loading(&zoo, &plan)).await?;
    let ask = Ask {
        target,
        prompts: vec![Prompt::Chat(vec![ChatMessage::new("user", prompt)])],
        n: 1,
        max_tokens: args.max_tokens,
        sampling: SamplingWish {
            temperature: args.temperature,
            seed: args.seed,
            ..SamplingWish::default()
        },
        stop: Vec::new(),
        logprobs: None,
        constraint: None,
        tools: None,
        delivery: Delivery::Stream { include_usage: true },
        reference: None,
    };
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
    let mut answer = desk
        .answer(RequestId::fresh(), ask)
        .await
        .map_err(|e| failed(&e))?;
    let mut outcome = Err(CliError::Failed(
        "the answer ended before it was complete".to_owned(),
    ));
    let mut out = std::io::stdout();
    while let Some(piece) = answer.pieces.recv().await {
        match piece {
            Piece::Text { text, .. } => {
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                written.map_err(|e| failed(&format!("standard output cannot be written: {e}")))?;
            }
            Piece::Call { .. } | Piece::Arguments { .. } | Piece::Done { .. } => {}
            Piece::Finished(summary) => outcome = Ok(summary),
            Piece::Failed(error) => outcome = Err(failed(&error)),
        }
    }
    emit("");
    desk.close().await;
    eprintln!("{}", account(&answer.model, &*outcome?));
    Ok(())
}

fn standard_input() -> Result<String, CliError> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| CliError::Failed(format!("standard input cannot be read: {error}")))?;
    if text.trim().is_empty() {
        return Err(CliError::Usage(
            "the prompt is empty: write it behind `messplus run`".to_owned(),
        ));
    }
    Ok(text.trim_end().to_owned())
}

fn target(model: &str) -> Target {
    let auto = |sla: &str| Target::Auto {
        sla: sla.to_owned(),
        param: "model",
    };
    match model.strip_prefix("auto") {
        Some("") => auto("default"),
        Some(rest) if rest.starts_with(':') => auto(&rest[1..]),
        _ => Target::Named {
            model: model.to_owned(),
        },
    }
}

/// One line: who answered, at what cost.
fn account(model: &str, summary: &Summary) -> String {
    let energy = &summary.extension.energy;
    format!(
        "{model}: {:.4} J ({}{}), {} prompt + {} answer tokens, {:.1} ms",
        energy.joules,
        energy.source,
        if energy.is_final { "" } else { ", provisional" },
        summary.usage.prompt_tokens,
        summary.usage.completion_tokens,
        summary.extension.timing.total_ms,
    )
}

/// A folder that goes when it is dropped.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Self, CliError> {
        let path = std::env::temp_dir().join(format!("messplus-run-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|e| CliError::Failed(format!("{} cannot be made: {e}; set TMPDIR", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left in the temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
