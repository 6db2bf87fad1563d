"""A lean Llama for training: the same weights and numbers as `LlamaForCausalLM`, without padding the linear layers.

A batch is a few groups of sequences of like length. All groups share one flat row of tokens for every linear layer;
only attention looks at each group as a rectangle. Logits are computed where the loss needs them.
"""

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-5
THETA = 10_000.0


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        d, hd = cfg["hidden_size"], cfg["head_dim"]
        self.heads, self.kv_heads, self.hd = cfg["num_attention_heads"], cfg["num_key_value_heads"], hd
        rows = {"q": self.heads * hd, "k": self.kv_heads * hd, "v": self.kv_heads * hd,
                "gate": cfg["intermediate_size"], "up": cfg["intermediate_size"]}
        for name, out in rows.items():
            self.register_parameter(name, nn.Parameter(torch.randn(out, d) * d**-0.5))
        self.o = nn.Parameter(torch.randn(d, self.heads * hd) * 0.2 * d**-0.5)
        self.down = nn.Parameter(torch.randn(d, cfg["intermediate_size"]) * 0.2 * cfg["intermediate_size"] ** -0.5)
        self.norm_attn = nn.Parameter(torch.ones(d))
        self.norm_mlp = nn.Parameter(torch.ones(d))

    def forward(self, x, cos, sin, groups, wanted=None):
        d = (x.shape[1],)
        heads = F.linear(F.rms_norm(x, d, self.norm_attn, EPS), torch.cat((self.q, self.k, self.v)))
        heads = heads.view(len(x), -1, self.hd)
        turned, value = heads.split((self.heads + self.kv_heads, self.kv_heads), 1)
        low, high = turned.chunk(2, -1)
        turned = torch.cat((low * cos - high * sin, high * cos + low * sin), -1)
        query, key = turned.split((self.heads, self.kv_heads), 1)
        if self.kv_heads != self.heads:
            repeat = self.heads // self.kv_heads
            key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        mixed = []
        sizes = [b * t for b, t in groups]
        for (b, t), q, k, v in zip(groups, query.split(sizes), key.split(sizes), value.split(sizes)):
            q, k, v = (part.view(b, t, self.heads, self.hd).transpose(1, 2) for part in (q, k, v))
            mixed.append(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b * t, -1))
        mixed = torch.cat(mixed)
        if wanted is not None:  # the last block: only some positions are read out
            x, mixed = x[wanted], mixed[wanted]
        x = x + F.linear(mixed, self.o)
        gate, up = F.linear(F.rms_norm(x, d, self.norm_mlp, EPS), torch.cat((self.gate, self.up))).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down)


class Llama(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(cfg["vocab_size"], cfg["hidden_size"]) * 0.05)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(cfg["hidden_size"]))
        frequency = 1.0 / THETA ** (torch.arange(0, cfg["head_dim"], 2).float() / cfg["head_dim"])
        angles = torch.outer(torch.arange(cfg["max_position_embeddings"]).float(), frequency)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids, positions, groups, wanted):
        """Logits at the flat indices `wanted`."""
        x = F.embedding(ids, self.embed)
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        for block in self.blocks[:-1]:
            x = block(x, cos, sin, groups)
        x = self.blocks[-1](x, cos, sin, groups, wanted)
        return F.linear(F.rms_norm(x, (x.shape[1],), self.norm, EPS), self.embed)


HF_NAMES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj", "norm_attn": "input_layernorm", "norm_mlp": "post_attention_layernorm",
}


def hf_state(state):
    """Our state dict under the names `LlamaForCausalLM` uses (the head is tied to the embedding)."""
    named = {"model.embed_tokens.weight": state["embed"], "model.norm.weight": state["norm"]}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, layer, part = name.split(".")
            named[f"model.layers.{layer}.{HF_NAMES[part]}.weight"] = tensor
    return named


def flops_per_token(cfg):
    """Forward FLOPs of one token's matrix products, the head included, attention scores left out."""
    d, hd = cfg["hidden_size"], cfg["head_dim"]
    attention = d * hd * (2 * cfg["num_attention_heads"] + 2 * cfg["num_key_value_heads"])
    return 2 * (cfg["num_hidden_layers"] * (attention + 3 * d * cfg["intermediate_size"]) + d * cfg["vocab_size"])
