#!/usr/bin/env python3
"""Reference vectors of tiny random ModernBERTs: what `transformers` computes with them in f32, mean-pooled.

One JSON a case, tests/fixtures/encoder/NAME.json:
  about      what it tests, versions
  config     config.json of the checkpoint
  tensors    name, shape, scale, offset: the weights follow from a rule (arch_fixtures/rule.py), none is stored
  texts      for each text its token ids, which the tests write as words w3 w17 …, and the mean of last_hidden_state

    python scripts/make_encoder_fixtures.py
"""

import json
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel

from arch_fixtures import rule

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "encoder"
LENGTHS = (1, 7, 40, 130)
CASES = {
    # name: (what it tests, class, legacy config)
    "modernbert-1": ("the bare model, config as transformers 5 writes it", ModernBertModel, False),
    "modernbert-2": ("weights of a masked language model, config as transformers 4 wrote it", ModernBertForMaskedLM, True),
}


def config():
    return ModernBertConfig(vocab_size=120, hidden_size=48, intermediate_size=80, num_hidden_layers=5, num_attention_heads=4,
                            max_position_embeddings=256, local_attention=16, global_attn_every_n_layers=3, attn_implementation="eager",
                            pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)


def legacy(config):
    """The same config.json as transformers 4 wrote it."""
    config = dict(config)
    parameters = config.pop("rope_parameters")
    config.pop("layer_types", None)
    config["global_rope_theta"] = parameters["full_attention"]["rope_theta"]
    config["local_rope_theta"] = parameters["sliding_attention"]["rope_theta"]
    config["global_attn_every_n_layers"] = 3
    config["local_attention"] = 16
    return config


@torch.no_grad()
def fixture(about, kind, old, folder):
    kind(config()).to(torch.float32).save_pretrained(folder)
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as weights:
        shapes = {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}
    tensors = []
    for name in sorted(shapes):
        scale, offset = rule.scale_and_offset(name, shapes[name], False, False)
        tensors.append({"name": name, "shape": shapes[name], "scale": scale, "offset": offset})
    save_file({t["name"]: torch.from_numpy(rule.tensor(t["name"], t["shape"], t["scale"], t["offset"])) for t in tensors},
              str(file), metadata={"format": "pt"})
    model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    model.eval()
    body = model if kind is ModernBertModel else model.model
    texts = []
    for length in LENGTHS:
        ids = rule.prompt(length, length, model.config.vocab_size)
        states = body(torch.tensor([[1, *ids, 2]])).last_hidden_state[0]
        texts.append({"ids": ids, "mean": [float(f"{value:.7g}") for value in states.mean(0).tolist()]})
    written = json.loads((folder / "config.json").read_text())
    return {"about": f"{about}; transformers {transformers.__version__}, torch {torch.__version__}",
            "config": legacy(written) if old else written, "tensors": tensors, "texts": texts}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (about, kind, old) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            text = json.dumps(fixture(about, kind, old, Path(folder)))
        (OUT / f"{name}.json").write_text(text + "\n")
        print(name, len(text), "bytes")


if __name__ == "__main__":
    main()
