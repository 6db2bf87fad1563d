use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::engine::draw::uniform;
use crate::engine::request::Sampling;
use crate::engine::sampler::{History, sample};
use crate::model::{Compute, Detokenizer, ModelSource, Precision};

fn grammars() -> Grammars {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/small");
    let model = crate::model::load(&ModelSource::Folder(folder), Compute::Cpu, Precision::Auto).unwrap();
    // Rows longer than the tokenizer's vocabulary, as many models have them.
    Grammars::new(model.tokenizer, model.vocabulary + 37, model.end_tokens)
}

/// What a model that knows nothing says: the text, and whether it ended by itself within `most` tokens.
fn babble(grammars: &Grammars, constraint: &Constraint, seed: u64, most: usize) -> (String, bool) {
    let mut guide = grammars.guide(constraint).unwrap();
    let sampling = Sampling {
        temperature: 1.5,
        seed,
        ..Sampling::default()
    };
    let mut detokenizer = Detokenizer::default();
    let mut text = String::new();
    for position in 0..most {
        let mut logits: Vec<f32> = (0..grammars.vocabulary)
            .map(|token| 6.0 * uniform(seed ^ 77, (position * 10_000 + token) as u64) as f32)
            .collect();
        guide.restrict(&mut logits).unwrap();
        let token = sample(&mut logits, &sampling, &History::default(), position);
        if grammars.end_tokens.contains(&token) {
            return (text, true);
        }
        text += &detokenizer.push(&grammars.tokenizer, token);
        if guide.accept(token).unwrap() {
            return (text, true);
        }
    }
    (text, false)
}

/// Of JSON Schema what [`schemas`] uses.
fn is_valid(schema: &Value, value: &Value) -> bool {
    if let Some(allowed) = schema["enum"].as_array() {
        return allowed.contains(value);
    }
    let within = |size: usize, least: &str, most: &str| {
        schema[least].as_u64().is_none_or(|l| size as u64 >= l)
            && schema[most].as_u64().is_none_or(|m| size as u64 <= m)
    };
    match schema["type"].as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" | "number" => {
            let whole = schema["type"] != "integer" || value.is_i64();
            let number = value.as_f64();
            whole
                && number.is_some_and(|n| schema["minimum"].as_f64().is_none_or(|least| n >= least))
                && number.is_some_and(|n| schema["maximum"].as_f64().is_none_or(|most| n <= most))
        }
        "string" => value.as_str().is_some_and(|text| {
            let like_a_plate = |text: &str| {
                let (letters, digits) = text.split_at_checked(2).unwrap_or_default();
                let letter = |c: char| c.is_ascii_uppercase();
                letters.len() == 2
                    && letters.chars().all(letter)
                    && (1..=3).contains(&digits.len())
                    && digits.chars().all(|c| c.is_ascii_digit())
            };
            within(text.chars().count(), "minLength", "maxLength")
                && (schema["pattern"].is_null() || like_a_plate(text))
        }),
        "array" => value.as_array().is_some_and(|items| {
            within(items.len(), "minItems", "maxItems")
                && items.iter().all(|item| is_valid(&schema["items"], item))
        }),
        "object" => value.as_object().is_some_and(|map| {
            let properties = schema["properties"].as_object().unwrap();
            let required = schema["required"].as_array().unwrap();
            required
                .iter()
                .all(|name| map.contains_key(name.as_str().unwrap()))
                && map
                    .iter()
                    .all(|(name, value)| properties.get(name).is_some_and(|s| is_valid(s, value)))
        }),
        other => panic!("unknown type {other}"),
    }
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::collection::vec(
            prop_oneof![
                "[a-zA-Z \"é\n]{0,8}".prop_map(Value::from),
                (-99i64..99).prop_map(Value::from),
                Just(Value::Null)
            ],
            1..4
        )
        .prop_map(|values| json!({"enum": values})),
        (-500i64..500, 0i64..700).prop_map(
            |(least, width)| json!({"type": "integer", "minimum": least, "maximum": least + width})
        ),
        (-500i64..500, 1i64..700)
            .prop_map(|(least, width)| json!({"type": "number", "minimum": least, "maximum": least + width})),
        (0usize..4, 0usize..12).prop_map(
            |(least, more)| json!({"type": "string", "minLength": least, "maxLength": least + more})
        ),
        Just(json!({"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,3}$"})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let object = prop::collection::vec(("[a-z]{1,6}", inner.clone(), any::<bool>()), 1..4).prop_map(|fields| {
            let required: std::collections::BTreeSet<&str> =
                fields.iter().filter(|(_, _, must)| *must).map(|(name, _, _)| name.as_str()).collect();
            let properties: serde_json::Map<String, Value> =
                fields.iter().map(|(name, schema, _)| (name.clone(), schema.clone())).collect();
            json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
        });
        let array = (inner, 0usize..3, 0usize..3).prop_map(|(items, least, more)| {
            json!({"type": "array", "items": items, "minItems": least, "maxItems": least + more})
        });
        prop_oneof![object, array]
    })
}

