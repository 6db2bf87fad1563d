//! The gate, as a table: what passes, what is turned away, and which field is blamed.

use serde_json::{Value, json};

use super::*;
use crate::units::TokenId;

fn chat(extra: Value) -> Result<Ask, WireError> {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "2+2?"}]});
    merge(&mut body, extra);
    chat_ask(&body)
}

fn completion(extra: Value) -> Result<Ask, WireError> {
    let mut body = json!({"model": "small", "prompt": "2+2="});
    merge(&mut body, extra);
    completion_ask(&body)
}

fn merge(body: &mut Value, extra: Value) {
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
}

fn f_tool() -> Value {
    json!({"type": "function", "function": {"name": "f"}})
}

#[test]
fn wrong_chat_fields_are_named() {
    let cases = [
        (json!({"model": null}), "model"),
        (json!({"model": 3}), "model"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
        (
            json!({"messages": [{"role": "wizard", "content": "hi"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "tool", "content": "4"}]}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"messages": [{"role": "function", "name": "f", "content": "4"}]}),
            "messages[0].role",
        ),
        (
            json!({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}),
            "messages[0].function_call",
        ),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "x", "function": {}}]}]}),
            "messages[0].tool_calls[0].function.name",
        ),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": 4}]}),
            "messages[0].content",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
        ),
        (json!({"temperature": "warm"}), "temperature"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"top_k": 1.5}), "top_k"),
        (json!({"min_p": 2}), "min_p"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"frequency_penalty": [1]}), "frequency_penalty"),
        (json!({"logit_bias": {"cat": 1}}), "logit_bias"),
        (json!({"logit_bias": {"7": 101}}), "logit_bias.7"),
        (json!({"seed": 1.5}), "seed"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": "many"}), "max_tokens"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"n": 9}), "n"),
        (json!({"stop": [""]}), "stop"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stop": 1}), "stop"),
        (json!({"stream": "yes"}), "stream"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
        ),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logprobs": 3}), "logprobs"),
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0].type"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]}),
            "tools[0].function.parameters.type",
        ),
        (json!({"tools": [f_tool(), f_tool()]}), "tools[1].function.name"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (
            json!({"tools": [f_tool()], "tool_choice": "maybe"}),
            "tool_choice",
        ),
        (
            json!({"tools": [f_tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            "tool_choice.function.name",
        ),
        (
            json!({"tools": [f_tool()], "tool_choice": {"type": "custom", "custom": {"name": "g"}}}),
            "tool_choice.type",
        ),
        (
            json!({"tools": [f_tool()], "tool_choice": {"type": "allowed_tools", "allowed_tools":
                {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}}}),
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"response_format": "json"}), "response_format"),
        (json!({"response_format": {}}), "response_format.type"),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format.type",
        ),
        (
            json!({"response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}),
            "response_format.json_schema.schema",
        ),
        (
            json!({"response_format": {"type": "regex", "pattern": ""}}),
            "response_format.pattern",
        ),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"guided_json": {"type": "object"}}), "guided_json"),
        (json!({"messplus": 1}), "messplus"),
        (json!({"messplus": {"sla": 1}}), "messplus.sla"),
        (
            json!({"messplus": {"reference": "4", "match": "roughly"}}),
            "messplus.match",
        ),
        (json!({"messplus": {"reference": ["4"]}}), "messplus.reference"),
        (
            json!({"messplus": {"reference": "four", "match": "numeric"}}),
            "messplus.reference",
        ),
        (
            json!({"model": "auto:gold", "messplus": {"sla": "silver"}}),
            "messplus.sla",
        ),
    ];
    for (extra, param) in cases {
        let error = chat(extra.clone()).expect_err(&extra.to_string());
        assert_eq!(error.param(), Some(param), "{extra}: {error}");
    }
    assert_eq!(chat_ask(&json!([1])).unwrap_err().param(), None);
}

