//! What each verb takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::replay::Alphas;

/// `messplus serve`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  messplus serve
  messplus serve --zoo zoo.toml --listen 127.0.0.1:9000
  curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"model\": \"auto\", \"messages\": [{\"role\": \"user\", \"content\": \"What is 17 + 25?\"}]}'")]
pub struct ServeArgs {
    /// The zoo file; without it the demo zoo built into the binary is served
    #[arg(long, value_name = "FILE")]
    pub zoo: Option<PathBuf>,
    /// Where to listen, instead of what the zoo file says
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Where decisions, joules and feedback are kept; the default is a folder in the working directory
    #[arg(long, value_name = "DIR", default_value = "messplus-data")]
    pub data_dir: PathBuf,
}

/// `messplus run`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  messplus run 'What is 17 + 25?'
  echo 'Spell the word river.' | messplus run
  messplus run --zoo zoo.toml --model qwen2.5-0.5b --max-tokens 200 --temperature 0.7 --seed 1 'Tell me a story.'")]
pub struct RunArgs {
    /// What to ask; without it, or with '-', standard input is read
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,
    /// The zoo file; without it the demo zoo built into the binary answers
    #[arg(long, value_name = "FILE")]
    pub zoo: Option<PathBuf>,
    /// Who is to answer: a model's name, or auto, or auto:SLA
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub model: String,
    /// The most tokens to generate; without it, as many as the context leaves
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// 0 is greedy; without it, what the model's own settings say
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    pub temperature: Option<f32>,
    /// Makes sampling repeatable
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// `messplus check`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  messplus check
  messplus check --zoo zoo.toml
  messplus check --zoo zoo.toml --json

A well-known model that has not been fetched is planned by its published shape and labelled so; what then does not fit is
said, and is no failure: another machine may be meant.")]
pub struct CheckArgs {
    /// The zoo file; without it the demo zoo built into the binary is checked
    #[arg(long, value_name = "FILE")]
    pub zoo: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

/// `messplus pull`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Fetches models into the standard Hugging Face cache, where Python's libraries find them too. What is there already is not
fetched again, what broke off goes on, and every file is checked against the hub's size and hash.

HF_HOME or HF_HUB_CACHE say where the cache is, HF_TOKEN opens private and gated models, HF_ENDPOINT names another hub,
HF_HUB_OFFLINE=1 forbids the network.

Examples:
  messplus pull --zoo zoo.toml
  messplus pull hf:Qwen/Qwen2.5-0.5B-Instruct
  messplus pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF@main:qwen2.5-0.5b-instruct-q8_0.gguf")]
pub struct PullArgs {
    /// Models to fetch: hf:ORG/NAME[@REVISION][:FILE.gguf]
    #[arg(value_name = "SOURCE", required_unless_present = "zoo")]
    pub source: Vec<String>,
    /// Fetch every model of this zoo file
    #[arg(long, value_name = "FILE")]
    pub zoo: Option<PathBuf>,
}

/// `messplus load`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  messplus load
  messplus load --url http://127.0.0.1:9000 --requests 500 --concurrency 16
  messplus load --rate 20 --feedback-by client
  messplus load --model demo-large --requests 200 --json")]
pub struct LoadArgs {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Questions to send
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = at_least_one)]
    pub requests: usize,
    /// Requests in flight at most
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub concurrency: usize,
    /// Requests a second, at random moments; without it the next is sent as soon as one is answered
    #[arg(long, value_name = "PER_SECOND", allow_negative_numbers = true, value_parser = rate)]
    pub rate: Option<f64>,
    /// The promise to be answered under
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub sla: String,
    /// Who is to answer: auto, or a model's name
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub model: String,
    /// Decides the order of the questions and the random moments
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Questions sent again to the dearest model, to compare with; 0 sends none
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub baseline_sample: usize,
    /// Who judges the answers: the server by the reference sent along, or this client by POST /v1/feedback
    #[arg(long, value_name = "WHO", value_enum, default_value_t = FeedbackBy::Server)]
    pub feedback_by: FeedbackBy,
    /// The most tokens of an answer; without it, as many as the context leaves
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: Option<u32>,
    /// The key of a server that asks for one
    #[arg(long, value_name = "KEY", env = "MESSPLUS_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Seconds after which an answer is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `messplus profile`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Measures every model of the zoo at every batch size, prompt and answer length: joules of a request, of a prompt token
and of a generated token, watts, tokens per second and latency, each as mean and 95 % interval. A setting is repeated
until the interval of its joules is within 5 % of the mean, or --repeat times. The folder then holds profile.csv,
profile.json, SVG plots and report.html, which needs no network.

Interrupted, it keeps what it has: the same command goes on from there.

Examples:
  messplus profile --out profiled
  messplus profile --zoo zoo.toml --batch 1,8,64 --prompt-tokens 128,1024 --output-tokens 128 --out profiled
  messplus profile --model demo-large --batch 1,2,4,8,16,32 --out batches
  messplus profile --out after --baseline before")]
pub struct ProfileArgs {
    /// The zoo file; without it the demo zoo built into the binary is measured
    #[arg(long, value_name = "FILE")]
    pub zoo: Option<PathBuf>,
    /// Only these models
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub model: Vec<String>,
    /// Requests sent at the same moment
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,4,16", value_parser = at_least_one)]
    pub batch: Vec<usize>,
    /// Tokens of a prompt
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "32,128", value_parser = at_least_one)]
    pub prompt_tokens: Vec<usize>,
    /// Tokens of an answer
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "32", value_parser = at_least_one)]
    pub output_tokens: Vec<usize>,
    /// Repeats of a setting at most; at least 3 are made
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..))]
    pub repeat: u32,
    /// A folder of an earlier run to compare with
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// Start over, whatever the folder holds
    #[arg(long)]
    pub fresh: bool,
    /// Where the results go
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `messplus replay`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A trace is CSV, one row a request: benchmark_name, input_text and for each model X label_X (0 to 1, empty: unknown) and
energy_consumption_X (joules). Read if there: category, prompt_tokens, output_tokens_X, confidence_X. Models are put in
rising mean joules. `GET /v1/requests?format=csv` of a server gives its own log in these columns.

