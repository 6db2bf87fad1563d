//! Golden streams: what a client sees, event by event.

use serde_json::json;

use super::*;
use crate::engine::{EngineError, Logprobs, TokenLogprob};
use crate::server::desk::Summary;
use crate::server::wire::{EnergyObject, Extension, Heading, Shape, Timing, Usage};
use crate::units::{RequestId, TokenId};

fn summary() -> Box<Summary> {
    let energy = EnergyObject {
        joules: 0.5,
        prefill_joules: 0.1,
        decode_joules: 0.4,
        exploration_joules: 0.0,
        source: "modelled".into(),
        is_final: true,
    };
    Box::new(Summary {
        usage: Usage {
            prompt_tokens: 3,
            cached_tokens: 1,
            completion_tokens: 2,
        },
        extension: Extension {
            request_id: RequestId(1).to_string(),
            model: "small".into(),
            policy: "named".into(),
            decision: None,
            satisfied: None,
            energy,
            timing: Timing {
                queue_ms: 0.0,
                route_ms: 0.0,
                first_token_ms: 1.0,
                engine_ms: 1.5,
                total_ms: 2.0,
            },
        },
    })
}

fn told(
    shape: Shape,
    choices: usize,
    include_usage: bool,
    logprobs: bool,
    pieces: Vec<Piece>,
) -> Vec<String> {
    let heading = Heading {
        created: 1_700_000_000,
        ..Heading::new(shape, RequestId(1), "small", false)
    };
    let mut teller = ChunkTeller::new(Chunks::new(heading, choices, include_usage, logprobs), choices);
    pieces.into_iter().for_each(|piece| teller.take(piece));
    assert!(teller.over, "every stream ends");
    teller.ready.into()
}

fn text(choice: usize, text: &str) -> Piece {
    Piece::Text {
        choice,
        text: text.into(),
        logprobs: vec![],
    }
}

fn done(choice: usize) -> Piece {
    Piece::Done {
        choice,
        finish: FinishReason::Stop,
        stopped_by: None,
    }
}

const HEAD: &str = r#"{"id":"chatcmpl-0000000000000001","object":"chat.completion.chunk","created":1700000000,"model":"small","system_fingerprint":"FP","choices":"#;
const EXTENSION: &str = r#""messplus":{"request_id":"req_0000000000000001","model":"small","policy":"named","energy":{"joules":0.5,"prefill_joules":0.1,"decode_joules":0.4,"exploration_joules":0.0,"source":"modelled","final":true},"timing":{"queue_ms":0.0,"route_ms":0.0,"first_token_ms":1.0,"engine_ms":1.5,"total_ms":2.0}}"#;

fn head() -> String {
    HEAD.replace("FP", concat!("messplus-", env!("CARGO_PKG_VERSION")))
}

#[test]
fn a_chat_stream() {
    let events = told(
        Shape::Chat,
        1,
        false,
        false,
        vec![
            text(0, "4"),
            text(0, ""),
            text(0, "2"),
            done(0),
            Piece::Finished(summary()),
        ],
    );
    let choice = |delta: &str, finish: &str| {
        format!(
            r#"{}[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]"#,
            head()
        )
    };
    assert_eq!(
        events,
        [
            choice(r#"{"role":"assistant","content":"","refusal":null}"#, "null") + "}",
            choice(r#"{"content":"4"}"#, "null") + "}",
            choice(r#"{"content":"2"}"#, "null") + "}",
            choice("{}", r#""stop""#) + "," + EXTENSION + "}",
            "[DONE]".to_owned(),
        ]
    );
}

#[test]
fn with_usage_every_chunk_has_the_key_and_the_last_the_numbers() {
    let events = told(
        Shape::Chat,
        1,
        true,
        false,
        vec![text(0, "4"), done(0), Piece::Finished(summary())],
    );
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let (last, before) = chunks.split_last().unwrap();
    assert!(
        before
            .iter()
            .all(|chunk| chunk.get("usage") == Some(&Value::Null))
    );
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    );
    assert_eq!(last["messplus"]["energy"]["joules"], 0.5);
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[test]
fn of_several_choices_the_last_to_end_carries_the_joules() {
    let pieces = vec![
        text(1, "b"),
        done(1),
        text(0, "a"),
        done(0),
        Piece::Finished(summary()),
    ];
    let events = told(Shape::Chat, 2, false, false, pieces);
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let with_joules: Vec<_> = chunks
        .iter()
        .filter(|chunk| chunk.get("messplus").is_some())
        .collect();
    assert_eq!(with_joules.len(), 1);
    assert_eq!(with_joules[0]["choices"][0]["index"], 0);
    for index in [0, 1] {
        let of_choice = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index);
        let roles = of_choice
            .clone()
            .filter(|choice| choice["delta"].get("role").is_some())
            .count();
        let ends = of_choice
            .filter(|choice| !choice["finish_reason"].is_null())
            .count();
        assert_eq!((roles, ends), (1, 1));
    }
}

#[test]
fn an_empty_answer_still_has_a_role() {
    let events = told(
        Shape::Chat,
        1,
        false,
        false,
        vec![done(0), Piece::Finished(summary())],
    );
    assert!(events[0].contains(r#""role":"assistant""#));
    assert_eq!(events.len(), 3);
}

#[test]
fn a_completion_stream_has_no_role_and_running_offsets() {
    let token = |text: &str| Logprobs {
        chosen: TokenLogprob {
            token: TokenId(1),
            text: text.into(),
            bytes: text.into(),
            logprob: -0.5,
        },
        top: vec![TokenLogprob {
            token: TokenId(2),
            text: "x".into(),
            bytes: vec![120],
            logprob: f32::NEG_INFINITY,
        }],
    };
    let piece = |text: &str| Piece::Text {
        choice: 0,
        text: text.into(),
        logprobs: vec![token(text)],
    };
    let events = told(
        Shape::Text,
        1,
        false,
        true,
        vec![piece("ab"), piece("c"), done(0), Piece::Finished(summary())],
    );
    let second: Value = serde_json::from_str(&events[1]).unwrap();
    assert_eq!(second["id"], "cmpl-0000000000000001");
    assert_eq!(second["object"], "text_completion");
    assert_eq!(
        second["choices"][0],
        json!({"text": "c", "index": 0, "finish_reason": null, "logprobs": {
            "tokens": ["c"], "token_logprobs": [-0.5],
            "top_logprobs": [{"x": -9999.0, "c": -0.5}], "text_offset": [2],
        }})
    );
}

#[test]
fn a_failure_in_mid_stream_is_an_error_object_and_an_end() {
    let error = EngineError::Step {
        model: "small".into(),
        reason: "boom".into(),
    };
    let events = told(
        Shape::Chat,
        1,
        true,
        false,
        vec![text(0, "4"), Piece::Failed(error.into())],
    );
    let [.., failed, end] = events.as_slice() else {
        panic!("two events at least")
    };
    let failed: Value = serde_json::from_str(failed).unwrap();
    assert_eq!(failed["error"]["type"], "server_error");
    assert!(failed["error"]["message"].as_str().unwrap().contains("boom"));
    assert_eq!(end, DONE);
}
