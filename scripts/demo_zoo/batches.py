"""From encoded examples to batches: random examples, grouped by like length inside each batch."""

from dataclasses import dataclass

import torch


@dataclass
class Batch:
    ids: torch.Tensor        # every token of every group, flat
    positions: torch.Tensor  # position of each token in its sequence
    groups: list             # (rows, padded length) of each group
    wanted: torch.Tensor     # flat indices whose logits predict an answer token
    targets: torch.Tensor    # the tokens to predict there
    example: torch.Tensor    # which example (its index in `tasks`) each target belongs to
    tasks: torch.Tensor      # the task of each example
    tokens: int


def _groups(order, lengths, waste):
    """Cut the length-sorted examples where padding would exceed `waste` of the longest."""
    start = 0
    for i in range(1, len(order) + 1):
        if i == len(order) or lengths[order[i]] > lengths[order[start]] * (1 + waste) + 2:
            yield order[start:i]
            start = i


def collate(rows, waste=0.25):
    """`rows` of (task number, ids, index of the first answer token)."""
    lengths = [len(ids) for _, ids, _ in rows]
    order = sorted(range(len(rows)), key=lengths.__getitem__)
    flat, positions, groups, wanted, targets, example = [], [], [], [], [], []
    for group in _groups(order, lengths, waste):
        width = lengths[group[-1]] - 1  # the last token is only ever a target
        for row in group:
            _, ids, first = rows[row]
            base = len(flat)
            flat += ids[:-1]
            flat += [0] * (width - len(ids) + 1)
            wanted += range(base + first - 1, base + len(ids) - 1)
            targets += ids[first:]
            example += [row] * (len(ids) - first)
        positions += list(range(width)) * len(group)
        groups.append((len(group), width))
    return Batch(
        torch.tensor(flat), torch.tensor(positions), groups, torch.tensor(wanted), torch.tensor(targets),
        torch.tensor(example), torch.tensor([task for task, _, _ in rows]), len(flat),
    )


def batches(rows, tokens):
    """Consecutive batches of about `tokens` tokens."""
    start, size = 0, 0
    for i, (_, ids, _) in enumerate(rows):
        size += len(ids)
        if size >= tokens:
            yield collate(rows[start : i + 1])
            start, size = i + 1, 0


def right_examples(batch, best):
    """Per example, whether every answer token is the arg-max: exactly when greedy decoding gives the reference."""
    wrong = torch.zeros(len(batch.tasks), dtype=torch.bool)
    wrong[batch.example[best != batch.targets]] = True
    return ~wrong
