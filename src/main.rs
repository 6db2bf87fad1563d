//! The command `messplus`: reads the command line, runs one verb, turns its end into an exit status.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use messplus::cli::{self, Cli, CliError, LogFormat};
use tracing_subscriber::EnvFilter;

/// How long the end waits for threads that have not come to one.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return end(CliError::Usage(cli::usage_sentence(&error))),
        // --help and --version; a closed pipe behind them is no failure.
        Err(error) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    log_to_stderr(cli.log_format);
    // A runtime that cannot start its threads is the machine's failure, not the user's.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(CliError::Failed(format!("threads cannot be started ({error})"))),
    };
    let ended = runtime.block_on(cli::execute(cli));
    // What a verb waits for it has waited for; a lane that still loads is not worth waiting for.
    runtime.shutdown_timeout(LAST_PATIENCE);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(error),
    }
}

fn end(error: CliError) -> ExitCode {
    eprintln!("messplus: {error}");
    ExitCode::from(error.status())
}

/// Warnings, and what messplus itself has to say; `RUST_LOG` decides otherwise.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,messplus=info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
}
