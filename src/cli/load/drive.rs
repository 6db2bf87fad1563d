//! Sends the questions, so many at once and at such moments as the run says, and hears the answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{CallError, Client};
use super::live::Live;
use super::numbers::Random;
use super::questions::Question;
use super::settle::spent;
use super::tally::{Answer, Tally};

/// A server that restarts is waited for this long.
const PATIENCE_WITH_ABSENCE: Duration = Duration::from_secs(10);
/// A worker that found nobody tries its next question after this long.
const PAUSE_AFTER_ABSENCE: Duration = Duration::from_millis(250);

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct Run {
    pub model: String,
    /// The promise, where the router chooses.
    pub sla: Option<String>,
    pub judge: Judge,
    pub max_tokens: Option<u32>,
    pub requests: usize,
    pub concurrency: usize,
    pub arrivals: Arrivals,
}

/// Who tells the router whether an answer satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The server, by the reference sent along.
    Server,
    /// This client, by a feedback for each answer.
    Client,
    Nobody,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// The next as soon as one is answered.
    OneAfterAnother,
    /// Independently of each other, so many a second in the mean.
    Poisson { rate: f64, seed: u64 },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was sent.
    Whole,
    /// Somebody stopped it.
    Stopped,
    /// Nobody answered any more.
    ServerGone(String),
}

impl Ended {
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// What every worker knows.
struct Job {
    client: Arc<Client>,
    questions: Arc<Vec<Question>>,
    run: Run,
    next: AtomicUsize,
    /// When each request is due; empty when one follows another.
    due: Vec<Instant>,
}

/// Runs until everything is sent, `stop` ends, or the server is gone; fills the tally as answers come.
pub async fn drive(
    client: &Arc<Client>,
    run: &Run,
    questions: &Arc<Vec<Question>>,
    tally: &mut Tally,
    live: &mut Live,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Ended {
    let job = Arc::new(Job {
        client: client.clone(),
        questions: questions.clone(),
        run: run.clone(),
        next: AtomicUsize::new(0),
        due: due(run),
    });
    let (sender, mut results) = mpsc::channel(run.concurrency);
    // Dropping the set ends the workers, and with their connections the server's work for them.
    let mut workers = JoinSet::new();
    for _ in 0..run.concurrency.min(run.requests) {
        workers.spawn(work(job.clone(), sender.clone()));
    }
    drop(sender);
    let mut absent_since: Option<Instant> = None;
    loop {
        let result = tokio::select! {
            result = results.recv() => result,
            () = stop.as_mut() => return Ended::Stopped,
        };
        match result {
            None => return Ended::Whole,
            Some(Ok(answer)) => {
                absent_since = None;
                tally.answer(answer);
            }
            Some(Err(error)) => {
                tally.error(error.to_string());
                match error {
                    CallError::Unreachable(why) => {
                        let since = *absent_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= PATIENCE_WITH_ABSENCE {
                            return Ended::ServerGone(why);
                        }
                    }
                    _ => absent_since = None,
                }
            }
        }
        live.show(tally);
    }
}

/// The moments of arrival, all drawn beforehand so that a seed repeats them whatever the server does.
fn due(run: &Run) -> Vec<Instant> {
    let Arrivals::Poisson { rate, seed } = run.arrivals else {
        return Vec::new();
    };
    let mut random = Random::new(seed ^ 0x5eed);
    let mut at = Instant::now();
    (0..run.requests)
        .map(|_| {
            at += Duration::from_secs_f64(random.exponential() / rate);
            at
        })
        .collect()
}

async fn work(job: Arc<Job>, results: mpsc::Sender<Result<Answer, CallError>>) {
    loop {
        let index = job.next.fetch_add(1, Ordering::Relaxed);
        if index >= job.run.requests {
            return;
        }
        // Where arrivals are planned, waiting for a free worker counts as waiting for the answer.
        let start = match job.due.get(index) {
            Some(due) => {
                sleep_until(*due).await;
                *due
            }
            None => Instant::now(),
        };
        let result = ask(&job, &job.questions[index % job.questions.len()], start).await;
        let absent = matches!(result, Err(CallError::Unreachable(_)));
        if results.send(result).await.is_err() {
            return;
        }
        if absent {
            sleep(PAUSE_AFTER_ABSENCE).await;
        }
    }
}

async fn ask(job: &Job, question: &Question, start: Instant) -> Result<Answer, CallError> {
    let reply = job.client.chat(&body(&job.run, question)).await?;
    let latency_ms = start.elapsed().as_secs_f64() * 1e3;
    let text = reply["choices"][0]["message"]["content"].as_str();
    let text = text.ok_or_else(|| CallError::Strange("no choices[0].message.content".into()))?;
    let answer = read(&reply, question.is_answered_by(text), latency_ms);
    if job.run.judge == Judge::Client {
        let id = answer.request_id.as_deref();
        let id =
            id.ok_or_else(|| CallError::Strange("no messplus.request_id to send feedback for".into()))?;
        job.client.feedback(id, answer.satisfied).await?;
    }
    Ok(answer)
}

/// The request for a question.
fn body(run: &Run, question: &Question) -> Value {
    let mut extension = json!({});
    if let Some(sla) = &run.sla {
        extension["sla"] = json!(sla);
    }
    if run.judge == Judge::Server {
        extension["reference"] = json!(question.reference);
        extension["match"] = json!("exact");
    }
    let mut body = json!({
        "model": run.model,
        "messages": [{"role": "user", "content": question.question}],
        "temperature": 0,
        "messplus": extension,
    });
    if let Some(most) = run.max_tokens {
        body["max_tokens"] = json!(most);
    }
    body
}

/// What a reply says beside the text.
fn read(reply: &Value, satisfied: bool, latency_ms: f64) -> Answer {
    let said = &reply["messplus"];
    let word = |value: &Value| value.as_str().map(str::to_string);
    let expected = said["expected_joules"].as_object();
    Answer {
        request_id: word(&said["request_id"]),
        model: word(&said["model"])
            .or_else(|| word(&reply["model"]))
            .unwrap_or_else(|| "unnamed".into()),
        satisfied,
        explored: said["explored"].as_bool().unwrap_or(false),
        alpha: said["alpha"].as_f64(),
        latency_ms,
        energy: spent(reply),
        expected_joules: expected
            .map(|map| {
                map.iter()
                    .filter_map(|(name, j)| Some((name.clone(), j.as_f64()?)))
                    .collect()
            })
            .unwrap_or_default(),
    }
}