#[test]
fn finished_answers_are_valid_under_their_schema() {
    let grammars = grammars();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(48));
    let finished = std::cell::Cell::new(0);
    let ran = runner.run(&(schemas(), any::<u64>()), |(schema, seed)| {
        let (text, whole) = babble(&grammars, &Constraint::JsonSchema(schema.clone()), seed, 300);
        if whole {
            let value: Value =
                serde_json::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?;
            prop_assert!(is_valid(&schema, &value), "{schema}: {text}");
            finished.set(finished.get() + 1);
        }
        Ok(())
    });
    ran.unwrap();
    assert!(
        finished.get() > 30,
        "only {} of 48 answers came to an end",
        finished.get()
    );
}

#[test]
fn schemas_of_real_clients_are_kept() {
    // As pydantic writes them: references, optional fields, unions, formats.
    let schema = json!({
        "$defs": {"Step": {"type": "object", "title": "Step", "required": ["explanation", "output"],
            "properties": {"explanation": {"type": "string", "maxLength": 9}, "output": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "additionalProperties": false}},
        "title": "Reasoning", "type": "object", "required": ["steps", "day", "kind"], "additionalProperties": false,
        "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}, "maxItems": 2},
            "day": {"type": "string", "format": "date"}, "kind": {"const": "maths"}},
    });
    let grammars = grammars();
    let (text, whole) = (0..20)
        .map(|seed| babble(&grammars, &Constraint::JsonSchema(schema.clone()), seed, 400))
        .find(|(_, whole)| *whole)
        .expect("one of twenty answers ends");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(whole && value["kind"] == "maths" && value["steps"].as_array().unwrap().len() <= 2);
    assert_eq!(value["day"].as_str().unwrap().len(), 10);
}

#[test]
fn any_object_is_an_object() {
    let grammars = grammars();
    let answers: Vec<_> = (0..12)
        .map(|seed| babble(&grammars, &Constraint::JsonObject, seed, 400))
        .collect();
    for (text, whole) in &answers {
        assert!(text.starts_with('{'), "{text}");
        if *whole {
            // JSON allows numbers that no float holds.
            assert!(
                serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
                "{text}"
            );
        }
    }
    assert!(answers.iter().any(|(_, whole)| *whole));
}

#[test]
fn an_answer_matches_its_pattern_and_stops_where_nothing_can_follow() {
    let grammars = grammars();
    let pattern = Constraint::Regex("(ja|nein), [0-9]{3}(€|/m²)".to_owned());
    for seed in 0..30 {
        let (text, whole) = babble(&grammars, &pattern, seed, 60);
        assert!(whole, "{text}");
        let rest = text.strip_prefix("ja, ").or(text.strip_prefix("nein, ")).unwrap();
        assert!(rest[..3].chars().all(|c| c.is_ascii_digit()));
        assert!(["€", "/m²"].contains(&&rest[3..]), "{text}");
    }
}

#[test]
fn end_tokens_come_only_where_the_answer_may_end() {
    let grammars = grammars();
    let mut guide = grammars.guide(&Constraint::Regex("ab*".to_owned())).unwrap();
    let end = grammars.end_tokens[0];
    let letter = |letter: &str| grammars.tokenizer.encode(letter, false).unwrap()[0];
    let allowed = |guide: &mut Guide, token: TokenId| {
        let mut logits = vec![0.0; grammars.vocabulary];
        guide.restrict(&mut logits).unwrap();
        logits[token.0 as usize] == 0.0
    };
    assert!(
        !allowed(&mut guide, end) && allowed(&mut guide, letter("a")) && !allowed(&mut guide, letter("b"))
    );
    assert!(!guide.accept(letter("a")).unwrap());
    assert!(
        allowed(&mut guide, end) && allowed(&mut guide, letter("b")) && !allowed(&mut guide, letter("a"))
    );
}

