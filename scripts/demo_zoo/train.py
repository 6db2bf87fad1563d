"""Training of one model: adaptive task sampling, Muon + AdamW, warm-up, stable rate, decay; resumable."""

import json
import time

import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import presets
from .batches import batches, right_examples
from .model import Llama
from .muon import Muon
from .questions import NAMES, TASKS, Stream
from .tokenizer import encode_examples

POOL = 8_192         # examples made at a time
WARMUP = 100
FLOOR = 0.3          # share of the examples spread evenly over the tasks
EMA = 0.995
SAVE_SECONDS = 150


class Trainer:
    def __init__(self, name, tokenizer, forbidden, work, seed=presets.SEED):
        self.name, self.tokenizer, self.work = name, tokenizer, work
        self.plan = dict(presets.TRAINING[name])
        torch.manual_seed(seed)
        self.model = Llama(presets.SHAPES[name])
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and n != "embed"]
        others = [p for n, p in self.model.named_parameters() if p.ndim != 2 or n == "embed"]
        self.muon = Muon(matrices, lr=self.plan["muon_lr"])
        self.adam = torch.optim.AdamW(others, lr=self.plan["adam_lr"], betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.ema = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.stream = Stream(seed + 1, forbidden)
        self.step, self.seconds = 0, 0.0
        self.error = torch.ones(len(NAMES))
        self.path = work / f"{name}.pt"
        if self.path.exists():
            self._load()

    def _load(self):
        saved = torch.load(self.path, weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        self.ema, self.step, self.seconds, self.error = saved["ema"], saved["step"], saved["seconds"], saved["error"]
        self.plan |= saved["plan"]
        self.stream.rng.setstate(saved["rng"])

    def save(self):
        partial = self.path.with_suffix(".partial")
        torch.save({
            "model": self.model.state_dict(), "muon": self.muon.state_dict(), "adam": self.adam.state_dict(), "ema": self.ema,
            "step": self.step, "seconds": self.seconds, "error": self.error, "plan": self.plan,
            "rng": self.stream.rng.getstate(),
        }, partial)
        partial.replace(self.path)

    def weights(self):
        """Share of each task in the next pool: a floor, and the rest by its recent error and its share of the questions."""
        error = self.error.clamp(min=0.003) * torch.tensor([float(asked) for _, asked in TASKS.values()])
        return (FLOOR / len(NAMES) + (1 - FLOOR) * error / error.sum()).tolist()

    def rate(self):
        """Warm-up, stable, then linear decay to zero."""
        left = self.plan["steps"] - self.step
        return min(1.0, (self.step + 1) / WARMUP, max(left, 0) / self.plan["decay"])

    def _heed_cooldown(self):
        """A file `NAME.cooldown` with a number of steps in it starts the decay now, from the present rate, to end after them."""
        order = self.work / f"{self.name}.cooldown"
        if order.exists():
            steps = int(order.read_text())
            order.unlink()
            self.plan.update(decay=round(steps / self.rate()), steps=self.step + steps)

    def learn(self, batch):
        logits = self.model(batch.ids, batch.positions, batch.groups, batch.wanted)
        # Every answer counts alike whatever its length, softened by a square root.
        counts = torch.bincount(batch.example, minlength=len(batch.tasks)).float()
        weight = counts.rsqrt()[batch.example]
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        rate = self.rate()
        for optimiser, lr in ((self.muon, self.plan["muon_lr"]), (self.adam, self.plan["adam_lr"])):
            for group in optimiser.param_groups:
                group["lr"] = lr * rate
            optimiser.step()
        self.model.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.model.parameters()), 1 - EMA)
            wrong = (~right_examples(batch, logits.argmax(-1))).float()
            count = torch.bincount(batch.tasks, minlength=len(NAMES)).float()
            misses = torch.bincount(batch.tasks, weights=wrong, minlength=len(NAMES))
            kept = 0.99 ** count
            self.error = kept * self.error + (1 - kept) * misses / count.clamp(min=1)
        return loss.item()

    def run(self):
        bar = tqdm(total=self.plan["steps"], initial=self.step, desc=self.name, mininterval=10, smoothing=0.05)
        saved = began = time.monotonic()
        before = self.seconds
        while self.step < self.plan["steps"]:
            drawn = self.stream.take(POOL, self.weights())
            encoded = encode_examples(self.tokenizer, [messages for _, messages in drawn])
            rows = [(task, ids, first) for (task, _), (ids, first) in zip(drawn, encoded)]
            early = self.step < self.plan["early_steps"]
            for batch in batches(rows, self.plan["early_tokens" if early else "tokens"]):
                loss = self.learn(batch)
                self.step += 1
                self.seconds = before + time.monotonic() - began
                self._heed_cooldown()
                bar.total = self.plan["steps"]
                bar.update()
                if self.step >= self.plan["steps"]:
                    break
            bar.set_postfix(loss=f"{loss:.3f}", right=f"{1 - self.error.mean():.3f}")
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
                self._log()
        bar.close()
        self.save()
        self._log()

    def _log(self):
        """One JSON line: where training stands, and the accuracy on fresh questions by task."""
        right = {name: round(1 - e, 3) for name, e in zip(NAMES, self.error.tolist())}
        line = {"step": self.step, "minutes": round(self.seconds / 60, 1), "right": right}
        with open(self.work / f"{self.name}.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
