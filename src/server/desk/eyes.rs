//! What the router is shown of a text besides its words: a vector that a model or an encoder makes of it, before the
//! choice and on the router's account.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{EngineError, Event, JobStream};
use crate::router::Embedding;
use crate::units::ModelId;

use super::Inner;
use super::plan::{Aim, Plan};

/// How long a request waits for its vector. Past it the words must do: better a poorer choice than a late answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who turns texts into vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Eyes {
    /// Nobody: the words must do.
    #[default]
    Words,
    /// A model of the zoo: the last layer's state of the prompt's last token.
    Hidden { model: ModelId, name: String },
    /// The engine's encoder, by its name.
    Encoder(String),
}

impl Eyes {
    /// The name under which the router knows their vectors.
    pub fn source(&self) -> Option<String> {
        match self {
            Self::Words => None,
            Self::Hidden { name, .. } => Some(format!("hidden:{name}")),
            Self::Encoder(name) => Some(name.clone()),
        }
    }
}

/// The eyes at work.
pub(super) struct Gaze {
    eyes: Eyes,
    source: String,
    embedded: AtomicU64,
    missed: AtomicU64,
}

impl Gaze {
    pub fn new(eyes: Eyes) -> Self {
        Self {
            source: eyes.source().unwrap_or_default(),
            eyes,
            embedded: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// What is seen of texts, and since the start how many came with a vector and how many went without.
    pub fn report(&self) -> Value {
        let source = match &self.eyes {
            Eyes::Words => "ngrams",
            Eyes::Hidden { .. } => "hidden",
            Eyes::Encoder(_) => "modernbert",
        };
        if self.eyes == Eyes::Words {
            return json!({"source": source});
        }
        json!({
            "source": source,
            "embedding": self.source,
            "embedded": self.embedded.load(Relaxed),
            "missed": self.missed.load(Relaxed),
        })
    }
}

impl Inner {
    /// The vector of a request that the router is to decide on; `None` where there is none, whatever the reason.
    pub(super) async fn look(&self, plan: &Plan) -> Option<Embedding> {
        let gaze = &self.gaze;
        if gaze.eyes == Eyes::Words || !matches!(plan.aim, Aim::Routed { .. }) {
            return None;
        }
        let seen = tokio::time::timeout(PATIENCE, self.vector(plan)).await;
        let embedding = match seen {
            Ok(Ok(Some(vector))) => Embedding::of(&gaze.source, &vector),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                tracing::debug!(request = %plan.request, %error, "routed by its words");
                None
            }
            Err(_) => {
                tracing::debug!(request = %plan.request, "no vector in time; routed by its words");
                None
            }
        };
        let count = if embedding.is_some() {
            &gaze.embedded
        } else {
            &gaze.missed
        };
        count.fetch_add(1, Relaxed);
        embedding
    }

    /// Of several prompts, the first one's.
    async fn vector(&self, plan: &Plan) -> Result<Option<Vec<f32>>, EngineError> {
        match &self.gaze.eyes {
            Eyes::Words => Ok(None),
            Eyes::Hidden { model, .. } => {
                let Some(prompt) = plan.prompts(*model).and_then(<[_]>::first) else {
                    return Ok(None);
                };
                hidden(self.engine.read(*model, prompt.clone())?).await
            }
            Eyes::Encoder(_) => Ok(self.engine.encode_text(plan.words.clone())?.await.ok()),
        }
    }
}

async fn hidden(mut stream: JobStream) -> Result<Option<Vec<f32>>, EngineError> {
    while let Some(event) = stream.recv().await {
        match event {
            Event::Text { .. } => {}
            Event::Done(outcome) => return Ok(Some(outcome.hidden)),
            Event::Failed(error) => return Err(error),
        }
    }
    Ok(None)
}
