#!/usr/bin/env python3
"""Train the demo zoo from nothing: held-out questions, tokenizer, three Llama models, Hugging Face folders, report.

    pip install -r scripts/requirements.txt
    python scripts/train_demo_zoo.py            # everything; resumes where it stopped
    python scripts/train_demo_zoo.py export     # write what the checkpoints hold now
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from demo_zoo import export as exporting
from demo_zoo import presets, questions, report, tokenizer
from demo_zoo.evaluate import by_task, judge
from demo_zoo.train import Trainer

ROOT = Path(__file__).resolve().parent.parent
LANES = (("large",), ("small", "medium"))  # one process a lane, one core a process


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("all", "train", "export"), default="all",
                        help="all: train in two processes, then export; train: only the named models, here; export: only write")
    parser.add_argument("--models", nargs="+", choices=list(presets.SHAPES), default=list(presets.SHAPES), help="which models")
    parser.add_argument("--out", type=Path, default=ROOT / "models" / "demo", help="where the models go (default: models/demo)")
    parser.add_argument("--work", type=Path, default=ROOT / "target" / "demo-zoo",
                        help="checkpoints and logs (default: target/demo-zoo)")
    parser.add_argument("--seed", type=int, default=presets.SEED, help="of questions, tokenizer, weights and examples")
    parser.add_argument("--threads", type=int, default=1, help="threads of each training process")
    return parser.parse_args()


def train(args):
    torch.set_num_threads(args.threads)
    _, forbidden = questions.held_out(args.seed)
    words = tokenizer.build(presets.VOCAB, args.seed)
    for name in args.models:
        Trainer(name, words, forbidden, args.work, args.seed).run()


def train_all(args):
    """Both lanes at once; fail if one fails."""
    lanes = []
    for lane in LANES:
        names = [name for name in lane if name in args.models]
        if names:
            lanes.append(subprocess.Popen([
                sys.executable, __file__, "train", "--models", *names, "--work", args.work, "--seed", str(args.seed),
                "--threads", str(args.threads),
            ]))
    try:
        codes = [lane.wait() for lane in lanes]
    finally:
        for lane in lanes:
            lane.terminate()
    if any(codes):
        sys.exit("a training process failed; run the same command again to resume")


def export(args):
    rows, forbidden = questions.held_out(args.seed)
    questions.write_jsonl(args.out / "questions.jsonl", rows)
    words = tokenizer.build(presets.VOCAB, args.seed)
    sample = tokenizer.encode_examples(words, [[("user", r["question"]), ("assistant", r["reference"])] for r in rows[:12]])
    results = {}
    for name in args.models:
        trainer = Trainer(name, words, forbidden, args.work, args.seed)
        if not trainer.step:
            sys.exit(f"no checkpoint of {name} in {args.work}")
        folder = args.out / name
        exporting.export(name, trainer.ema, words, folder)
        worst = exporting.assert_like_transformers(name, folder, sample)
        table = by_task(rows, judge(exporting.load_exported(name, folder), words, rows))
        results[name] = report.Result(folder, trainer.step, trainer.seconds, trainer.plan, table)
        print(f"{name}: {results[name].accuracy:.1%} of {len(rows)}, step {trainer.step}, {trainer.seconds / 60:.0f} min, "
              f"logits within {worst:.1e} of transformers")
    if len(results) == len(presets.SHAPES):
        (args.out / "README.md").write_text(report.readme(results, len(rows)), encoding="utf-8")
    print(report.accuracy_table(results))


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.what == "train":
        train(args)
        return
    if args.what == "all":
        train_all(args)
    export(args)


if __name__ == "__main__":
    main()
