//! The command line: one file a verb. Exit status 0 is done, 1 failed, 2 wrong usage or a bad file; an error is one
//! sentence on standard error.

mod args;
mod check;
#[cfg(any(test, feature = "cuda"))]
mod gpu_check;
mod house;
mod load;
mod profile;
mod pull;
mod replay;
mod run;
mod serve;
mod signals;
mod table;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Model, Zoo};
use crate::hub::{self, HubError, Located};

#[cfg(any(test, feature = "cuda"))]
pub use args::GpuCheckArgs;
pub use args::{
    CheckArgs, Features, FeedbackBy, LoadArgs, LogFormat, ProfileArgs, PullArgs, ReplayArgs, RunArgs,
    ServeArgs,
};
pub use check::{DeviceNeed, Place, Plan, meter_settings};
pub use table::{Align, emit, table};

const EXAMPLES: &str = "\
Examples:
  messplus serve                       the built-in demo zoo on http://127.0.0.1:8080
  messplus pull --zoo zoo.toml         fetches its models
  messplus check --zoo zoo.toml        is the file right, and does it fit?
  messplus run 'What is 17 + 25?'      one answer, and what it cost
  messplus load --requests 500         drive a running server with the demo questions
  messplus profile --out profiled      joules, watts and speed of every model, with plots and a report
  messplus replay --trace a.csv --out r  recorded requests through the router, beside what it should beat

RUST_LOG says what is logged to standard error, say RUST_LOG=messplus=debug, and MESSPLUS_LOG_FORMAT or --log-format how.";

/// Serves a zoo of open-weight models, measures the joules of every request and routes each to the cheapest model
/// that keeps the promised share of answers satisfying.
#[derive(Debug, Parser)]
#[command(name = "messplus", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How log lines are written to standard error
    #[arg(long, global = true, value_name = "FORMAT", value_enum, env = "MESSPLUS_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load the zoo and answer over HTTP
    Serve(ServeArgs),
    /// Answer one prompt on standard output
    Run(RunArgs),
    /// Fetch models from the Hugging Face Hub into its standard cache
    Pull(PullArgs),
    /// Check a zoo file and say where everything would sit, loading nothing
    Check(CheckArgs),
    /// Drive a running server with the demo questions and measure it
    Load(LoadArgs),
    /// Measure the energy of every model by batch size and length, with plots and a report
    Profile(ProfileArgs),
    /// Replay recorded requests through the router and compare policies
    Replay(ReplayArgs),
    /// Check and measure everything that runs on a GPU
    #[cfg(any(test, feature = "cuda"))]
    #[command(hide = true)]
    GpuCheck(GpuCheckArgs),
}

/// Why a verb ended badly.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Wrong usage or a bad file: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// Anything else: exit status 1.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<HubError> for CliError {
    fn from(error: HubError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Runs the verb of a command line.
pub async fn execute(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Serve(args) => serve::serve(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Pull(args) => pull::pull(args).await,
        Command::Check(args) => check::check(args),
        Command::Load(args) => load::load(args).await,
        Command::Profile(args) => profile::profile(args).await,
        Command::Replay(args) => replay::replay(&args),
        #[cfg(any(test, feature = "cuda"))]
        Command::GpuCheck(args) => gpu_check::gpu_check(args).await,
    }
}

/// Finds the files of a model of the zoo; an error names the zoo file's line.
pub fn locate(zoo: &Zoo, model: &Model) -> Result<Located, CliError> {
    hub::locate(&model.source).map_err(|error| not_located(zoo, model, error))
}

fn not_located(zoo: &Zoo, model: &Model, error: HubError) -> CliError {
    let (origin, line, name) = (&zoo.origin, model.line, &model.name);
    CliError::Usage(format!(
        "{origin}:{line}: the `model.source` of '{name}': {error}"
    ))
}

/// What the parser of the command line found wrong, as one sentence.
pub fn usage_sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut parts = text
        .split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let first = parts.next().unwrap_or_default();
    let problem = first
        .strip_prefix("error: ")
        .unwrap_or("a verb is missing: serve, run, pull, check, profile, load or replay");
    let tip = parts
        .find_map(|part| part.strip_prefix("tip: ").map(|tip| format!("; {tip}")))
        .unwrap_or_default();
    format!(
        "{}{tip}: see `messplus --help`",
        problem.trim_end_matches([':', '.'])
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
        for verb in Cli::command().get_subcommands_mut() {
            let help = verb.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{help}");
        }
    }

    #[test]
    fn wrong_usage_is_one_sentence() {
        for (line, words) in [
            ("messplus", "a verb is missing"),
            ("messplus srve", "unrecognized subcommand 'srve'"),
            ("messplus serve --zo x", "unexpected argument '--zo'"),
            ("messplus serve extra", "unexpected argument 'extra'"),
            ("messplus load --requests many", "invalid value 'many'"),
            ("messplus load --requests 0", "0"),
            ("messplus profile", "--out"),
            ("messplus profile --out x --repeat 2", "--repeat"),
            ("messplus profile --out x --batch 0", "--batch"),
            ("messplus load --rate nan", "--rate"),
            ("messplus load --rate 0", "--rate"),
            ("messplus load --feedback-by nobody", "nobody"),
            ("messplus run --temperature -1 x", "temperature"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            let said = usage_sentence(&error);
            assert!(said.contains(words) && !said.contains('\n'), "{line}: {said}");
            assert!(said.ends_with("see `messplus --help`"), "{said}");
        }
    }

    #[test]
    fn a_model_that_is_not_there_is_named_with_its_line() {
        let text = "# mine\n[[model]]\nname = \"a\"\nsource = \"path:nowhere\"\n";
        let zoo = Zoo::parse("zoo.toml", text, std::path::Path::new("/none")).unwrap();
        let error = locate(&zoo, &zoo.models[0]).unwrap_err();
        assert_eq!(error.status(), 2);
        let said = error.to_string();
        assert!(
            said.starts_with("zoo.toml:2: the `model.source` of 'a': /none/nowhere is not there"),
            "{said}"
        );
    }
}
