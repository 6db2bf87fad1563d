"""Weights from a rule, so that a fixture needs to name its tensors only; the tests in Rust compute the same values."""

import numpy as np

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
LAST_NORMS = ("model.norm.weight", "model.final_layernorm.weight")


def fnv1a64(text):
    """The 64-bit FNV-1a hash of the text's UTF-8 bytes."""
    h = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        h = ((h ^ byte) * 0x100000001B3) & MASK
    return h


def splitmix64(z):
    """splitmix64's finaliser over an array of u64."""
    z = z ^ (z >> np.uint64(30))
    z = z * np.uint64(0xBF58476D1CE4E5B9)
    z = z ^ (z >> np.uint64(27))
    z = z * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def unit(name, count):
    """`count` f32 in [-1, 1), a function of the name and the index only."""
    index = np.arange(count, dtype=np.uint64)
    z = splitmix64(np.uint64(fnv1a64(name)) + index * np.uint64(GOLDEN))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def tensor(name, shape, scale, offset):
    """offset + scale * unit, every operation in f32."""
    count = int(np.prod(shape))
    return (np.float32(offset) + np.float32(scale) * unit(name, count)).reshape(shape)


def scale_and_offset(name, shape, norms_add_one, tied):
    """What keeps activations near one and logits apart: (scale, offset) of a tensor, by its name.

    A tied head would only repeat the last token if embeddings outweighed the layers: they are small there, and the last
    norm makes up for it.
    """
    if name.endswith(".bias"):
        return 0.2, 0.0
    if len(shape) == 1:
        offset = 4.0 if tied and name in LAST_NORMS else 1.0
        return 0.3, offset - 1.0 if norms_add_one else offset
    if "embed_tokens" in name:
        return 0.15 if tied else 1.0, 0.0
    gain = 5.0 if name.startswith("lm_head") else 1.7
    return round(gain / shape[-1] ** 0.5, 4), 0.0


def prompt(seed, length, vocab):
    """`length` token ids, none below 3, where tiny vocabularies keep their special tokens."""
    index = np.arange(length, dtype=np.uint64)
    z = splitmix64(np.uint64(fnv1a64(f"prompt {seed}")) + index * np.uint64(GOLDEN))
    return [3 + int(value) for value in (z >> np.uint64(33)) % np.uint64(vocab - 3)]
