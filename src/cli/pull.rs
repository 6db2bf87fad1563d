//! `messplus pull`: models of the Hugging Face Hub into its standard cache.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{CliError, PullArgs, emit};
use crate::config::{Source, Zoo, bytes_text};
use crate::hub::{self, HubEnvironment, PullError, Pulling};

/// Runs the verb.
pub async fn pull(args: PullArgs) -> Result<(), CliError> {
    let sources = sources(&args)?;
    let hub = HubEnvironment::of_process()?;
    let work = tokio::task::spawn_blocking(move || sources.iter().try_for_each(|source| one(source, &hub)));
    work.await
        .map_err(|e| CliError::Failed(format!("the download ended: {e}")))?
}

/// What is to be fetched, each once.
fn sources(args: &PullArgs) -> Result<Vec<Source>, CliError> {
    let mut sources: Vec<Source> = Vec::new();
    for text in &args.source {
        let source: Result<Source, _> = text.parse();
        let source = source.map_err(|refusal| CliError::Usage(format!("the source \"{text}\" {refusal}")))?;
        if !matches!(source, Source::Hub { .. }) {
            return Err(CliError::Usage(format!(
                "the source \"{text}\" is no model of the hub: write hf:ORG/NAME[@REVISION][:FILE.gguf]"
            )));
        }
        sources.push(source);
    }
    if let Some(path) = &args.zoo {
        let zoo = Zoo::load(Some(path))?;
        sources.extend(zoo.models.into_iter().map(|model| model.source));
    }
    let mut once = Vec::new();
    for source in sources {
        if !once.contains(&source) {
            once.push(source);
        }
    }
    Ok(once)
}

fn one(source: &Source, hub: &HubEnvironment) -> Result<(), CliError> {
    let live = Live::default();
    let pulled = hub::pull(source, hub, &|event| live.show(&event)).map_err(|error| match error {
        // The name or the environment is wrong; what follows may mend itself.
        PullError::Hub(_)
        | PullError::NotFound { .. }
        | PullError::Lacks { .. }
        | PullError::Offline { .. } => CliError::Usage(error.to_string()),
        other => CliError::Failed(other.to_string()),
    })?;
    live.end();
    emit(&match pulled.fetched_files {
        0 => format!("{source}: all there"),
        files => format!(
            "{source}: fetched {files} files, {}; {} were there",
            bytes_text(pulled.fetched_bytes),
            pulled.had_files
        ),
    });
    Ok(())
}

/// A bar for each file on a terminal, a line for each elsewhere, on standard error.
#[derive(Default)]
struct Live(Mutex<Option<ProgressBar>>);

impl Live {
    fn show(&self, event: &Pulling) {
        let mut bar = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match event {
            Pulling::File { name, bytes } => {
                if std::io::stderr().is_terminal() {
                    let new = ProgressBar::with_draw_target(Some(*bytes), ProgressDrawTarget::stderr());
                    let style = "{wide_msg} {bar:20} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                    // The template is a constant; were it wrong, the plain bar would do.
                    new.set_style(
                        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
                    );
                    new.set_message((*name).to_owned());
                    *bar = Some(new);
                } else {
                    eprintln!("pull: {name}, {}", bytes_text(*bytes));
                }
            }
            Pulling::At(bytes) => {
                if let Some(bar) = bar.as_ref() {
                    bar.set_position(*bytes);
                }
            }
            Pulling::Checked { .. } => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }
}
