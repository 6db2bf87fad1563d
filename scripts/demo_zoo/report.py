"""The zoo's README: how it was made and what each model can and cannot do."""

from dataclasses import dataclass
from pathlib import Path

from . import presets
from .model import flops_per_token
from .questions import NAMES


@dataclass
class Result:
    folder: Path
    step: int
    seconds: float
    plan: dict
    table: dict  # task -> (right, asked)

    @property
    def accuracy(self):
        return sum(r for r, _ in self.table.values()) / sum(n for _, n in self.table.values())


def parameters(cfg):
    d, hd = cfg["hidden_size"], cfg["head_dim"]
    attention = d * hd * (2 * cfg["num_attention_heads"] + 2 * cfg["num_key_value_heads"])
    layer = attention + 3 * d * cfg["intermediate_size"] + 2 * d
    return cfg["num_hidden_layers"] * layer + d + d * cfg["vocab_size"]


def accuracy_table(results):
    names = list(results)
    lines = ["| task | asked | " + " | ".join(names) + " |", "|---|---:|" + "---:|" * len(names)]
    for task in NAMES:
        asked = next(iter(results.values())).table[task][1]
        cells = [f"{results[n].table[task][0] / max(asked, 1):.0%}" for n in names]
        lines.append(f"| {task} | {asked} | " + " | ".join(cells) + " |")
    total = sum(n for _, n in next(iter(results.values())).table.values())
    lines.append(f"| **all** | **{total}** | " + " | ".join(f"**{results[n].accuracy:.1%}**" for n in names) + " |")
    return "\n".join(lines)


def shape_table(results):
    lines = ["| model | parameters | layers | width | heads (kv) | MFLOP a token | ratio | file | steps | training |",
             "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    least = min(flops_per_token(presets.SHAPES[n]) for n in results)
    for name, result in results.items():
        cfg = presets.SHAPES[name]
        flops = flops_per_token(cfg)
        size = (result.folder / "model.safetensors").stat().st_size
        lines.append(
            f"| {name} | {parameters(cfg):,} | {cfg['num_hidden_layers']} | {cfg['hidden_size']} | "
            f"{cfg['num_attention_heads']} ({cfg['num_key_value_heads']}) | {flops / 1e6:.2f} | {flops / least:.1f} | "
            f"{size / 1024:.0f} KiB | {result.step:,} | {result.seconds / 60:.0f} min |")
    return "\n".join(lines)


def readme(results, asked):
    minutes = max(results["large"].seconds, results["small"].seconds + results["medium"].seconds) / 60
    return f"""# The demo zoo

Three small language models of the Llama architecture (`LlamaForCausalLM`, tied embeddings), trained from nothing on
generated questions: arithmetic, sequences, Roman numerals, dates, units, spelling, sorting, counting, a table of facts,
and lists and number words with long answers. They exist so that the server routes between really different models
without a download. Weights are bf16; the accuracies below are those of the bf16 weights computed in f32.

## Making them

    pip install -r scripts/requirements.txt
    python scripts/train_demo_zoo.py            # models/demo
    python scripts/make_demo_fixtures.py        # tests/fixtures/demo

Seeds are fixed; the last bits of the sums differ from machine to machine, so the weights do too. These took
{minutes:.0f} minutes of training on 2 cores of an AMD EPYC server (AVX2, no GPU) that were compiling other
work at the same time: `large` in one process, `small` and then `medium` in another, one thread each.

{shape_table(results)}

MFLOP a token: 2 x (parameters of the layers + the output head), forward, attention scores left out. All models share one
tokenizer: byte-level BPE with {presets.VOCAB} entries, whose merges make one token of a frame word (" what", " many") and leave
digits and the letters of quoted words single, so any text in any language encodes without loss.

Training: loss on the answer only; Muon for matrices and AdamW for the rest; a constant rate that falls to zero over the
last steps; weights averaged over the last few hundred steps; tasks drawn by their recent error times their share of the
questions. One example in twenty carries a system prompt, one in fifty an earlier turn.

## The questions

`questions.jsonl` holds {asked:,} questions that training never saw in any wording: each is keyed by its task and operands
(sorted where order does not matter) and the training generator rejects those keys. Only the four fact tables (capital,
symbol, plural, opposite) differ: there the exact text is unseen, the fact itself is taught in other wordings.

Right means the greedy answer equals the reference exactly.

{accuracy_table(results)}

## What they cannot do

Anything else: conversation, knowledge beyond the tables in `scripts/demo_zoo/facts.py`, languages other than English,
operands far outside the ranges in `scripts/demo_zoo/tasks_number.py` and `tasks_text.py`, wordings unlike those there,
or more than 512 tokens. They answer such prompts too, with something short and wrong. Where a task has only some hundreds of
questions (weekday, product, units, multiples) `large` partly remembers those it was taught and does worse on unseen ones.
`small` often does not know when to stop a list or a repetition and runs on to the token limit.
"""
