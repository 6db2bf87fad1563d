//! Whatever an answer says, on every door its stream adds up to what would have been said at once.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::FinishReason;
use crate::units::RequestId;

const REQUEST: RequestId = RequestId(7);

/// What an answer may say, in an order that the desk keeps: arguments follow their call.
#[derive(Clone, Debug)]
enum Said {
    Text(String),
    /// A call with the fragments of its arguments.
    Call(String, Vec<String>),
}

fn answers() -> impl Strategy<Value = (Vec<Said>, FinishReason)> {
    let text = "[a-zé\n]{0,6}".prop_map(Said::Text);
    let call = ("[a-z]{1,4}", any::<i32>(), 1usize..5).prop_map(|(name, number, cut)| {
        let arguments = json!({"n": number}).to_string();
        let (one, other) = arguments.split_at(cut);
        Said::Call(name, vec![one.to_owned(), other.to_owned()])
    });
    let said = prop::collection::vec(prop_oneof![text, call], 0..6);
    let finish = prop_oneof![Just(FinishReason::Stop), Just(FinishReason::Length)];
    (said, finish)
}

fn extension() -> Extension {
    let energy = EnergyObject {
        joules: 0.5,
        prefill_joules: 0.1,
        decode_joules: 0.4,
        exploration_joules: 0.0,
        source: "modelled".into(),
        is_final: true,
    };
    Extension {
        request_id: REQUEST.to_string(),
        model: "m".into(),
        policy: "named".into(),
        decision: None,
        satisfied: None,
        energy,
        timing: Timing {
            queue_ms: 0.0,
            route_ms: 0.0,
            first_token_ms: 0.0,
            engine_ms: 0.0,
            total_ms: 0.0,
        },
    }
}

/// As openai-python adds up deltas: strings are joined, entries of a list are found by their index.
fn add(sum: &mut Value, delta: &Value) {
    match (sum, delta) {
        (Value::String(all), Value::String(more)) => all.push_str(more),
        (Value::Object(all), Value::Object(more)) => {
            for (name, value) in more {
                match all.get_mut(name).filter(|known| !known.is_null()) {
                    Some(known) if name != "index" && name != "type" => add(known, value),
                    _ => drop(all.insert(name.clone(), value.clone())),
                }
            }
        }
        (Value::Array(all), Value::Array(more)) => {
            for entry in more {
                match all.iter_mut().find(|known| known["index"] == entry["index"]) {
                    Some(known) => add(known, entry),
                    None => all.push(entry.clone()),
                }
            }
        }
        (sum, delta) => panic!("{delta} cannot be added to {sum}"),
    }
}

fn chat_sum(said: &[Said], finish: FinishReason) -> (Value, Value) {
    let heading = || Heading::new(Shape::Chat, REQUEST, "m", false);
    let mut chunks = Chunks::new(heading(), 1, false, false);
    let mut choice = Choice::empty(false);
    let mut sent = Vec::new();
    for said in said {
        match said {
            Said::Text(text) => {
                sent.extend(chunks.text(0, text, &[]));
                choice.push(text, Vec::new());
            }
            Said::Call(name, fragments) => {
                let (call, id) = (choice.calls.len(), format!("call_{}", choice.calls.len()));
                sent.extend(chunks.call(0, call, &id, name));
                let mut whole = ToolCall::new(id, name.clone());
                for fragment in fragments {
                    sent.push(chunks.arguments(0, call, fragment));
                    whole.function.arguments.push_str(fragment);
                }
                choice.calls.push(whole);
            }
        }
    }
    sent.extend(chunks.finish(0, finish, None));
    choice.finish = finish;
    let mut message = json!({});
    for chunk in &sent {
        add(&mut message, &chunk["choices"][0]["delta"]);
    }
    for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
        call.as_object_mut().unwrap().shift_remove("index");
    }
    if message["tool_calls"].is_null() {
        message.as_object_mut().unwrap().shift_remove("tool_calls");
    }
    let ends: Vec<&Value> = sent
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .collect();
    assert!(ends[..ends.len() - 1].iter().all(|end| end.is_null()));
    let summed = json!({"message": message, "finish_reason": ends.last()});
    let whole = whole_answer(&heading(), &[choice], &Usage::default(), &extension());
    let whole = json!({"message": whole["choices"][0]["message"], "finish_reason": whole["choices"][0]["finish_reason"]});
    (summed, whole)
}

