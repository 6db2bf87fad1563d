//! The tokenizer of a file, built as `tokenizer.json` would build it.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use super::architecture::Architecture;
use super::metadata::Metadata;
use super::vocabulary::{Role, Vocabulary};
use super::{pretokenizer, sentencepiece, vocabulary};

/// What stands for a space within SentencePiece's pieces.
const SPACE: &str = "\u{2581}";

pub fn build(
    vocabulary: &Vocabulary,
    metadata: &Metadata,
    architecture: Architecture,
) -> Result<Tokenizer, String> {
    let mut tokenizer = match metadata.text("tokenizer.ggml.model")? {
        Some("gpt2") => byte_level(vocabulary, metadata)?,
        Some("llama") => spaced_pieces(vocabulary, metadata)?,
        Some(other) => {
            return Err(format!(
                "its tokenizer is a {other:?}, and gpt2 (byte-level BPE) and llama (SentencePiece) can be built"
            ));
        }
        None => return Err("it has no tokenizer.ggml.model".to_owned()),
    };
    tokenizer
        .add_tokens(added_tokens(vocabulary, metadata, architecture))
        .map_err(|error| format!("its control tokens cannot be added: {error}"))?;
    if let Some(template) = post_processor(vocabulary, metadata)? {
        tokenizer.with_post_processor(Some(template));
    }
    Ok(tokenizer)
}

/// GPT-2's kind: every byte has a character, merges are listed.
fn byte_level(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<Tokenizer, String> {
    let how = pretokenizer::pretokenizer(metadata.text("tokenizer.ggml.pre")?)?;
    let listed = metadata
        .texts("tokenizer.ggml.merges")?
        .ok_or("it has no tokenizer.ggml.merges")?;
    let ids = ids(vocabulary)?;
    let merges = listed
        .iter()
        .map(|merge| {
            two_pieces(merge)
                // The builder below panics on a result that is longer than every token.
                .filter(|(left, right)| {
                    [*left, *right, &[*left, *right].concat()]
                        .iter()
                        .all(|piece| ids.contains_key(*piece))
                })
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| {
                    "one of its tokenizer.ggml.merges does not join two tokens into a third".to_owned()
                })
        })
        .collect::<Result<Merges, String>>()?;
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(how.whole_cuts_first)
        .build()
        .map_err(|error| format!("its merges do not fit its tokens: {error}"))?;
    let mut tokenizer = Tokenizer::new(model);
    if let Some(normalizer) = how.normalizer {
        let normalizer: NormalizerWrapper = part(normalizer);
        tokenizer
            .with_normalizer(Some(normalizer))
            .map_err(|error| error.to_string())?;
    }
    tokenizer.with_pre_tokenizer(Some(part::<PreTokenizerWrapper>(how.pre_tokenizer)));
    let decoder =
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    tokenizer.with_decoder(Some(part::<DecoderWrapper>(decoder)));
    Ok(tokenizer)
}

fn two_pieces(merge: &str) -> Option<(&str, &str)> {
    // The first character of a half may itself be a space.
    let after_first = merge.chars().next()?.len_utf8();
    let at = after_first + merge[after_first..].find(' ')?;
    Some((&merge[..at], &merge[at + 1..]))
}

/// SentencePiece's kind: spaces are written as a character, what no piece covers is spelled in bytes.
fn spaced_pieces(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<Tokenizer, String> {
    let unknown = vocabulary::special_ids(metadata)
        .unknown
        .and_then(|id| vocabulary.texts.get(id))
        .ok_or("it has no unknown token")?;
    let model = BPE::builder()
        .vocab_and_merges(ids(vocabulary)?, sentencepiece::merges(vocabulary)?)
        .unk_token(unknown.clone())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(|error| format!("its pieces do not fit one another: {error}"))?;
    let prefixed = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let to_pieces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let to_text = json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "});
    let mut normalizers = vec![to_pieces];
    let mut decoders = vec![to_text, json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefixed {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let normalizer: NormalizerWrapper = part(json!({"type": "Sequence", "normalizers": normalizers}));
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizer))
        .map_err(|error| error.to_string())?;
    tokenizer.with_decoder(Some(part::<DecoderWrapper>(
        json!({"type": "Sequence", "decoders": decoders}),
    )));
    Ok(tokenizer)
}

fn ids(vocabulary: &Vocabulary) -> Result<Vocab, String> {
    let mut ids = Vocab::default();
    for (id, text) in vocabulary.texts.iter().enumerate() {
        let id = u32::try_from(id).map_err(|_| "it has more tokens than ids".to_owned())?;
        if let Some(first) = ids.insert(text.clone(), id) {
            return Err(format!("its tokens {first} and {id} are the same text"));
        }
    }
    Ok(ids)
}

fn added_tokens(vocabulary: &Vocabulary, metadata: &Metadata, architecture: Architecture) -> Vec<AddedToken> {
    // Phi-3's own tokenizer swallows the space after its control tokens; its files do not say so.
    let name = metadata
        .text("general.name")
        .ok()
        .flatten()
        .unwrap_or_default()
        .to_lowercase();
    let swallows = architecture == Architecture::Phi3
        && vocabulary::is_sentencepiece(metadata)
        && (name.contains("phi-3") || name.contains("phi3"));
    let tokens = vocabulary.texts.iter().zip(&vocabulary.roles);
    tokens
        .filter(|(_, role)| role.is_added())
        .map(|(text, role)| {
            let special = *role != Role::UserDefined;
            let rstrip = swallows
                && (special || text == "</s>")
                && !matches!(text.as_str(), "<unk>" | "<s>" | "<|endoftext|>");
            AddedToken::from(text.as_str(), special)
                .normalized(false)
                .rstrip(rstrip)
        })
        .collect()
}

/// Puts the begin and end token around a text, where the file wants them.
fn post_processor(
    vocabulary: &Vocabulary,
    metadata: &Metadata,
) -> Result<Option<PostProcessorWrapper>, String> {
    let added = vocabulary::additions(metadata);
    let ids = vocabulary::special_ids(metadata);
    let token = |wanted: bool, id: Option<usize>| {
        let id = id.filter(|_| wanted)?;
        Some((id, vocabulary.texts.get(id)?))
    };
    let (begin, end) = (token(added.begin, ids.begin), token(added.end, ids.end));
    if begin.is_none() && end.is_none() {
        return Ok(None);
    }
    let around = |sequence: &str, segment: u32| -> Vec<Value> {
        let special = |token: Option<(usize, &String)>| {
            token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": segment}}))
        };
        let text = json!({"Sequence": {"id": sequence, "type_id": segment}});
        [special(begin), Some(text), special(end)]
            .into_iter()
            .flatten()
            .collect()
    };
    let specials: serde_json::Map<String, Value> = [begin, end]
        .into_iter()
        .flatten()
        .map(|(id, text)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let (single, mut pair) = (around("A", 0), around("A", 0));
    pair.extend(around("B", 1));
    Ok(Some(part(json!({
        "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials,
    }))))
}

fn part<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("a tokenizer's part is written as tokenizer.json writes it")
}
