//! How a text is cut before byte-level BPE merges within the cuts: `tokenizer.ggml.pre` names the way.

use serde_json::{Value, json};

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT_4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// What llama.cpp cuts by where a file says `default`.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// How byte-level BPE is set up, its parts as `tokenizer.json` writes them.
#[derive(Debug, PartialEq)]
pub struct Pretokenizer {
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Value,
    /// Whether a cut that is a token is that token, whatever the merges would make of it.
    pub whole_cuts_first: bool,
}

/// Whether files of this way expect a begin token unless they say otherwise.
pub fn begins_by_habit(pre: &str) -> bool {
    is_llama3(pre) || pre == "tekken"
}

fn is_llama3(pre: &str) -> bool {
    matches!(
        pre,
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
    )
}

/// # Errors
/// One sentence, for a name that is not known: cutting in another way would change every answer unseen.
pub fn pretokenizer(pre: Option<&str>) -> Result<Pretokenizer, String> {
    let by = |patterns: &[&str]| {
        let mut cuts: Vec<Value> = patterns.iter().map(|pattern| split(pattern)).collect();
        cuts.push(byte_level(false));
        Pretokenizer {
            normalizer: None,
            pre_tokenizer: sequence(cuts),
            whole_cuts_first: false,
        }
    };
    let pre = pre.ok_or(
        "it has no tokenizer.ggml.pre, so how its tokenizer cuts text is unknown; convert the model anew",
    )?;
    Ok(match pre {
        _ if is_llama3(pre) => Pretokenizer {
            whole_cuts_first: true,
            ..by(&[LLAMA3])
        },
        "dbrx" | "smaug-bpe" => by(&[LLAMA3]),
        "qwen2" => Pretokenizer {
            normalizer: Some(json!({"type": "NFC"})),
            ..by(&[QWEN2])
        },
        "deepseek-r1-qwen" | "megrez" | "stablelm2" => by(&[QWEN2]),
        "tekken" => Pretokenizer {
            whole_cuts_first: true,
            ..by(&[TEKKEN])
        },
        "gpt-4o" | "llama4" | "kanana2" => by(&[GPT_4O]),
        "smollm" | "refact" | "starcoder" | "command-r" | "codeshell" => Pretokenizer {
            pre_tokenizer: sequence(vec![
                json!({"type": "Digits", "individual_digits": true}),
                byte_level(true),
            ]),
            ..by(&[])
        },
        "gpt-2" | "phi-2" | "olmo" | "mpt" | "jais" | "trillion" | "granite-docling" | "exaone4" => {
            Pretokenizer {
                pre_tokenizer: byte_level(true),
                ..by(&[])
            }
        }
        "default" => by(&DEFAULT),
        other => {
            return Err(format!(
                "its tokenizer cuts text in the way {other:?}, which is not known here; use the model's safetensors"
            ));
        }
    })
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// `cuts` also cuts as GPT-2 does.
fn byte_level(cuts: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": cuts})
}

fn sequence(parts: Vec<Value>) -> Value {
    json!({"type": "Sequence", "pretokenizers": parts})
}
