"""Exact-match accuracy of greedy answers.

Greedy decoding gives the reference exactly when, reading the reference, every answer token (the end token too) is the
arg-max; so one pass over question and reference decides, without decoding.
"""

import torch

from .batches import collate, right_examples
from .questions import NAMES
from .tokenizer import encode_examples


@torch.no_grad()
def judge(model, tokenizer, rows):
    """For each question whether the greedy answer is the reference."""
    encoded = encode_examples(tokenizer, [[("user", r["question"]), ("assistant", r["reference"])] for r in rows])
    data = [(NAMES.index(r["task"]), ids, first) for r, (ids, first) in zip(rows, encoded)]
    verdicts, start = [], 0
    while start < len(data):
        chunk = data[start : start + 256]
        batch = collate(chunk)
        best = model(batch.ids, batch.positions, batch.groups, batch.wanted).argmax(-1)
        verdicts += right_examples(batch, best).tolist()
        start += len(chunk)
    return verdicts


def by_task(rows, verdicts):
    """task -> (right, asked), in the register's order."""
    table = {name: [0, 0] for name in NAMES}
    for row, right in zip(rows, verdicts):
        table[row["task"]][0] += right
        table[row["task"]][1] += 1
    return table
