"""Hugging Face folder -> GGUF (F16), and F16 -> quantised by llama.cpp's own quantiser."""

import ctypes
import json

import gguf
import numpy as np

from . import checkpoint

# kind -> (llama.cpp's file type, every matrix in the named type). Not pure: llama.cpp's usual mixture.
KINDS = {"Q8_0": (7, False), "Q4_0": (2, False), "Q4_K_M": (15, False), "Q4_K": (14, True), "Q6_K": (18, True)}
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def gguf_name(name):
    if name in OUTER:
        return OUTER[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def interleaved(values, heads):
    """llama.cpp's Llama rotates neighbours (0,1), (2,3); Hugging Face's rotates halves: reorder the rows of each head."""
    half = values.shape[0] // heads // 2
    return values.reshape(heads, 2, half, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def tokenizer_of(writer, folder, vocab, eos):
    """Byte-level BPE into the metadata. Entries past the tokenizer's own are marked unused."""
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"]: token["content"] for token in spec["added_tokens"]}
    words = {index: word for word, index in spec["model"]["vocab"].items()} | special
    kinds = []
    for index in range(vocab):
        unused = index not in words or words[index].startswith("<unused")
        kinds.append(gguf.TokenType.UNUSED if unused else gguf.TokenType.CONTROL if index in special else gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if "qwen2" in folder.name else "gpt-2")
    writer.add_token_list([words.get(index, f"<unused{index}>") for index in range(vocab)])
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in spec["model"]["merges"]])
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    index_of = {word: index for index, word in words.items()}
    if settings.get("bos_token"):
        writer.add_bos_token_id(index_of[settings["bos_token"]])
    writer.add_eos_token_id(eos)
    if settings.get("pad_token"):
        writer.add_pad_token_id(index_of[settings["pad_token"]])
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])


def write_f16(folder, out):
    """`folder`: config.json, model.safetensors, tokenizer.json, tokenizer_config.json of a Llama or a Qwen2."""
    config = json.loads((folder / "config.json").read_text())
    arch = config["model_type"]
    if arch not in ("llama", "qwen2"):
        raise SystemExit(f"{folder}: model_type {arch} is not known here: llama and qwen2 are")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    part = out.with_suffix(".part")
    writer = gguf.GGUFWriter(part, arch)
    writer.add_name(folder.name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    tokenizer_of(writer, folder, config["vocab_size"], config["eos_token_id"])
    for name, values in checkpoint.read(folder / "model.safetensors").items():
        if arch == "llama" and ".q_proj." in name:
            values = interleaved(values, heads)
        if arch == "llama" and ".k_proj." in name:
            values = interleaved(values, kv_heads)
        writer.add_tensor(gguf_name(name), values.astype(np.float16 if values.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(out)


def quantise(source, out, kind, threads=2):
    """llama.cpp's quantiser, through its library."""
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = threads
    params.ftype, params.pure = KINDS[kind]
    part = out.with_suffix(".part")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp could not quantise {source} to {kind}; run again with its log on stderr")
    part.rename(out)


def types_of(path):
    """How many tensors of each type a GGUF file holds, as text: what a kind means for this model."""
    counts = {}
    for tensor in gguf.GGUFReader(path).tensors:
        counts[tensor.tensor_type.name] = counts.get(tensor.tensor_type.name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def make(folder, kind, directory):
    """The GGUF of a checkpoint in a kind, made if missing."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = directory / f"{folder.name}-F16.gguf"
    if not whole.exists():
        write_f16(folder, whole)
    if kind == "F16":
        return whole
    out = directory / f"{folder.name}-{kind}.gguf"
    if not out.exists():
        quantise(whole, out, kind)
    return out
