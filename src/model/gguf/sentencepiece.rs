//! SentencePiece's BPE as merges: its files have a score for each piece, and the best-scored piece is joined first.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::vocabulary::{Role, Vocabulary};

/// Finding a piece's halves takes time by the square of its length; a real piece has some hundred bytes at most.
const LONGEST_PIECE: usize = 512;

/// All ways to join two pieces into a third, best first, in the order that transformers' own conversion has.
pub fn merges(vocabulary: &Vocabulary) -> Result<Vec<(String, String)>, String> {
    if vocabulary.scores.is_empty() {
        return Err(
            "it has no tokenizer.ggml.scores, without which SentencePiece cannot join pieces".to_owned(),
        );
    }
    let is_piece = |id: usize| vocabulary.roles[id] == Role::Normal;
    let ids: HashMap<&str, usize> = vocabulary
        .texts
        .iter()
        .enumerate()
        .filter(|(id, _)| is_piece(*id))
        .map(|(id, text)| (text.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    for (id, text) in vocabulary
        .texts
        .iter()
        .enumerate()
        .filter(|(id, _)| is_piece(*id))
    {
        if text.len() > LONGEST_PIECE {
            return Err(format!(
                "its token {id} has {} bytes, and pieces of up to {LONGEST_PIECE} make sense",
                text.len()
            ));
        }
        let mut halves: Vec<(usize, usize)> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| Some((*ids.get(&text[..at])?, *ids.get(&text[at..])?)))
            .collect();
        halves.sort_unstable();
        merges.extend(halves.into_iter().map(|(left, right)| (id, left, right)));
    }
    let characters: Vec<u32> = vocabulary
        .texts
        .iter()
        .map(|text| text.chars().count() as u32)
        .collect();
    // Stable: merges that compare equal stay in the order of their ids.
    merges.sort_by(|a, b| {
        vocabulary.scores[b.0]
            .total_cmp(&vocabulary.scores[a.0])
            .then_with(|| {
                Reverse((characters[a.1], characters[a.2])).cmp(&Reverse((characters[b.1], characters[b.2])))
            })
    });
    let text = |id: usize| vocabulary.texts[id].clone();
    Ok(merges
        .into_iter()
        .map(|(_, left, right)| (text(left), text(right)))
        .collect())
}
