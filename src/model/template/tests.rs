use serde_json::json;

use super::*;

fn compile(source: &str) -> Result<ChatTemplate, String> {
    ChatTemplate::compile(&json!({
        "chat_template": source, "bos_token": {"content": "<s>"}, "eos_token": "</s>"
    }))
}

#[test]
fn renders_turns_with_python_methods() {
    let source = "{{ bos_token }}{% for m in messages %}\n[{{ m.role.upper() }}]{{ m['content'].strip() }}\
                  {% endfor %}{% if add_generation_prompt %}[A]{% endif %}";
    let messages = [
        ChatMessage::new("user", " hi "),
        ChatMessage::new("assistant", "yo"),
    ];
    assert_eq!(
        compile(source).unwrap().render(&messages).unwrap(),
        "<s>[USER]hi[ASSISTANT]yo[A]"
    );
}

#[test]
fn broken_templates_fail_at_load_with_their_line() {
    let broken = |source: &str| compile(source).err().unwrap();
    let unclosed = broken("{{ bos_token }}\n{% for m in messages %}\n");
    assert!(unclosed.contains("does not compile"), "{unclosed}");
    assert!(
        unclosed.contains("(line 2)") || unclosed.contains("(line 3)"),
        "{unclosed}"
    );
    let unknown = broken("{% if true %}\n\n{{ no_such_function() }}{% endif %}");
    assert!(unknown.contains("fails on one user message"), "{unknown}");
    assert!(unknown.contains("(line 3)"), "{unknown}");
    assert!(ChatTemplate::compile(&json!({})).is_err());
    let other = ChatTemplate::compile(&json!({"chat_template": {"rag": "x"}}))
        .err()
        .unwrap();
    assert!(other.contains("rag"), "{other}");
}

#[test]
fn a_template_may_refuse_a_conversation() {
    let template = compile(
        "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}{{ messages[0].content }}",
    );
    let refused = template.unwrap().render(&[ChatMessage::new("tool", "x")]);
    assert_eq!(refused.unwrap_err(), "user first");
}

#[test]
fn the_day_can_be_asked_for() {
    let text = compile("{{ strftime_now('%Y-%m-%d') }}")
        .unwrap()
        .render(&[])
        .unwrap();
    assert_eq!(text.len(), 10);
    assert!(text.parse::<jiff::civil::Date>().is_ok());
}

#[test]
fn generation_blocks_are_their_content() {
    for (source, plain) in [
        (
            "a {%- generation -%} b {%+ endgeneration %}c",
            "a {%- with -%} b {%+ endwith %}c",
        ),
        (
            "{% if generation %}{{ '{%' }}{% endif %}",
            "{% if generation %}{{ '{%' }}{% endif %}",
        ),
        ("{% for", "{% for"),
    ] {
        assert_eq!(without_generation(source), plain);
    }
}

