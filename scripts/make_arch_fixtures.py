#!/usr/bin/env python3
"""Reference numbers for every architecture: tiny random models, and what `transformers` computes with them in f32.

One JSON a configuration, tests/fixtures/arch/ARCH-N.json:
  about          what it tests, versions
  config         config.json of the checkpoint
  tensors        name, shape, scale, offset: the weights follow from a rule (arch_fixtures/rule.py), none is stored
  prompt         40 token ids
  last_logits    logits of the prompt's last token
  greedy         the 20 token ids that follow, with the KV cache, as generate() does
  greedy_logits  the logits of these 20 steps, 7 significant digits; the first row is last_logits

    python scripts/make_arch_fixtures.py                 # all
    python scripts/make_arch_fixtures.py llama qwen2     # some
    python scripts/make_arch_fixtures.py --checkpoint DIR llama    # keep the checkpoints too, DIR/llama-1 and so on
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from arch_fixtures import rule
from arch_fixtures.configs import CASES

ROOT = Path(__file__).resolve().parent.parent
PROMPT, STEPS = 40, 20
LEAST_GAP = 1e-3  # between the best two logits of a step, so that greedy text does not hang on rounding
LEAST_IDS = 6  # different ones among the 20: a repeated id would hide a wrong position
LEAST_SPREAD = 0.8  # standard deviation of the logits
MOST_BYTES = 40_000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archs", nargs="*", metavar="ARCH", help=f"which: {', '.join(CASES)} (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "arch", help="default: tests/fixtures/arch")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="write the checkpoints here as well")
    args = parser.parse_args()
    unknown = sorted(set(args.archs) - set(CASES))
    if unknown:
        parser.error(f"unknown architecture {unknown[0]}: choose from {', '.join(CASES)}")
    return args


def legacy(config):
    """The same config.json as transformers 4 wrote it."""
    config = dict(config)
    parameters = config.pop("rope_parameters")
    if "full_attention" in parameters:
        config["rope_local_base_freq"] = parameters["sliding_attention"]["rope_theta"]
        config["sliding_window_pattern"] = config["layer_types"].index("full_attention") + 1
        config.pop("_sliding_window_pattern", None)
        parameters = parameters["full_attention"]
    config.pop("layer_types", None)
    parameters = dict(parameters)
    config["rope_theta"] = parameters.pop("rope_theta")
    if "partial_rotary_factor" in parameters:
        config["partial_rotary_factor"] = parameters.pop("partial_rotary_factor")
    original = parameters.get("original_max_position_embeddings")
    if config["model_type"] == "phi3":
        parameters.pop("original_max_position_embeddings", None)
        config["original_max_position_embeddings"] = original or config.get("original_max_position_embeddings")
    config["rope_scaling"] = None if parameters["rope_type"] == "default" else parameters
    if config["rope_scaling"] and config["model_type"] == "phi3":
        parameters["type"] = parameters.pop("rope_type")
    config["torch_dtype"] = config.pop("dtype", "float32")
    return config


def checkpoint(case, folder):
    """Write the case's checkpoint: config.json and weights by the rule. Return the config and the tensors as they lie on disk."""
    config = AutoConfig.for_model(case.model_type, **case.config)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as weights:
        shapes = {name: list(weights.get_slice(name).get_shape()) for name in weights.keys()}
    tied = "lm_head.weight" not in shapes
    adds_one = case.model_type.startswith("gemma")
    tensors = []
    for name in sorted(shapes):
        scale, offset = rule.scale_and_offset(name, shapes[name], adds_one, tied)
        tensors.append({"name": name, "shape": shapes[name], "scale": scale, "offset": offset})
    save_file({t["name"]: torch.from_numpy(rule.tensor(t["name"], t["shape"], t["scale"], t["offset"])) for t in tensors},
              str(file), metadata={"format": "pt"})
    path = folder / "config.json"
    written = json.loads(path.read_text())
    if case.legacy:
        written = legacy(written)
        path.write_text(json.dumps(written, indent=2))
    return written, tensors


@torch.no_grad()
def run(folder, prompt):
    """Greedy: 20 ids and the logits they were chosen from, [20, vocab]."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[key], f"{folder.name}: {key} {info[key]}"
    model.eval()
    # Before generate(): dynamic rope keeps the largest base it has seen.
    last = model(torch.tensor([prompt]), use_cache=False).logits[0, -1]
    out = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), do_sample=False,
                                max_new_tokens=STEPS, eos_token_id=[], output_logits=True, return_dict_in_generate=True)
    logits = torch.cat(out.logits)
    assert torch.allclose(last, logits[0], atol=1e-4), f"{folder.name}: generate() starts from other logits than forward()"
    return out.sequences[0, len(prompt):].tolist(), logits


def fixture(case, folder):
    config, tensors = checkpoint(case, folder)
    for seed in range(case.seed, case.seed + 50):
        prompt = rule.prompt(seed, PROMPT, config["vocab_size"])
        greedy, logits = run(folder, prompt)
        best = logits.topk(2).values
        gap = (best[:, 0] - best[:, 1]).min().item()
        if gap > LEAST_GAP and len(set(greedy)) >= LEAST_IDS:
            break
    else:
        raise SystemExit(f"{folder.name}: no prompt gives {LEAST_IDS} different ids with the best two logits {LEAST_GAP} apart; change its configuration")
    spread = logits.std().item()
    assert spread > LEAST_SPREAD, f"{folder.name}: logits spread by {spread:.2f} only; raise the scale of its head"
    rounded = [[float(f"{value:.7g}") for value in row] for row in logits.tolist()]
    about = {"what": case.what, "legacy_config": case.legacy, "prompt_seed": seed, "least_gap": round(gap, 5),
             "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    return {"about": about, "config": config, "tensors": tensors, "prompt": prompt, "last_logits": rounded[0], "greedy": greedy,
            "greedy_logits": rounded}, gap, spread


def main():
    args = arguments()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for arch in args.archs or CASES:
            for number, case in enumerate(CASES[arch], 1):
                name = f"{arch}-{number}"
                folder = (args.checkpoint or Path(scratch)) / name
                folder.mkdir(parents=True, exist_ok=True)
                data, gap, spread = fixture(case, folder)
                text = json.dumps(data, separators=(",", ":")) + "\n"
                assert len(text) <= MOST_BYTES, f"{name}: {len(text)} bytes; make its vocabulary smaller"
                (args.out / f"{name}.json").write_text(text)
                print(f"{name:14} {len(text):6} bytes, least gap {gap:.4f}, spread {spread:.2f}, {len(set(data['greedy'])):2} ids: {case.what}")


if __name__ == "__main__":
    main()
