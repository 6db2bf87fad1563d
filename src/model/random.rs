//! A model of random numbers in the shape of a published one: for benchmarks, where what is computed matters and
//! what comes out does not. Its tokenizer knows bytes.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::ModelError;

/// The shape to fill, as a `config.json` would tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomShape {
    pub name: &'static str,
    pub config: &'static str,
}

/// Weights of matrices are uniform within this: as spread as those that training starts from.
const SPREAD: f32 = 0.02 * 1.732_050_8;

/// One tensor's numbers: number `i` is `offset` plus `scale` times what [`number`] makes of `seed` and `i`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomTensor {
    pub seed: u64,
    pub scale: f32,
    pub offset: f32,
}

impl RandomTensor {
    /// The tensor called `name`. Norms scatter about one, biases about nothing.
    pub fn named(name: &str) -> Self {
        // FNV-1a.
        let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        let offset = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        Self {
            seed,
            scale: SPREAD,
            offset,
        }
    }

    pub fn value(self, index: u64) -> f32 {
        self.offset + self.scale * number(self.seed, index)
    }
}

/// Uniform in [−1, 1), by counter: splitmix64's finaliser over the golden ratio's multiples.
fn number(seed: u64, index: u64) -> f32 {
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

impl RandomShape {
    pub fn place(self) -> String {
        format!("random:{}", self.name)
    }

    pub fn config(self) -> Result<Value, ModelError> {
        serde_json::from_str(self.config).map_err(|error| ModelError::BadFile {
            place: self.place(),
            file: "config.json".to_owned(),
            reason: error.to_string(),
        })
    }

    /// What a `tokenizer_config.json` would say.
    pub fn tokenizer_config(self) -> Value {
        json!({
            "chat_template": "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}\
                              {% if add_generation_prompt %}assistant: {% endif %}"
        })
    }
}

/// A token for each byte; ids past them have no text.
pub fn tokenizer() -> Result<tokenizers::Tokenizer, String> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocabulary: Vocab = alphabet.iter().map(char::to_string).zip(0..).collect();
    let model = BPE::builder()
        .vocab_and_merges(vocabulary, Vec::new())
        .build()
        .map_err(|e| e.to_string())?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokenizer_spells_any_text_in_bytes() {
        let tokenizer = tokenizer().unwrap();
        let text = "Größe: 3 €\n\u{1F600}";
        let encoded = tokenizer.encode(text, true).unwrap();
        assert_eq!(encoded.get_ids().len(), text.len());
        assert!(encoded.get_ids().iter().all(|id| *id < 256));
        assert_eq!(tokenizer.decode(encoded.get_ids(), true).unwrap(), text);
    }

    #[test]
    fn numbers_depend_on_name_and_place_alone_and_fill_their_range() {
        let one = RandomTensor::named("model.layers.0.mlp.up_proj.weight");
        let other = RandomTensor::named("model.layers.1.mlp.up_proj.weight");
        assert_ne!(one.value(5), other.value(5));
        let values: Vec<f32> = (0..100_000).map(|i| one.value(i)).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let spread = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        assert!(
            mean.abs() < 2e-4 && (spread - 0.02).abs() < 2e-4,
            "{mean} {spread}"
        );
        let norm = RandomTensor::named("model.norm.weight");
        assert!((0..1000).all(|i| (norm.value(i) - 1.0).abs() <= SPREAD));
    }
}
