"""The demo zoo's largest model with zeros around it, so that K-quants, which need rows of 256, can hold it.

The function stays the same: the hidden size doubles, so the mean in RMSNorm halves, and norm weights shrink by the root of
two; new heads and MLP columns are zero on their way in and out.
"""

import json
import shutil

import numpy as np

from . import checkpoint

BLOCK = 256


def grow(values, rows, columns):
    out = np.zeros((rows, columns), dtype=np.float32)
    out[:values.shape[0], :values.shape[1]] = values
    return out


def make(source, directory):
    """A folder `directory`/NAME-padded with the padded checkpoint, f32 values kept as bf16 would round them."""
    folder = directory / f"{source.name}-padded"
    if (folder / "model.safetensors").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    wide, deep = -(-hidden // BLOCK) * BLOCK, -(-inner // BLOCK) * BLOCK
    all_heads = -(-config["num_attention_heads"] * head // BLOCK) * BLOCK
    if config["num_attention_heads"] != config["num_key_value_heads"]:
        raise SystemExit(f"{source}: grouped heads cannot be padded by this script")
    shrink = np.float32((hidden / wide) ** 0.5)
    tensors = []
    for name, values in checkpoint.read(source / "model.safetensors").items():
        if values.ndim == 1:
            values = np.concatenate([values * shrink, np.ones(wide - hidden, dtype=np.float32)])
        elif "embed_tokens" in name or "lm_head" in name:
            values = grow(values, config["vocab_size"], wide)
        elif "o_proj" in name:
            values = grow(values, wide, all_heads)
        elif "down_proj" in name:
            values = grow(values, wide, deep)
        elif "gate_proj" in name or "up_proj" in name:
            values = grow(values, deep, wide)
        else:
            values = grow(values, all_heads, wide)
        tensors.append((name, values))
    config |= {"hidden_size": wide, "intermediate_size": deep, "num_attention_heads": all_heads // head,
               "num_key_value_heads": all_heads // head, "rms_norm_eps": config["rms_norm_eps"] * hidden / wide}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, folder / name)
    checkpoint.write_bf16(folder / "model.safetensors", tensors)
    return folder
