use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Inner;

use super::*;

/// A tokenizer whose vocabulary is `entries`, then the special tokens `<s>` and `<|end|>`.
fn tokenizer(entries: &[String], byte_fallback: bool, decoder: Value) -> Tokenizer {
    let mut vocab: serde_json::Map<String, Value> = serde_json::Map::new();
    for entry in entries {
        let id = vocab.len();
        vocab.entry(entry.clone()).or_insert_with(|| id.into());
    }
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let first = vocab.len();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": decoder,
        "added_tokens": [special(first, "<s>"), special(first + 1, "<|end|>")],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": byte_fallback,
                  "ignore_merges": false, "vocab": vocab, "merges": []},
    });
    Tokenizer::new(Inner::from_bytes(file.to_string()).unwrap())
}

/// Every byte in GPT-2's alphabet, and a few longer tokens that cut characters anywhere.
fn byte_level() -> Tokenizer {
    let shows_itself = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    let alphabet: Vec<char> = (0..=u8::MAX)
        .map(|byte| {
            if shows_itself(byte) {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect();
    let spelled = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|&b| alphabet[usize::from(b)])
            .collect::<String>()
    };
    let mut entries: Vec<String> = (0..=u8::MAX).map(|b| spelled(&[b])).collect();
    for text in [" the", "👩\u{200D}🚀", "é!", "東京", "\n\n"] {
        let bytes = text.as_bytes();
        entries.push(spelled(bytes));
        entries.push(spelled(&bytes[1..]));
        entries.push(spelled(&bytes[..bytes.len() - 1]));
    }
    tokenizer(
        &entries,
        false,
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    )
}

fn sentence_piece(decoder: Value) -> Tokenizer {
    let mut entries: Vec<String> = (0..=u8::MAX).map(|b| format!("<0x{b:02X}>")).collect();
    entries.extend(["▁", "▁▁", "▁the", "a", "b▁", "é", "東", "🚀"].map(str::to_owned));
    tokenizer(&entries, true, decoder)
}

/// Llama 2, Mistral, Phi-3.
fn stripping() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
}

/// Gemma.
fn keeping() -> Value {
    json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]})
}

fn all() -> Vec<Tokenizer> {
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    vec![
        byte_level(),
        sentence_piece(stripping()),
        sentence_piece(keeping()),
        sentence_piece(metaspace("always")),
        sentence_piece(metaspace("never")),
    ]
}

fn pieces_of(tokenizer: &Tokenizer, before: &[u32], ids: &[u32]) -> Vec<String> {
    let before: Vec<TokenId> = before.iter().copied().map(TokenId).collect();
    let mut detokenizer = Detokenizer::after(&before);
    let mut pieces: Vec<String> = ids
        .iter()
        .map(|id| detokenizer.push(tokenizer, TokenId(*id)))
        .collect();
    pieces.push(detokenizer.finish(tokenizer));
    pieces
}

fn ids(tokenizer: &Tokenizer) -> u32 {
    tokenizer.pieces().unwrap().count() as u32
}

proptest! {
    /// What the whole decodes to is what the pieces say, wherever the prompt ends.
    #[test]
    fn pieces_make_up_the_whole(which in 0usize..5, raw in prop::collection::vec(any::<u32>(), 0..40), cut in 0usize..40, text in "[a東é🚀 \n]{0,12}") {
        let tokenizer = &all()[which];
        // Random tokens, then the bytes of a text, so that much of it is valid.
        let single = |byte: u8| (0..ids(tokenizer)).find(|id| tokenizer.pieces().unwrap().bytes(TokenId(*id)) == [byte]);
        let mut tokens: Vec<u32> = raw.iter().map(|id| id % ids(tokenizer)).collect();
        tokens.extend(text.bytes().filter_map(single));
        let (before, answer) = tokens.split_at(cut.min(tokens.len()));
        let said = pieces_of(tokenizer, before, answer).concat();
        let decode = |ids: &[u32]| tokenizer.inner().decode(ids, true).unwrap();
        let (prompt, whole) = (decode(before), decode(&tokens));
        // A metaspace decoder forgets what one token's other signs meant; half characters show as they please.
        if !whole.contains('\u{FFFD}') && !prompt.contains('\u{FFFD}') {
            if which != 3 {
                prop_assert_eq!(prompt + &said, whole);
            } else {
                prop_assert_eq!((prompt + &said).replace(' ', ""), whole.replace(' ', ""));
            }
        }
    }

    /// GPT-2's bytes show as the decoder shows them even where they are no text.
    #[test]
    fn invalid_bytes_show_as_in_the_whole(raw in prop::collection::vec(0u32..271, 0..30)) {
        let tokenizer = byte_level();
        prop_assert_eq!(pieces_of(&tokenizer, &[], &raw).concat(), tokenizer.inner().decode(&raw, true).unwrap());
    }
}

#[test]
fn an_emoji_of_many_tokens_comes_whole() {
    let tokenizer = byte_level();
    let bytes = "a👩\u{200D}🚀b".bytes().map(u32::from).collect::<Vec<_>>();
    let shown: Vec<String> = pieces_of(&tokenizer, &[], &bytes)
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect();
    assert_eq!(shown, ["a", "👩", "\u{200D}", "🚀", "b"]);
}

#[test]
fn an_answer_keeps_the_space_it_begins_with_unless_it_begins_the_text() {
    let tokenizer = sentence_piece(stripping());
    let the = tokenizer.token("▁the").unwrap().0;
    let (a, begin) = (tokenizer.token("a").unwrap().0, tokenizer.token("<s>").unwrap().0);
    assert_eq!(pieces_of(&tokenizer, &[begin], &[the, the]).concat(), "the the");
    assert_eq!(
        pieces_of(&tokenizer, &[begin, a], &[the, the]).concat(),
        " the the"
    );
}

#[test]
fn special_tokens_are_no_text_and_half_characters_survive_them() {
    let tokenizer = byte_level();
    let end = tokenizer.token("<|end|>").unwrap().0;
    assert_eq!(pieces_of(&tokenizer, &[], &[0xC3, end, 0xA9, end]).concat(), "é");
    assert_eq!(pieces_of(&tokenizer, &[], &[0xC3]), ["", "\u{FFFD}"]);
    assert_eq!(
        pieces_of(&tokenizer, &[], &[0xC3, 0xC3, u32::from(b'a')]),
        ["", "\u{FFFD}", "\u{FFFD}a", ""]
    );
}

#[test]
fn a_token_costs_the_same_however_long_the_answer_is() {
    // Bytes that are never a text would pile up in a decoder that waits for one.
    let tokenizer = byte_level();
    let mut detokenizer = Detokenizer::default();
    for _ in 0..10_000 {
        detokenizer.push(&tokenizer, TokenId(0x80));
        assert!(detokenizer.held.len() <= 3);
    }
}

#[test]
fn other_decoders_are_asked() {
    let entries = ["hello", "##wor", "ld"].map(str::to_owned);
    let tokenizer = tokenizer(
        &entries,
        false,
        json!({"type": "WordPiece", "prefix": "##", "cleanup": false}),
    );
    assert!(tokenizer.pieces().is_none());
    assert_eq!(pieces_of(&tokenizer, &[], &[0, 1, 2]).concat(), "hellowor ld");
}