/// Every family's constructs, rendered by transformers: `scripts/make_template_fixtures.py`.
#[test]
fn renderings_are_those_of_transformers() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates.json");
    let families: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for family in families.as_array().unwrap() {
        let name = family["name"].as_str().unwrap();
        let source = family["template"].clone();
        let config = json!({"chat_template": source, "bos_token": "<s>", "eos_token": "</s>"});
        let template = match ChatTemplate::compile(&config) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (at, case) in family["cases"].as_array().unwrap().iter().enumerate() {
            let (messages, inputs) = (messages(&case["messages"]), inputs(&case["inputs"]));
            let rendered = template.render_with(&messages, &inputs);
            let same = match &rendered {
                Ok(text) => case["expected"] == text.as_str(),
                Err(error) => case["refused"] == error.as_str(),
            };
            if !same {
                let wanted = case["expected"].as_str().or(case["refused"].as_str()).unwrap();
                wrong.push(format!(
                    "{name} {at}:\n{wanted}\n----- but here\n{rendered:?}\n{}",
                    rendered.as_deref().unwrap_or("")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n==========\n"));
}

fn messages(given: &Json) -> Vec<ChatMessage> {
    let message = |fields: &Map<String, Json>| {
        let mut extra = fields.clone();
        let mut take = |name: &str| extra.shift_remove(name).unwrap().as_str().unwrap().to_owned();
        let (role, content) = (take("role"), take("content"));
        ChatMessage { role, content, extra }
    };
    given
        .as_array()
        .unwrap()
        .iter()
        .map(|m| message(m.as_object().unwrap()))
        .collect()
}

fn inputs(given: &Json) -> TemplateInputs {
    let mut variables = given.as_object().unwrap().clone();
    let mut take = |name: &str| variables.shift_remove(name);
    TemplateInputs {
        tools: take("tools").unwrap_or_default(),
        documents: take("documents").unwrap_or_default(),
        add_generation_prompt: take("add_generation_prompt").is_none_or(|v| v == true),
        variables,
    }
}

fn family(name: &str) -> ChatTemplate {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates.json");
    let families: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut families = families.as_array().unwrap().iter();
    let family = families.find(|family| family["name"] == name).expect(name);
    let source = family["template"].clone();
    ChatTemplate::compile(&json!({"chat_template": source, "bos_token": "<s>", "eos_token": "</s>"})).unwrap()
}

const FAMILIES: [&str; 10] = [
    "llama-3.1",
    "qwen-2.5",
    "qwen-3",
    "mistral-0.3",
    "gemma-2",
    "gemma-3",
    "phi-3",
    "granite-3",
    "smollm3",
    "olmo-2",
];

fn weather() -> Tool {
    Tool {
        name: "get_weather".to_owned(),
        description: Some("The weather".to_owned()),
        parameters: Some(json!({"type": "object", "properties": {"place": {"type": "string"}}})),
        strict: false,
    }
}

/// A question, calls, and their results.
fn called(calls: usize) -> Vec<ChatMessage> {
    let id = |at: usize| format!("call_000000000000000{at}");
    let call = |at: usize| {
        let function = json!({"name": "get_weather", "arguments": {"place": format!("Rome{at}")}});
        json!({"id": id(at), "type": "function", "function": function})
    };
    let mut turn = ChatMessage::new("assistant", "");
    let all: Vec<Json> = (0..calls).map(call).collect();
    turn.extra.insert("tool_calls".to_owned(), all.into());
    let result = |at: usize| {
        let mut result = ChatMessage::new("tool", format!("sunny{at}"));
        result.extra.insert("tool_call_id".to_owned(), json!(id(at)));
        result
    };
    let mut turns = vec![ChatMessage::new("user", "Where is it warm?"), turn];
    turns.extend((0..calls).map(result));
    turns
}

#[test]
fn families_call_in_their_own_form() {
    for (name, form) in [
        ("llama-3.1", CallForm::BARE),
        ("qwen-2.5", CallForm::TAGGED),
        ("mistral-0.3", CallForm::MISTRAL),
        ("gemma-2", CallForm::TAGGED),
        ("phi-3", CallForm::TAGGED),
    ] {
        assert_eq!(family(name).call_form(), form, "{name}");
    }
    let granite = json!({
        "chat_template": "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}[{{ m.content }}]{% endfor %}",
        "added_tokens_decoder": {"49154": {"content": "<|tool_call|>", "special": true}},
    });
    assert_eq!(
        ChatTemplate::compile(&granite).unwrap().call_form(),
        CallForm::GRANITE
    );
}

#[test]
fn every_family_is_told_of_functions_calls_and_results() {
    for name in FAMILIES {
        let template = family(name);
        let ask = [ChatMessage::new("user", "Where is it warm?")];
        let told = template.render_conversation(&ask, &[weather()]).unwrap();
        assert!(
            told.contains("get_weather") && told.contains("Where is it warm?"),
            "{name}: {told}"
        );
        let answered = template.render_conversation(&called(1), &[weather()]).unwrap();
        for word in ["get_weather", "Rome0", "sunny0"] {
            assert!(answered.contains(word), "{name} does not see {word}: {answered}");
        }
        // What was said between them is seen without the functions as well.
        let mut later = called(1);
        later.push(ChatMessage::new("assistant", "It is sunny."));
        later.push(ChatMessage::new("user", "Thanks."));
        let later = template.render_conversation(&later, &[]).unwrap();
        assert!(
            later.contains("Rome0") && later.contains("sunny0") && later.contains("Thanks."),
            "{name}: {later}"
        );
        if name != "llama-3.1" {
            let twice = template.render_conversation(&called(2), &[weather()]).unwrap();
            assert!(
                twice.contains("Rome1") && twice.contains("sunny1"),
                "{name}: {twice}"
            );
        }
    }
}

#[test]
fn a_conversation_without_functions_is_rendered_as_ever() {
    let messages = [
        ChatMessage::new("user", "Hello"),
        ChatMessage::new("assistant", "Yes?"),
        ChatMessage::new("user", "Bye"),
    ];
    for name in FAMILIES {
        let template = family(name);
        assert_eq!(
            template.render_conversation(&messages, &[]),
            template.render(&messages),
            "{name}"
        );
    }
}