#[test]
fn harmless_fields_pass() {
    for extra in [
        json!({"temperature": null, "top_p": null, "n": null, "stop": null, "max_tokens": null, "seed": null}),
        json!({"stream": null, "stream_options": null, "logprobs": null, "messplus": null, "tools": null}),
        json!({"user": "me", "metadata": {"a": "b"}, "store": true, "service_tier": "auto", "parallel_tool_calls": true}),
        json!({"tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "modalities": ["text"]}),
        json!({"logprobs": false, "top_logprobs": 0, "echo": false, "best_of": 1, "something_new": [1, 2]}),
    ] {
        assert!(chat(extra.clone()).is_ok(), "{extra}");
    }
}

#[test]
fn chat_says_what_it_wants() {
    let ask = chat(json!({
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "+2?"}]},
            {"role": "assistant", "content": null},
        ],
        "temperature": 0.5, "top_p": 0, "top_k": -1, "n": 2, "seed": -1, "stop": "\n",
        "max_tokens": 5, "max_completion_tokens": 16.0, "logit_bias": {"3": -100},
        "logprobs": true, "top_logprobs": 2,
        "stream": true, "stream_options": {"include_usage": true},
        "messplus": {"sla": "gold", "reference": 4, "match": "numeric"},
    }))
    .unwrap();
    assert_eq!(
        ask.target,
        Target::Auto {
            sla: "gold".into(),
            param: "messplus.sla"
        }
    );
    let Prompt::Chat(messages) = &ask.prompts[0] else {
        panic!("a chat prompt")
    };
    let said: Vec<_> = messages
        .iter()
        .map(|m| (m.role.as_str(), m.content.as_str()))
        .collect();
    assert_eq!(
        said,
        [("system", "be brief"), ("user", "2\n+2?"), ("assistant", "")]
    );
    assert_eq!((ask.n, ask.max_tokens, ask.logprobs), (2, Some(16), Some(2)));
    assert_eq!(ask.stop, ["\n"]);
    assert_eq!(ask.delivery, Delivery::Stream { include_usage: true });
    assert_eq!(ask.sampling.temperature, Some(0.5));
    assert_eq!(ask.sampling.top_k, Some(0));
    assert!(ask.sampling.top_p.is_some_and(|mass| mass > 0.0));
    assert_eq!(ask.sampling.seed, Some(u64::MAX));
    assert_eq!(ask.sampling.logit_bias, [(TokenId(3), -100.0)]);
    assert_eq!(
        ask.reference,
        Some(Reference {
            text: "4".into(),
            rule: MatchRule::Numeric
        })
    );
}

#[test]
fn the_target_is_the_router_or_a_name() {
    let target = |extra| chat(extra).unwrap().target;
    assert_eq!(
        target(json!({})),
        Target::Auto {
            sla: "default".into(),
            param: "model"
        }
    );
    assert_eq!(
        target(json!({"model": "auto:gold"})),
        Target::Auto {
            sla: "gold".into(),
            param: "model"
        }
    );
    assert_eq!(
        target(json!({"model": "auto:gold", "messplus": {"sla": "gold"}})),
        Target::Auto {
            sla: "gold".into(),
            param: "model"
        }
    );
    assert_eq!(
        target(json!({"model": "org/small"})),
        Target::Named {
            model: "org/small".into()
        }
    );
}

#[test]
fn completions_take_text_ids_and_lists_of_either() {
    let prompts = |prompt: Value| completion(json!({"prompt": prompt})).unwrap().prompts;
    let ids = |ids: &[u32]| Prompt::Tokens(ids.iter().copied().map(TokenId).collect());
    assert_eq!(prompts(json!("a")), [Prompt::Text("a".into())]);
    assert_eq!(
        prompts(json!(["a", "b"])),
        [Prompt::Text("a".into()), Prompt::Text("b".into())]
    );
    assert_eq!(prompts(json!([1, 2])), [ids(&[1, 2])]);
    assert_eq!(prompts(json!([[1, 2], [3]])), [ids(&[1, 2]), ids(&[3])]);
    assert_eq!(prompts(json!(["a", [3]])), [Prompt::Text("a".into()), ids(&[3])]);
}

