//! Calls as the families write them, however they are cut.

use proptest::prelude::*;

use super::*;

const KNOWN: [&str; 2] = ["get_weather", "add"];

fn parser(form: &CallForm, most: usize) -> CallParser {
    CallParser::new(form.clone(), KNOWN.map(str::to_owned).to_vec(), most)
}

/// Text, and calls with their arguments.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    text: String,
    calls: Vec<(String, String)>,
}

fn gather(heard: &mut Heard, said: Vec<Said>) {
    for said in said {
        match said {
            Said::Text(text) => heard.text += &text,
            Said::Call { name } => heard.calls.push((name, String::new())),
            Said::Arguments(more) => {
                heard
                    .calls
                    .last_mut()
                    .expect("a call comes before its arguments")
                    .1 += &more
            }
        }
    }
}

fn hear<'a>(form: &CallForm, most: usize, pieces: impl IntoIterator<Item = &'a str>) -> Heard {
    let mut parser = parser(form, most);
    let mut heard = Heard::default();
    for piece in pieces {
        gather(&mut heard, parser.push(piece));
    }
    gather(&mut heard, parser.finish());
    heard
}

fn heard(text: &str, calls: &[(&str, &str)]) -> Heard {
    let own = |(name, arguments): &(&str, &str)| ((*name).to_owned(), (*arguments).to_owned());
    Heard {
        text: text.to_owned(),
        calls: calls.iter().map(own).collect(),
    }
}

/// Answers in the forms that the families' model cards show, and what they say.
fn recorded() -> Vec<(&'static CallForm, &'static str, Heard)> {
    const ROME: (&str, &str) = ("get_weather", r#"{"place": "Rome"}"#);
    const KOELN: (&str, &str) = ("get_weather", r#"{"place": "Köln \"}\"", "days": [1, {"a": 2}]}"#);
    vec![
        (
            &CallForm::TAGGED,
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Rome\"}}\n</tool_call>",
            heard("", &[ROME]),
        ),
        (
            &CallForm::TAGGED,
            "I will look.\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Rome\"}}\n</tool_call>\n\
             <tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Köln \\\"}\\\"\", \"days\": [1, {\"a\": 2}]}}\n\
             </tool_call>\n",
            heard("I will look.", &[ROME, KOELN]),
        ),
        (
            &CallForm::TAGGED,
            "<tool_call>[{\"name\": \"add\", \"arguments\": {}}, {\"arguments\": {\"a\": 1}, \"name\": \"add\"}]</tool_call>",
            heard("", &[("add", "{}"), ("add", "{\"a\": 1}")]),
        ),
        // The last brace forgotten, arguments as text, none at all.
        (
            &CallForm::TAGGED,
            "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}\n</tool_call> done",
            heard("done", &[("add", "{\"a\": 1}")]),
        ),
        (
            &CallForm::TAGGED,
            "<tool_call>{\"name\": \"add\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call><tool_call>{\"name\":\"add\"}</tool_call>",
            heard("", &[("add", "{\"a\": 1}"), ("add", "{}")]),
        ),
        // No calls: an unknown function, a mark in prose, a mark cut off.
        (
            &CallForm::TAGGED,
            "<tool_call>\n{\"name\": \"fly\", \"arguments\": {}}\n</tool_call>",
            heard(
                "<tool_call>\n{\"name\": \"fly\", \"arguments\": {}}\n</tool_call>",
                &[],
            ),
        ),
        (
            &CallForm::TAGGED,
            "The tag <tool_call> opens, and a < b. ",
            heard("The tag <tool_call> opens, and a < b. ", &[]),
        ),
        (&CallForm::TAGGED, " 1 <tool_ca", heard(" 1 <tool_ca", &[])),
        // Cut off by the limit.
        (
            &CallForm::TAGGED,
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Ro",
            heard("", &[("get_weather", "{\"place\": \"Ro")]),
        ),
        (
            &CallForm::MISTRAL,
            "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Rome\"}, \"id\": \"a1b2c3d4e\"}, \
             {\"name\": \"add\", \"arguments\": {}}]",
            heard("", &[ROME, ("add", "{}")]),
        ),
        (
            &CallForm::MISTRAL,
            "[TOOL_CALLS]{\"name\": \"add\", \"arguments\": {}}",
            heard("", &[("add", "{}")]),
        ),
        (
            &CallForm::GRANITE,
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Rome\"}}]",
            heard("", &[ROME]),
        ),
        (
            &CallForm::BARE,
            "{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Rome\"}}",
            heard("", &[ROME]),
        ),
        (
            &CallForm::BARE,
            "\n{\"type\": \"function\", \"name\": \"add\", \"parameters\": {\"a\": \"1\"}}; {\"name\": \"add\", \"parameters\": null}",
            heard("", &[("add", "{\"a\": \"1\"}"), ("add", "{}")]),
        ),
        (
            &CallForm::BARE,
            "{\"answer\": {\"name\": \"add\"}}",
            heard("{\"answer\": {\"name\": \"add\"}}", &[]),
        ),
        (
            &CallForm::BARE,
            "It is {\"name\": \"add\"}.",
            heard("It is {\"name\": \"add\"}.", &[]),
        ),
        (&CallForm::BARE, "  ", heard("  ", &[])),
    ]
}

#[test]
fn answers_of_the_families_are_read() {
    for (form, answer, expected) in recorded() {
        assert_eq!(hear(form, usize::MAX, [answer]), expected, "{answer}");
    }
}

#[test]
fn cut_at_every_byte_they_say_the_same() {
    for (form, answer, expected) in recorded() {
        let letters = answer
            .char_indices()
            .map(|(at, letter)| &answer[at..at + letter.len_utf8()]);
        assert_eq!(hear(form, usize::MAX, letters), expected, "{answer}");
        for (cut, _) in answer.char_indices() {
            let (one, other) = answer.split_at(cut);
            assert_eq!(hear(form, usize::MAX, [one, other]), expected, "{one}|{other}");
        }
    }
}

#[test]
fn calls_past_the_last_that_may_come_are_left_out() {
    let twice = "<tool_call>{\"name\": \"add\", \"arguments\": {}}</tool_call>".repeat(2);
    assert_eq!(
        hear(&CallForm::TAGGED, 1, [twice.as_str()]),
        heard("", &[("add", "{}")])
    );
}

#[test]
fn the_beginning_of_a_call_that_had_to_come_is_no_text() {
    for cut in ["", "\n", "<tool", "<tool_call>", "<tool_call>\n{\"name\": \"ad"] {
        let mut parser = parser(&CallForm::TAGGED, usize::MAX).of_calls_only();
        assert_eq!((parser.push(cut), parser.finish()), (vec![], vec![]), "{cut}");
    }
}

#[test]
fn names_and_fragments_come_before_the_call_is_whole() {
    let mut parser = parser(&CallForm::TAGGED, usize::MAX);
    assert_eq!(
        parser.push("Well. <tool_call>\n{\"name\": \"add\", "),
        [Said::Text("Well.".into())]
    );
    assert_eq!(
        parser.push("\"arguments\": {\"a\""),
        [
            Said::Call { name: "add".into() },
            Said::Arguments("{\"a\"".into())
        ]
    );
    assert_eq!(parser.push(": 1}"), [Said::Arguments(": 1}".into())]);
    assert_eq!(parser.push("}\n</tool_"), []);
    assert_eq!(parser.push("call>\n"), []);
    assert_eq!(parser.finish(), []);
}

/// Pieces of which calls and near misses are made.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop::sample::select(vec![
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "{\"name\": ",
        "\"add\"",
        "\"fly\"",
        ", \"arguments\": ",
        ", \"parameters\": ",
        "{\"a\": \"é}\"}",
        "{",
        "}",
        "[",
        "]",
        ",",
        ";",
        "\"",
        "\\",
        " ",
        "\n",
        "ü",
        "<tool",
        "null",
        "<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>",
        "{\"name\": \"add\", \"parameters\": {}}",
    ]);
    prop::collection::vec(scrap, 0..12).prop_map(|scraps| scraps.concat())
}