#[test]
fn what_cannot_be_kept_is_refused_in_one_sentence() {
    let grammars = grammars();
    for constraint in [
        Constraint::Regex("(".to_owned()),
        Constraint::Regex("[^\\s\\S]".to_owned()),
        Constraint::Lark("start: nothing".to_owned()),
        Constraint::JsonSchema(json!({"type": "strnig"})),
        Constraint::JsonSchema(json!({"$ref": "#/$defs/none"})),
        Constraint::JsonSchema(json!({"type": "string", "pattern": "("})),
        Constraint::JsonSchema(json!({"type": "integer", "minimum": 3, "maximum": 2})),
        Constraint::JsonSchema(json!({"not": {"type": "integer"}})),
        Constraint::JsonSchema(json!(7)),
    ] {
        let refusal = grammars.guide(&constraint).err();
        let refusal = refusal.unwrap_or_else(|| panic!("{constraint:?} was compiled"));
        assert!(!refusal.is_empty() && !refusal.contains('\n'), "{refusal:?}");
    }
}

#[test]
fn a_known_constraint_begins_afresh() {
    let grammars = grammars();
    let constraint = Constraint::JsonSchema(json!({"enum": ["a", "b"]}));
    let first = babble(&grammars, &constraint, 5, 20);
    assert_eq!(babble(&grammars, &constraint, 5, 20), first);
    assert_eq!(grammars.compiled.lock().unwrap().len(), 1);
    for i in 0..2 * KEPT {
        grammars.guide(&Constraint::Regex(format!("x{{{i}}}y"))).unwrap();
    }
    assert_eq!(grammars.compiled.lock().unwrap().len(), KEPT);
}

mod calls {
    use super::*;
    use crate::model::{CallForm, CallParser, Said};

    const FORMS: [CallForm; 4] = [
        CallForm::TAGGED,
        CallForm::MISTRAL,
        CallForm::GRANITE,
        CallForm::BARE,
    ];

    fn functions() -> Vec<Callable> {
        let function = |name: &str, arguments: Value| Callable {
            name: name.to_owned(),
            arguments,
            strict: true,
        };
        vec![
            function(
                "get",
                json!({"type": "object", "properties": {}, "additionalProperties": false}),
            ),
            function(
                "get_weather",
                json!({"type": "object", "required": ["place", "days"], "additionalProperties": false, "properties": {
                    "place": {"type": "string", "maxLength": 6}, "days": {"type": "integer", "minimum": 1, "maximum": 14}}}),
            ),
        ]
    }

    fn rule(form: &CallForm, parallel: bool, instead: Instead) -> Constraint {
        Constraint::Calls(CallRule {
            form: form.clone(),
            functions: functions(),
            parallel,
            instead,
        })
    }

    /// What an answer says: its text, and its calls.
    fn read(form: &CallForm, answer: &str) -> (String, Vec<(String, String)>) {
        let names = functions().into_iter().map(|function| function.name).collect();
        let mut parser = CallParser::new(form.clone(), names, usize::MAX);
        let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
        for said in parser.push(answer).into_iter().chain(parser.finish()) {
            match said {
                Said::Text(more) => text += &more,
                Said::Call { name } => calls.push((name, String::new())),
                Said::Arguments(more) => calls.last_mut().unwrap().1 += &more,
            }
        }
        (text, calls)
    }

    fn are_valid(calls: &[(String, String)]) -> bool {
        calls.iter().all(|(name, arguments)| {
            let schema = functions().into_iter().find(|f| f.name == *name).unwrap().arguments;
            is_valid(
                &json!({"type": "object", "properties": schema["properties"], "required": schema.get("required").cloned().unwrap_or(json!([]))}),
                &serde_json::from_str(arguments).unwrap(),
            )
        })
    }

