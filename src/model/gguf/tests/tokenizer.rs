//! Tokenizers are built as the model's own would be.

use super::super::GgufFile;
use super::writer::{Item, Writer};

fn base() -> Writer {
    Writer::default()
        .key("general.architecture", Item::Text("llama"))
        .key("llama.attention.head_count", Item::Count(1))
}

/// Pieces of a toy SentencePiece model: "ab" joins before "bc", "▁a" before either.
const PIECES: [&str; 14] = [
    "<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "<0xA9>", "▁a", "ab", "bc", "▁", "a", "b", "c", "<|end|>",
];

fn pieces() -> Writer {
    let scores = [0., 0., 0., 0., 0., 0., -1., -2., -3., -4., -5., -6., -7., -1000.];
    base()
        .key("tokenizer.ggml.model", Item::Text("llama"))
        .key("tokenizer.ggml.tokens", Item::Texts(&PIECES))
        .key("tokenizer.ggml.scores", Item::Floats(&scores))
        .key(
            "tokenizer.ggml.token_type",
            Item::Counts(&[2, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1, 1, 1, 3]),
        )
}

fn ids(file: &GgufFile, text: &str, special: bool) -> Vec<u32> {
    file.tokenizer()
        .unwrap()
        .encode(text, special)
        .unwrap()
        .get_ids()
        .to_vec()
}

#[test]
fn the_best_scored_pieces_join_first_and_bytes_spell_the_rest() {
    let file = pieces().open().unwrap();
    // "▁a" wins over "ab", which leaves "bc" to join.
    assert_eq!(ids(&file, "abc", false), [6, 8]);
    assert_eq!(ids(&file, "cab", false), [9, 12, 7]);
    assert_eq!(ids(&file, "é\n", false), [9, 4, 5, 3]);
    // No piece and no bytes: unknown, once for a run.
    assert_eq!(ids(&file, "zz", false), [9, 0]);
    assert_eq!(ids(&file, "a", true), [1, 6]);
    assert_eq!(ids(&file, "", true), [1]);
    assert_eq!(ids(&file, "a<|end|>a", false), [6, 13, 6]);
    let tokenizer = file.tokenizer().unwrap();
    assert_eq!(tokenizer.decode(&[6, 8, 9, 10, 4, 5], false).unwrap(), "abc aé");
    assert_eq!(tokenizer.decode(&[1, 6, 13], true).unwrap(), "a");
}

#[test]
fn the_file_says_whether_a_space_goes_before_and_what_is_added() {
    let bare = pieces()
        .key("tokenizer.ggml.add_space_prefix", Item::Flag(false))
        .key("tokenizer.ggml.add_bos_token", Item::Flag(false))
        .key("tokenizer.ggml.add_eos_token", Item::Flag(true))
        .key("tokenizer.ggml.eos_token_id", Item::Count(13))
        .open()
        .unwrap();
    assert_eq!(ids(&bare, "abc", true), [7, 12, 13]);
    assert_eq!(bare.tokenizer().unwrap().decode(&[9, 10], false).unwrap(), " a");
    let config = bare.tokenizer_config();
    assert_eq!(config["add_bos_token"], false);
    assert_eq!(
        (&config["bos_token"], &config["eos_token"]),
        (&"<s>".into(), &"<|end|>".into())
    );
    assert!(config["chat_template"].is_null());
}

#[test]
fn ends_are_those_named_and_those_known() {
    let file = pieces()
        .key("tokenizer.chat_template", Item::Text("{{ messages }}"))
        .open()
        .unwrap();
    let config = file.tokenizer_config();
    assert_eq!(config["eos_token_ids"], serde_json::json!([2, 13]));
    assert_eq!(config["chat_template"], "{{ messages }}");
}

#[test]
fn phi3_swallows_spaces_after_control_tokens() {
    let phi = |name: &str| {
        Writer::default()
            .key("general.architecture", Item::Text("phi3"))
            .key("general.name", Item::Text(name))
            .key("phi3.attention.head_count", Item::Count(1))
            .key("tokenizer.ggml.model", Item::Text("llama"))
            .key(
                "tokenizer.ggml.tokens",
                Item::Texts(&["<unk>", "<s>", "</s>", "▁", "a", "<|end|>"]),
            )
            .key("tokenizer.ggml.scores", Item::Floats(&[0.; 6]))
            .key("tokenizer.ggml.token_type", Item::Counts(&[2, 3, 3, 1, 1, 3]))
            .open()
            .unwrap()
    };
    assert_eq!(
        ids(&phi("Phi-3 Mini"), "<|end|>\n a<s> a", false),
        [5, 3, 4, 1, 3, 3, 4]
    );
    assert_eq!(ids(&phi("Another"), "<|end|> a", false), [5, 3, 3, 4]);
}

/// Byte-level tokens: the letters and "Ġ" for a space, one joined pair, digits, and tokens of other roles.
const TOKENS: [&str; 13] = [
    "a",
    "b",
    "Ġ",
    "ab",
    "Ġab",
    "1",
    "2",
    "12",
    "Ã",
    "©",
    "<|im_end|>",
    "<tool>",
    "Ġa",
];

