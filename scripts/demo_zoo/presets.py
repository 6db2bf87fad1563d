"""The three models: their shapes and their training."""

VOCAB = 640
SEED = 20

_COMMON = {
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
}
SHAPES = {
    "small": {**_COMMON, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
              "head_dim": 16, "intermediate_size": 128},
    "medium": {**_COMMON, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3,
               "head_dim": 32, "intermediate_size": 224},
    "large": {**_COMMON, "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
              "head_dim": 32, "intermediate_size": 344},
}
# steps: all optimiser steps; decay: how many of the last ones bring the rates down to zero; tokens: of a batch, which is
# smaller for the first early_steps (many small steps teach faster at first).
TRAINING = {
    "small": {"steps": 3_600, "decay": 600, "tokens": 4_096, "early_steps": 0, "early_tokens": 4_096,
              "muon_lr": 0.02, "adam_lr": 4e-3},
    "medium": {"steps": 9_000, "decay": 2_000, "tokens": 3_072, "early_steps": 1_500, "early_tokens": 1_536,
               "muon_lr": 0.012, "adam_lr": 1e-3},
    "large": {"steps": 9_000, "decay": 3_000, "tokens": 3_072, "early_steps": 2_000, "early_tokens": 1_536,
              "muon_lr": 0.012, "adam_lr": 1e-3},
}
