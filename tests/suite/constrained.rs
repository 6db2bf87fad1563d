//! Answers that must be of a form are of that form, whatever the model would rather say.

use serde_json::{Value, json};

use messplus::energy::Account;
use messplus::engine::{Constraint, Engine, EngineError, EngineSettings, FinishReason, Job, Sampling};
use messplus::units::{ModelId, RequestId};

use crate::server::{Server, ask};
use crate::support::{collect, engine, engine_with_kv, question, questions};

fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["name", "tags", "inner"],
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3},
            "inner": {"type": "object", "additionalProperties": false, "required": ["n"],
                      "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}},
        }
    })
}

fn check_schema(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(value["name"].as_str().unwrap().chars().count() <= 8, "{text}");
    let tags = value["tags"].as_array().unwrap();
    assert!((1..=3).contains(&tags.len()), "{text}");
    assert!(tags.iter().all(|t| t == "red" || t == "green"), "{text}");
    assert!(
        (0..=99).contains(&value["inner"]["n"].as_i64().unwrap()),
        "{text}"
    );
    assert_eq!(value.as_object().unwrap().len(), 3, "{text}");
}

fn check_time(text: &str) {
    let (hours, minutes) = text.split_once(':').unwrap_or_else(|| panic!("{text}"));
    assert!(hours.len() == 2 && hours.parse::<u8>().unwrap() < 20, "{text}");
    assert!(
        minutes.len() == 2 && minutes.parse::<u8>().unwrap() < 60,
        "{text}"
    );
}

/// Jobs of all three models, constrained and free by turns.
fn jobs(engine: &Engine, count: usize) -> Vec<Job> {
    let questions = questions();
    (0..count)
        .map(|i| Job {
            account: Account::Request(RequestId::fresh()),
            model: ModelId((i % 3) as u16),
            prompt: question(engine, ModelId((i % 3) as u16), &questions[i].0),
            max_tokens: 180,
            sampling: Sampling {
                temperature: if i % 5 == 0 { 0.0 } else { 1.5 },
                seed: i as u64,
                ..Sampling::default()
            },
            stop: Vec::new(),
            logprobs: (i % 7 == 0).then_some(5),
            constraint: match i % 4 {
                0 | 1 => Some(Constraint::JsonSchema(schema())),
                2 => Some(Constraint::Regex("[01][0-9]:[0-5][0-9]".to_owned())),
                _ => None,
            },
        })
        .collect()
}

#[test]
fn finished_answers_keep_their_form_in_a_mixed_batch_and_under_preemption() {
    const COUNT: usize = 48;
    let (roomy, _) = engine(EngineSettings::default());
    let most = roomy
        .models()
        .iter()
        .map(|m| m.kv_bytes_per_token * m.max_context as u64)
        .max()
        .unwrap();
    let (scarce, steps) = engine_with_kv(EngineSettings::default(), (most + most / 4) / 3);
    let mut answers: Vec<Vec<String>> = Vec::new();
    for engine in [&roomy, &scarce] {
        let jobs = jobs(engine, COUNT);
        let streams: Vec<_> = jobs.into_iter().map(|job| engine.submit(job).unwrap()).collect();
        let mut finished = 0;
        let mut texts = Vec::new();
        for (i, mut stream) in streams.into_iter().enumerate() {
            let (text, outcome) = collect(&mut stream).unwrap();
            if outcome.finish == FinishReason::Stop {
                match i % 4 {
                    0 | 1 => check_schema(&text),
                    2 => check_time(&text),
                    _ => {}
                }
                finished += usize::from(i % 4 != 3);
            }
            texts.push(text);
        }
        assert!(finished > COUNT / 2, "only {finished} answers came to an end");
        answers.push(texts);
    }
    assert_eq!(answers[0], answers[1], "scarce pages changed an answer");
    let prompts: usize = jobs(&scarce, COUNT).iter().map(|job| job.prompt.len()).sum();
    let steps = steps.0.lock().unwrap();
    let prefilled: u32 = steps.iter().flat_map(|s| &s.rows).map(|r| r.prefill_tokens).sum();
    assert!(prefilled as usize > prompts, "nothing was ever preempted");
}

#[test]
fn a_constraint_that_cannot_be_kept_is_refused_before_the_queue() {
    let (engine, _) = engine(EngineSettings {
        max_queue: 0,
        ..EngineSettings::default()
    });
    let mut job = jobs(&engine, 1).remove(0);
    job.constraint = Some(Constraint::JsonSchema(json!({"type": "strnig"})));
    assert!(matches!(engine.check(&job), Err(EngineError::Constraint { .. })));
    assert!(matches!(engine.submit(job), Err(EngineError::Constraint { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn response_format_works_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let with = |mut body: Value, format: Value| {
        body["response_format"] = format;
        body["temperature"] = 1.5.into();
        body["seed"] = 4.into();
        body
    };
    let named =
        json!({"type": "json_schema", "json_schema": {"name": "it", "strict": true, "schema": schema()}});
    for model in ["auto", "demo-small", "demo-large"] {
        let answer = server
            .chat(with(ask(model, "What is 2 + 3?"), named.clone()))
            .await;
        let choice = &answer["choices"][0];
        if choice["finish_reason"] == "stop" {
            check_schema(choice["message"]["content"].as_str().unwrap());
        } else {
            assert_eq!(choice["finish_reason"], "length");
        }
    }
    let time = json!({"type": "regex", "pattern": "[01][0-9]:[0-5][0-9]"});
    let answer = server.chat(with(ask("auto", "When?"), time.clone())).await;
    check_time(answer["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let body = with(json!({"model": "demo-small", "prompt": "At "}), time);
    let (status, answer) = server.post("/v1/completions", &body).await;
    assert_eq!(status, 200, "{answer}");
    check_time(answer["choices"][0]["text"].as_str().unwrap());
    let object = with(ask("demo-medium", "Hello"), json!({"type": "json_object"}));
    let answer = server.chat(object).await;
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.starts_with('{'), "{content}");

    let wrong = json!({"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "strnig"}}});
    let (status, answer) = server
        .post("/v1/chat/completions", &with(ask("auto", "Hi"), wrong))
        .await;
    assert_eq!(status, 400);
    assert_eq!(answer["error"]["param"], "response_format");
}
