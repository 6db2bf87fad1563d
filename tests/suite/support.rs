//! The demo zoo for tests, and a sink that remembers steps.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use messplus::energy::StepRecord;
use messplus::engine::{
    ChatMessage, Compute, Engine, EngineSettings, Event, HostSpec, Job, JobStream, ModelSource, Outcome,
    Precision, StepSink,
};
use messplus::units::{Clock, DeviceId, ModelId, Moment, TokenId};

pub const MODELS: [&str; 3] = ["small", "medium", "large"];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub fn demo(model: &str) -> ModelSource {
    ModelSource::Folder(root().join("models/demo").join(model))
}

/// Remembers every step.
#[derive(Default)]
pub struct Steps(pub Mutex<Vec<StepRecord>>);

impl StepSink for Steps {
    fn begin_step(&self, _: DeviceId, _: Moment) {}

    fn record(&self, step: StepRecord) {
        self.0.lock().unwrap().push(step);
    }
}

/// An engine with the demo zoo.
pub fn engine(settings: EngineSettings) -> (Engine, Arc<Steps>) {
    engine_with_kv(settings, 32 << 20)
}

/// The same with `kv_bytes` a model for keys and values.
pub fn engine_with_kv(settings: EngineSettings, kv_bytes: u64) -> (Engine, Arc<Steps>) {
    let spec = |name: &str| HostSpec {
        name: name.to_owned(),
        source: demo(name),
        compute: Compute::Cpu,
        precision: Precision::Auto,
        max_context: None,
        kv_bytes,
    };
    let steps = Arc::new(Steps::default());
    let engine = Engine::start(&MODELS.map(spec), settings, Clock::start(), steps.clone()).unwrap();
    (engine, steps)
}

pub fn question(engine: &Engine, model: ModelId, text: &str) -> Vec<TokenId> {
    let message = ChatMessage::new("user", text);
    engine.chat_prompt(model, &[message]).unwrap()
}

/// The questions of the demo zoo and their answers.
pub fn questions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("models/demo/questions.jsonl")).unwrap();
    let field = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|line| (field(&line, "question"), field(&line, "reference")))
        .collect()
}

/// Waits for a job's end.
pub fn collect(stream: &mut JobStream) -> Result<(String, Outcome), messplus::engine::EngineError> {
    let mut answer = String::new();
    loop {
        match stream.blocking_recv().expect("a stream ends with Done or Failed") {
            Event::Text { text, .. } => answer.push_str(&text),
            Event::Done(outcome) => return Ok((answer, outcome)),
            Event::Failed(error) => return Err(error),
        }
    }
}

pub fn answer(engine: &Engine, job: Job) -> String {
    collect(&mut engine.submit(job).unwrap()).unwrap().0
}