#[test]
fn wrong_completion_fields_are_named() {
    let cases = [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [[]]}), "prompt"),
        (json!({"prompt": [1.5]}), "prompt"),
        (json!({"prompt": [-1]}), "prompt"),
        (json!({"prompt": [1, "a"]}), "prompt"),
        (json!({"prompt": {"text": "a"}}), "prompt"),
        (json!({"prompt": vec!["a"; 65]}), "prompt"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"echo": true}), "echo"),
        (json!({"suffix": "b"}), "suffix"),
        (json!({"best_of": 3}), "best_of"),
    ];
    for (extra, param) in cases {
        let error = completion(extra.clone()).expect_err(&extra.to_string());
        assert_eq!(error.param(), Some(param), "{extra}: {error}");
    }
    assert_eq!(completion(json!({"logprobs": 0})).unwrap().logprobs, Some(0));
    assert_eq!(completion(json!({"n": 2, "best_of": 2})).unwrap().choices(), 2);
}

#[test]
fn formats_become_constraints() {
    use crate::engine::Constraint;
    let of = |format: serde_json::Value| chat(json!({"response_format": format})).unwrap().constraint;
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    assert_eq!(of(json!(null)), None);
    assert_eq!(of(json!({"type": "text"})), None);
    assert_eq!(of(json!({"type": "json_object"})), Some(Constraint::JsonObject));
    assert_eq!(
        of(json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}})),
        Some(Constraint::JsonSchema(schema))
    );
    assert_eq!(
        of(json!({"type": "json_schema", "json_schema": {"name": "a"}})),
        Some(Constraint::JsonObject)
    );
    assert_eq!(
        of(json!({"type": "regex", "pattern": "a+"})),
        Some(Constraint::Regex("a+".to_owned()))
    );
    assert_eq!(
        of(json!({"type": "grammar", "grammar": "start: \"a\""})),
        Some(Constraint::Lark("start: \"a\"".to_owned()))
    );
}

#[test]
fn functions_become_what_may_be_called() {
    let tools = |extra: Value| {
        let mut body = json!({"tools": [f_tool(), {"type": "function", "function": {"name": "g", "description": "G",
            "strict": true, "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]});
        merge(&mut body, extra);
        chat(body).unwrap().tools
    };
    let both = tools(json!({})).unwrap();
    assert_eq!((both.choice, both.parallel), (CallChoice::Auto, true));
    assert_eq!(both.callable, ["f", "g"]);
    assert_eq!(both.tools[0].parameters, None);
    assert_eq!(both.tools[1].description.as_deref(), Some("G"));
    assert!(!both.tools[0].strict && both.tools[1].strict);
    assert_eq!(tools(json!({"tool_choice": "none"})), None);
    let required = tools(json!({"tool_choice": "required", "parallel_tool_calls": false})).unwrap();
    assert_eq!(
        (required.choice, required.parallel),
        (CallChoice::Required, false)
    );
    let named = tools(json!({"tool_choice": {"type": "function", "function": {"name": "g"}}})).unwrap();
    assert_eq!((named.choice, named.tools.len()), (CallChoice::Named, 2));
    assert_eq!(named.callable, ["g"]);
    let allowed = tools(json!({"tool_choice": {"type": "allowed_tools", "allowed_tools":
        {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}}}));
    let allowed = allowed.unwrap();
    assert_eq!(
        (allowed.choice, allowed.callable),
        (CallChoice::Required, vec!["f".to_owned()])
    );
}

#[test]
fn calls_and_results_stand_in_the_conversation() {
    let ask = chat(json!({"messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 2}"}},
            {"id": "call_2", "type": "function", "function": {"name": "sub", "arguments": "no JSON"}}]},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "4"}]},
    ]}));
    let Prompt::Chat(messages) = &ask.unwrap().prompts[0] else {
        panic!("a chat prompt")
    };
    assert_eq!(
        messages[1].extra["tool_calls"],
        json!([
            {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}},
            {"id": "call_2", "type": "function", "function": {"name": "sub", "arguments": "no JSON"}},
        ])
    );
    assert_eq!(
        (messages[2].role.as_str(), messages[2].content.as_str()),
        ("tool", "4")
    );
    assert_eq!(messages[2].extra["name"], "sub");
}
