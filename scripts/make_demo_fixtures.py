#!/usr/bin/env python3
"""Reference numbers for the tests: what `transformers` computes, in f32, from the demo zoo's exported weights.

For each model, under tests/fixtures/demo/NAME:
  logits.safetensors  prompt_N.ids (i64) and prompt_N.logits (f32): all positions of prompt 0, the last of the others
  greedy.jsonl        question, token ids of the prompt, greedy text and token ids, for 200 of the questions

    python scripts/make_demo_fixtures.py
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("small", "medium", "large")
PROMPTS = (
    [("user", "What is 47 + 35?")],
    [("user", "The capital of Peru?")],
    [("user", 'Spell the word "lantern".')],
    [("system", "You are a helpful assistant."), ("user", "Count from 5 to 14.")],
    [("user", "What date is 10 days after 25 March?")],
    [("user", "What is 12 * 7?"), ("assistant", "84"), ("user", "Which is larger: 512, 521 or 498?")],
    [("user", "Grüße aus Köln – wie geht es dir? 東京は晴れです。 🙂 What is it?\n\n\tTell   me.")],
    [("system", "Answer briefly."), ("user", 'Sort these words alphabetically: "pear","fig","apple","plum"'),
     ("assistant", "apple,fig,pear,plum"), ("user", 'Put in alphabetical order: "stone","river","cloud"')],
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models" / "demo", help="the exported zoo (default: models/demo)")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "demo", help="default: tests/fixtures/demo")
    parser.add_argument("--questions", type=int, default=200, help="how many questions to answer greedily (default: 200)")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    return parser.parse_args()


def template_ids(tokenizer, turns):
    messages = [{"role": role, "content": text} for role, text in turns]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def logits(model, tokenizer):
    tensors = {}
    for number, turns in enumerate(PROMPTS):
        _, ids = template_ids(tokenizer, turns)
        out = model(torch.tensor([ids])).logits[0]
        tensors[f"prompt_{number}.ids"] = torch.tensor(ids)
        tensors[f"prompt_{number}.logits"] = (out if number == 0 else out[-1:]).contiguous()
    return tensors


@torch.no_grad()
def greedy(model, tokenizer, questions, limit, name):
    for row in tqdm(questions, desc=name):
        _, ids = template_ids(tokenizer, [("user", row["question"])])
        out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                             do_sample=False, max_new_tokens=limit)[0, len(ids):].tolist()
        yield {"question": row["question"], "prompt_ids": ids, "text": tokenizer.decode(out, skip_special_tokens=True),
               "ids": out, "reference": row["reference"]}


def main():
    args = arguments()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in (args.models / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in MODELS:
        tokenizer = AutoTokenizer.from_pretrained(args.models / name)
        model = AutoModelForCausalLM.from_pretrained(args.models / name, dtype=torch.float32).eval()
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "logits.safetensors"
        save_file(logits(model, tokenizer), str(file))
        file.chmod(0o644)
        answers = list(greedy(model, tokenizer, rows[: args.questions], args.max_new_tokens, name))
        text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
        (folder / "greedy.jsonl").write_text(text, encoding="utf-8")
        right = sum(answer["text"] == answer["reference"] for answer in answers)
        print(f"{name}: {right} of {len(answers)} right")


if __name__ == "__main__":
    main()