Policies: paper, mess-plus, mess-plus-no-context, random, fixed:MODEL, educated, static-mix, static-mix-category,
oracle, logistic, cascade, threshold, epsilon-greedy, thompson (or bandit), ucb. Each single model, random, educated,
static-mix, oracle, thompson, ucb and paper are always there unless --only is given.

Without --alpha a benchmark's promise is halfway between the share of satisfied answers of its cheapest model and that
of its best one, in whole percent.

Examples:
  messplus replay --trace captures/ --out replayed
  messplus replay --trace captures/ --policy mess-plus --alpha boolq=0.8,logiqa=0.4 --seeds 40 --out replayed
  messplus replay --trace log.csv --alpha 0.7,0.75,0.8 --feedback-delay 128 --feedback-share 0.5 --out replayed
  messplus replay --trace captures/ --mixed --swap-at 3000:small,medium --out replayed")]
pub struct ReplayArgs {
    /// Trace files, or folders of them
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub trace: Vec<PathBuf>,
    /// Policies to play; without it, all
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub policy: Vec<String>,
    /// Play what --policy names and no reference beside it
    #[arg(long, requires = "policy")]
    pub only: bool,
    /// The promised share of satisfied answers, of all benchmarks or by benchmark; several give several runs
    #[arg(long, value_name = "X or BENCHMARK=X")]
    pub alpha: Option<Alphas>,
    /// Runs of each policy, each with another order of requests
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    pub seeds: usize,
    /// The first run's seed; the next ones count up from it
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Requests decided between an answer and its judgement
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub feedback_delay: usize,
    /// Share of requests whose answers are judged at all
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = share)]
    pub feedback_share: f64,
    /// Requests in flight at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub concurrency: usize,
    /// Only these models of the trace
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub models: Vec<String>,
    /// What routers see of a request: nothing, or hashed words of its text
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Features::Ngrams)]
    pub features: Features,
    /// All benchmarks as one shuffled stream, called mixed
    #[arg(long, conflicts_with = "chain")]
    pub mixed: bool,
    /// The benchmarks one after another as recorded, unshuffled, called chain
    #[arg(long)]
    pub chain: bool,
    /// At most so many requests of each stream
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<usize>,
    /// From request N on two models have exchanged their qualities; without names, the two cheapest
    #[arg(long, value_name = "N[:A,B]")]
    pub swap_at: Option<String>,
    /// From request N on X is promised; may be given several times
    #[arg(long, value_name = "N:X")]
    pub alpha_at: Vec<String>,
    /// The folder for replay.json, replay.csv and the plots
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `messplus gpu-check`
#[cfg(any(test, feature = "cuda"))]
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Models have random weights in published shapes, so nothing is fetched; their answers mean nothing. scripts/gpu-check finds the
CUDA libraries first and runs transformers beside it.

Examples:
  messplus gpu-check
  messplus gpu-check --minutes 6 --json gpu.json --peer peer.json")]
pub struct GpuCheckArgs {
    /// Which GPU, as CUDA counts them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub device: usize,
    /// Parts that would take longer than this in all are cut
    #[arg(long, value_name = "X", default_value_t = 8.0)]
    pub minutes: f64,
    /// Where to write all figures
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What transformers reached in the same run
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What routers see of a recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Features {
    None,
    Ngrams,
}

/// Who judges the answers of a load run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FeedbackBy {
    Server,
    Client,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=100_000_000).contains(n))
        .ok_or("write a whole number from 1".into())
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|r| (1e-3..=1e6).contains(r))
        .ok_or("write a number from 0.001 to 1000000".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|s| (0.0..=1.0).contains(s))
        .ok_or("write a share from 0 to 1".into())
}

fn temperature(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|t| (0.0..=2.0).contains(t))
        .ok_or("write a number from 0 to 2".into())
}