fn bytes(pre: &str) -> Writer {
    base()
        .key("tokenizer.ggml.model", Item::Text("gpt2"))
        .key("tokenizer.ggml.pre", Item::Text(pre))
        .key("tokenizer.ggml.tokens", Item::Texts(&TOKENS))
        .key(
            "tokenizer.ggml.token_type",
            Item::Counts(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 4, 1]),
        )
        .key(
            "tokenizer.ggml.merges",
            Item::Texts(&["Ġ a", "a b", "Ġ ab", "1 2"]),
        )
        .key("tokenizer.ggml.eos_token_id", Item::Count(10))
}

#[test]
fn byte_level_bpe_cuts_as_the_file_says() {
    let of = |pre: &str, text: &str| ids(&bytes(pre).open().unwrap(), text, true);
    // " ab" is cut whole by all; merges make "Ġa" and "b" of it, which llama-bpe does not ask.
    assert_eq!(of("gpt-2", "ab ab"), [3, 12, 1]);
    assert_eq!(of("llama-bpe", "ab ab"), [3, 4]);
    // Digits: together, one by one, and one by one.
    assert_eq!(of("gpt-2", "12"), [7]);
    assert_eq!(of("llama-bpe", "12"), [7]);
    assert_eq!(of("qwen2", "12"), [5, 6]);
    assert_eq!(of("smollm", "12"), [5, 6]);
    // Qwen composes characters first: "e" with an accent of its own becomes "é".
    assert_eq!(of("qwen2", "e\u{301}"), [8, 9]);
    assert_eq!(of("gpt-2", "a<|im_end|>b<tool>"), [0, 10, 1, 11]);
    let tokenizer = bytes("gpt-2").open().unwrap().tokenizer().unwrap();
    assert_eq!(tokenizer.decode(&[4, 8, 9, 10, 11], true).unwrap(), " abé<tool>");
}

#[test]
fn every_known_way_of_cutting_builds() {
    for pre in [
        "llama-bpe",
        "llama3",
        "dbrx",
        "smaug-bpe",
        "qwen2",
        "deepseek-r1-qwen",
        "tekken",
        "gpt-4o",
        "llama4",
        "smollm",
        "refact",
        "starcoder",
        "gpt-2",
        "olmo",
        "default",
    ] {
        let file = bytes(pre).open().unwrap();
        let tokenizer = file.tokenizer().unwrap();
        let text = "ab 12 ab";
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), text, "{pre}");
    }
}

#[test]
fn what_cannot_be_built_is_named() {
    let refusal = |writer: Writer| writer.open().unwrap().tokenizer().err().unwrap().to_string();
    assert!(refusal(bytes("kimi-k2")).contains("\"kimi-k2\""));
    assert!(refusal(base()).contains("no tokenizer.ggml.tokens"));
    let tokens = |texts: &[&str]| base().key("tokenizer.ggml.tokens", Item::Texts(texts));
    let model = |writer: Writer, model: &str| writer.key("tokenizer.ggml.model", Item::Text(model));
    assert!(refusal(tokens(&["a"])).contains("no tokenizer.ggml.model"));
    assert!(refusal(model(tokens(&["a"]), "bert")).contains("\"bert\""));
    assert!(refusal(model(tokens(&["a"]), "gpt2")).contains("no tokenizer.ggml.pre"));
    assert!(refusal(model(tokens(&["a"]), "llama")).contains("no tokenizer.ggml.scores"));
    let scored = |writer: Writer| writer.key("tokenizer.ggml.scores", Item::Floats(&[0.0, 1.0]));
    assert!(refusal(scored(model(tokens(&["a", "a"]), "llama"))).contains("0 and 1 are the same text"));
    assert!(refusal(scored(model(tokens(&["a", "b", "c"]), "llama"))).contains("speaks of 2 tokens"));
    assert!(refusal(scored(model(tokens(&["a", &"b".repeat(600)]), "llama"))).contains("600 bytes"));
    let past = tokens(&["a"]).key("tokenizer.ggml.eos_token_id", Item::Count(1));
    assert!(refusal(past).contains("eos_token_id is 1, past its 1 tokens"));
    // A merge longer than any token, and one that is no pair.
    for merge in ["Ġab Ġab", "ab", " ", ""] {
        let odd = model(tokens(&["Ġab"]), "gpt2")
            .key("tokenizer.ggml.pre", Item::Text("gpt-2"))
            .key("tokenizer.ggml.merges", Item::Texts(&[merge]));
        assert!(refusal(odd).contains("tokenizer.ggml.merges"), "{merge:?}");
    }
}

#[test]
fn a_tokenizer_larger_than_the_vocabulary_is_refused() {
    let built = || pieces().open().unwrap().tokenizer().unwrap();
    assert!(crate::model::Tokenizer::from_built(built(), 14).is_ok());
    let refused = crate::model::Tokenizer::from_built(built(), 13).err().unwrap();
    assert!(refused.contains("token 13"), "{refused}");
}
