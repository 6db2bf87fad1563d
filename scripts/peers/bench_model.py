"""A random checkpoint in the shape of a small Qwen2, with a tokenizer trained on the repository's own text."""

import json
import subprocess
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from . import checkpoint

ROOT = Path(__file__).resolve().parents[2]
NAME = "bench-qwen2-0.4b"
SEED = 20260
VOCAB = 32768
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOS = SPECIALS.index("<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Qwen2's rule of what a word is, so that other servers, which know it by the name "qwen2", cut text as we do.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "vocab_size": VOCAB, "hidden_size": 1024,
    "num_hidden_layers": 20, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 4864,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "tie_word_embeddings": True,
    "use_sliding_window": False, "bos_token_id": 0, "eos_token_id": EOS, "torch_dtype": "bfloat16",
}


def texts():
    """Everything readable that git tracks."""
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0"):
        try:
            yield (ROOT / name).read_text(encoding="utf-8") if name and (ROOT / name).is_file() else ""
        except UnicodeDecodeError:
            continue


def train_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts(), trainer)
    spec = json.loads(tokenizer.to_str())
    words = spec["model"]["vocab"]
    for index in range(len(words), VOCAB):
        words[f"<unused{index}>"] = index
    return spec


def speakable(spec):
    """Which tokens are text of their own: not special, not unused, whole UTF-8. Only these shall ever be answered, so that
    every token shows at once in a stream and no answer ends early."""
    from_symbol = {symbol: byte for byte, symbol in byte_symbols().items()}
    wanted = np.zeros(VOCAB, dtype=bool)
    for word, index in spec["model"]["vocab"].items():
        if index < len(SPECIALS) or word.startswith("<unused"):
            continue
        try:
            wanted[index] = bytes(from_symbol[symbol] for symbol in word).decode("utf-8").isprintable()
        except (UnicodeDecodeError, KeyError):
            continue
    return wanted


def byte_symbols():
    """The printable stand-in of every byte, as byte-level BPE writes them."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return {byte: chr(byte if byte in plain else next(rest)) for byte in range(256)}


def weights(spec):
    """(name, f32 array) of every tensor. Rows of tokens that must not be answered are zero: their logit is 0, never the best."""
    rng = np.random.default_rng(SEED)
    hidden, inner, layers = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_hidden_layers"]
    kv = CONFIG["num_key_value_heads"] * CONFIG["head_dim"]

    def matrix(rows, columns):
        return rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns ** 0.5)

    embeddings = rng.standard_normal((VOCAB, hidden), dtype=np.float32) * np.float32(0.1)
    embeddings[~speakable(spec)] = 0
    yield "model.embed_tokens.weight", embeddings
    for layer in range(layers):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", np.ones(hidden, dtype=np.float32)
        yield at + "post_attention_layernorm.weight", np.ones(hidden, dtype=np.float32)
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            yield f"{at}self_attn.{name}_proj.weight", matrix(rows, hidden)
            yield f"{at}self_attn.{name}_proj.bias", rng.standard_normal(rows, dtype=np.float32) * np.float32(0.1)
        yield at + "self_attn.o_proj.weight", matrix(hidden, hidden)
        yield at + "mlp.gate_proj.weight", matrix(inner, hidden)
        yield at + "mlp.up_proj.weight", matrix(inner, hidden)
        yield at + "mlp.down_proj.weight", matrix(hidden, inner)
    yield "model.norm.weight", np.full(hidden, 2, dtype=np.float32)


def make(directory):
    """The checkpoint's folder under `directory`, made if missing."""
    folder = directory / NAME
    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    spec = train_tokenizer()
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "eos_token": SPECIALS[EOS], "pad_token": SPECIALS[0],
        "add_bos_token": False, "model_max_length": CONFIG["max_position_embeddings"], "chat_template": TEMPLATE}, indent=2))
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS, "bos_token_id": 0}))
    part = folder / "model.part"
    checkpoint.write_bf16(part, list(weights(spec)))
    part.rename(folder / "model.safetensors")
    return folder


def word_ids(folder):
    """Ids of tokens that are one whole lower-case word after a space: any sequence of them, as text, is cut back into them."""
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return {index: word for word, index in spec["model"]["vocab"].items()
            if word[0] == "Ġ" and len(word) > 3 and word[1:].isascii() and word[1:].isalpha() and word[1:].islower()}


def prompts(folder, count, tokens, seed):
    """`count` different texts of exactly `tokens` tokens; returns (text, ids) pairs."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = word_ids(folder)
    pool = np.array([index for index in sorted(words)
                     if tokenizer.encode(words[index].replace("Ġ", " "), add_special_tokens=False).ids == [index]])
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        ids = rng.choice(pool, tokens).tolist()
        text = "".join(words[index].replace("Ġ", " ") for index in ids)
        if tokenizer.encode(text, add_special_tokens=False).ids != ids:
            raise SystemExit("the bench tokenizer cuts a prompt otherwise than it was made; delete the checkpoint and make it again")
        made.append((text, ids))
    return made