fn response_events(said: &[Said], finish: FinishReason) -> (Vec<Value>, Value) {
    let asked = response_ask(REQUEST, &json!({"model": "m", "input": "x"})).unwrap();
    let mut builder = ResponseBuilder::new(REQUEST, "m", asked.echo, false);
    let mut events = builder.begin();
    for (at, said) in said.iter().enumerate() {
        match said {
            Said::Text(text) => events.extend(builder.text(text, &[])),
            Said::Call(name, fragments) => {
                events.extend(builder.call(&format!("call_{at}"), name));
                events.extend(
                    fragments
                        .iter()
                        .flat_map(|fragment| builder.arguments(fragment))
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
    events.extend(builder.done(finish));
    let whole = to_value(builder.settle(&Usage::default(), extension()));
    events.push(builder.end());
    (events.iter().map(to_value).collect(), whole)
}

/// Builds the output from a response's events and holds them to their order.
fn response_sum(events: &[Value]) -> Value {
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(names[..2], ["response.created", "response.in_progress"]);
    let mut output: Vec<Value> = Vec::new();
    let mut open: Option<Value> = None;
    for event in &events[2..events.len() - 1] {
        assert_eq!(event["output_index"], output.len());
        let name = event["type"].as_str().unwrap();
        if name != "response.output_item.added" {
            let id = event.get("item_id").unwrap_or(&event["item"]["id"]);
            assert_eq!(*id, open.as_ref().unwrap()["id"], "{name}");
        }
        match (name, &mut open) {
            ("response.output_item.added", None) => open = Some(event["item"].clone()),
            ("response.content_part.added", Some(item)) => item["content"] = json!([event["part"]]),
            ("response.output_text.delta", Some(item)) => {
                add(&mut item["content"][0]["text"], &event["delta"])
            }
            ("response.function_call_arguments.delta", Some(item)) => {
                add(&mut item["arguments"], &event["delta"])
            }
            ("response.output_text.done", Some(item)) => {
                assert_eq!(event["text"], item["content"][0]["text"])
            }
            ("response.content_part.done", Some(item)) => assert_eq!(event["part"], item["content"][0]),
            ("response.function_call_arguments.done", Some(item)) => {
                assert_eq!(event["arguments"], item["arguments"])
            }
            ("response.output_item.done", Some(_)) => {
                let mut item = open.take().unwrap();
                item["status"] = event["item"]["status"].clone();
                assert_eq!(event["item"], item);
                output.push(item);
            }
            (name, _) => panic!("{name} comes out of order in {names:?}"),
        }
    }
    assert!(open.is_none());
    output.into()
}

fn message_sum(said: &[Said], finish: FinishReason) -> (Value, Value) {
    let mut builder = MessageBuilder::new(REQUEST, "m");
    let mut events = vec![builder.begin(3)];
    for (at, said) in said.iter().enumerate() {
        match said {
            Said::Text(text) => events.extend(builder.text(text)),
            Said::Call(name, fragments) => {
                events.extend(builder.call(&format!("call_{at}"), name));
                events.extend(
                    fragments
                        .iter()
                        .flat_map(|fragment| builder.arguments(fragment))
                        .collect::<Vec<_>>(),
                );
            }
        }
    }
    events.extend(builder.done(finish, None));
    events.extend(builder.end(&Usage::default(), extension()));
    let events: Vec<Value> = events.iter().map(to_value).collect();
    let (mut blocks, mut open): (Vec<Value>, Option<(Value, String)>) = (Vec::new(), None);
    for event in &events[1..events.len() - 2] {
        assert_eq!(event["index"], blocks.len());
        match (event["type"].as_str().unwrap(), &mut open) {
            ("content_block_start", None) => open = Some((event["content_block"].clone(), String::new())),
            ("content_block_delta", Some((_, all))) => {
                let delta = &event["delta"];
                *all += delta
                    .get("text")
                    .unwrap_or(&delta["partial_json"])
                    .as_str()
                    .unwrap();
            }
            ("content_block_stop", Some((block, all))) => {
                if block["type"] == "text" {
                    block["text"] = all.clone().into();
                } else {
                    block["input"] = serde_json::from_str(all).unwrap();
                }
                blocks.push(open.take().unwrap().0);
            }
            (name, _) => panic!("{name} comes out of order"),
        }
    }
    assert!(open.is_none());
    let whole = builder.whole(&Usage::default(), &extension());
    let last = &events[events.len() - 2]["delta"];
    (
        json!([blocks, last["stop_reason"]]),
        json!([whole["content"], whole["stop_reason"]]),
    )
}

proptest! {
    #[test]
    fn a_stream_adds_up_to_the_whole((said, finish) in answers()) {
        let (summed, whole) = chat_sum(&said, finish);
        prop_assert_eq!(summed, whole);
        let (events, whole) = response_events(&said, finish);
        prop_assert_eq!(&response_sum(&events), &whole["output"]);
        let last = events.last().unwrap();
        prop_assert_eq!(&last["response"], &whole);
        let status = last["type"].as_str().unwrap().strip_prefix("response.").unwrap();
        prop_assert_eq!(&whole["status"], status);
        let (summed, whole) = message_sum(&said, finish);
        prop_assert_eq!(summed, whole);
    }

    /// What is kept of a response reads back as it was said.
    #[test]
    fn items_come_back_from_their_json((said, finish) in answers()) {
        let (_, whole) = response_events(&said, finish);
        let items: Vec<Item> = serde_json::from_value(whole["output"].clone()).unwrap();
        prop_assert_eq!(to_value(&items), whole["output"].clone());
    }
}