proptest! {
    /// Nothing depends on where an answer is cut, and free text comes out as it went in.
    #[test]
    fn cuts_do_not_matter(answer in scraps(), cuts in prop::collection::vec(1usize..5, 1..40), most in 0usize..4) {
        for form in [CallForm::TAGGED, CallForm::MISTRAL, CallForm::GRANITE, CallForm::BARE] {
            let whole = hear(&form, most, [answer.as_str()]);
            let mut letters = answer.chars().peekable();
            let mut sizes = cuts.iter().cycle();
            let mut pieces = Vec::new();
            while letters.peek().is_some() {
                pieces.push(letters.by_ref().take(*sizes.next().unwrap()).collect::<String>());
            }
            prop_assert_eq!(&hear(&form, most, pieces.iter().map(String::as_str)), &whole);
            prop_assert!(whole.calls.len() <= most);
            if whole.calls.is_empty() && most > 0 {
                prop_assert_eq!(&whole.text, &answer);
            }
        }
    }

    /// What a client's arguments are, they come out byte for byte.
    #[test]
    fn arguments_come_out_as_written(text in any::<String>(), number in any::<i64>(), deep in any::<bool>()) {
        let arguments = if deep { json!({"a": {"b": [text, number]}}) } else { json!({text.clone(): number, "s": text}) };
        let arguments = arguments.to_string();
        let call = format!("{{\"name\": \"add\", \"arguments\": {arguments}}}");
        for (form, answer) in [
            (CallForm::TAGGED, format!("<tool_call>\n{call}\n</tool_call>")),
            (CallForm::MISTRAL, format!("[TOOL_CALLS] [{call}, {call}]")),
            (CallForm::BARE, call.clone()),
        ] {
            let heard = hear(&form, 1, [answer.as_str()]);
            prop_assert_eq!(heard.calls, [("add".to_owned(), arguments.clone())]);
            prop_assert_eq!(heard.text, "");
        }
    }
}