    #[test]
    fn a_demanded_call_comes_and_its_arguments_are_valid() {
        let grammars = grammars();
        for (form, parallel) in FORMS.iter().flat_map(|form| [(form, false), (form, true)]) {
            let mut most = 0;
            for seed in 0..12 {
                let (answer, whole) = babble(&grammars, &rule(form, parallel, Instead::Nothing), seed, 400);
                if !whole {
                    continue;
                }
                let (text, calls) = read(form, &answer);
                assert!(text.is_empty() && !calls.is_empty(), "{answer}");
                assert!(are_valid(&calls), "{answer}");
                most = most.max(calls.len());
            }
            assert!(most >= 1, "no answer came to an end");
            assert!(parallel && form.open.is_some() || most == 1, "{most}");
        }
    }

    #[test]
    fn a_model_that_calls_as_it_likes_calls_validly_and_says_what_it_wants() {
        let grammars = grammars();
        let pieces = |text: &str| grammars.tokenizer.encode(text, false).unwrap();
        for form in &FORMS {
            let constraint = rule(form, true, Instead::Text);
            let goes = |text: &str| {
                let mut guide = grammars.guide(&constraint).unwrap();
                let mut logits = vec![0.0; grammars.vocabulary];
                for token in pieces(text) {
                    logits.fill(0.0);
                    guide.restrict(&mut logits).unwrap();
                    if logits[token.0 as usize] != 0.0 {
                        return None;
                    }
                    guide.accept(token).unwrap();
                }
                logits.fill(0.0);
                guide.restrict(&mut logits).unwrap();
                Some(
                    grammars
                        .end_tokens
                        .iter()
                        .any(|end| logits[end.0 as usize] == 0.0),
                )
            };
            assert_eq!(goes("Just text, 2 < 3."), Some(true), "{form:?}");
            let head = format!("{{\"name\": \"get_weather\", \"{}\": ", form.arguments);
            let (before, after) = match (form.open, form.close) {
                (Some(open), Some(close)) => (format!("Well.{open}\n{head}"), format!("}}\n{close}")),
                (Some(open), None) => (format!("Well.{open}[{head}"), "}]".to_owned()),
                _ => (head, "}".to_owned()),
            };
            let call = |arguments: &str| goes(&format!("{before}{arguments}{after}"));
            assert_eq!(call("{\"place\": \"Rome\", \"days\": 3}"), Some(true), "{form:?}");
            assert_eq!(call("{\"place\": \"Rome\", \"days\": 15}"), None, "{form:?}");
            assert_eq!(call("{\"place\": \"Rome\"}"), None, "{form:?}");
        }
    }

    #[test]
    fn a_call_or_an_answer_of_another_form() {
        let grammars = grammars();
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["n"], "additionalProperties": false});
        for other in [
            Constraint::JsonSchema(schema),
            Constraint::Regex("[0-9]/[0-9]".to_owned()),
        ] {
            let constraint = rule(&CallForm::TAGGED, false, Instead::Only(Box::new(other)));
            let (mut called, mut answered) = (0, 0);
            for seed in 0..24 {
                let (answer, whole) = babble(&grammars, &constraint, seed, 400);
                let (text, calls) = read(&CallForm::TAGGED, &answer);
                match (whole, calls.is_empty()) {
                    (false, _) => {}
                    (true, false) => called += 1,
                    (true, true) => {
                        answered += 1;
                        assert!(text.starts_with('{') || text.len() == 3, "{text}");
                    }
                }
            }
            assert!(called > 0 && answered > 0, "{called} {answered}");
        }
        let lark = Instead::Only(Box::new(Constraint::Lark("start: \"a\"".to_owned())));
        assert!(grammars.guide(&rule(&CallForm::TAGGED, false, lark)).is_err());
    }

    #[test]
    fn what_a_strict_function_cannot_promise_is_refused_and_what_another_cannot_is_left_open() {
        let grammars = grammars();
        let guide = |strict: bool, arguments: Value| {
            let functions = vec![Callable {
                name: "f".to_owned(),
                arguments,
                strict,
            }];
            let rule = CallRule {
                form: CallForm::TAGGED,
                functions,
                parallel: false,
                instead: Instead::Nothing,
            };
            grammars.guide(&Constraint::Calls(rule)).map(drop)
        };
        let strange = json!({"type": "object", "properties": {"a": {"not": {"type": "integer"}}}});
        assert!(guide(true, strange.clone()).is_err());
        assert!(guide(false, strange).is_ok());
        assert!(
            guide(
                false,
                json!({"type": "object", "properties": {"a": {"$ref": "#/none"}}})
            )
            .is_err()
        );
    }
}
