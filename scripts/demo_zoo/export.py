"""Writing a model as a Hugging Face folder, and checking it against `transformers`."""

import json

import torch
from safetensors.torch import load_file, save_file

from . import presets
from .batches import collate
from .model import EPS, THETA, Llama, hf_state
from .tokenizer import BOS, END, PAD, save as save_tokenizer


def hf_config(name, tokenizer):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "hidden_act": "silu",
        **presets.SHAPES[name],
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "torch_dtype": "bfloat16",
    }


def generation_config(tokenizer):
    return {
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(END),
        "pad_token_id": tokenizer.token_to_id(PAD),
        "do_sample": False,
        "max_new_tokens": 128,
    }


def export(name, state, tokenizer, folder):
    """Write `state` (our names, f32) as bf16 under `folder`."""
    save_tokenizer(tokenizer, folder)
    for file, content in (("config.json", hf_config(name, tokenizer)), ("generation_config.json", generation_config(tokenizer))):
        (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tensors = {key: value.detach().to(torch.bfloat16).contiguous() for key, value in hf_state(state).items()}
    file = folder / "model.safetensors"
    save_file(tensors, str(file), metadata={"format": "pt"})
    file.chmod(0o644)


def load_exported(name, folder):
    """The exported bf16 weights in f32, in our lean model."""
    model = Llama(presets.SHAPES[name])
    saved = load_file(str(folder / "model.safetensors"))
    ours = model.state_dict()
    names = hf_state({key: key for key in ours})  # their name -> our name
    model.load_state_dict({our: saved[theirs].float() for theirs, our in names.items()})
    return model.eval()


@torch.no_grad()
def assert_like_transformers(name, folder, encoded):
    """Fail unless our logits equal those of `LlamaForCausalLM` on `encoded` examples."""
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_exported(name, folder)
    worst = 0.0
    for ids, _ in encoded:
        batch = collate([(0, ids + [0], 1)])
        mine = ours(batch.ids, batch.positions, batch.groups, torch.arange(len(ids)))
        worst = max(worst, (mine - theirs(torch.tensor([ids])).logits[0]).abs().max().item())
    assert worst < 1e-3, f"{name}: logits differ from transformers by {worst}"
    return worst
