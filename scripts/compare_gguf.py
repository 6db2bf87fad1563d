#!/usr/bin/env python3
"""Do we answer as llama.cpp does? Greedy tokens of both, from the same GGUF files, over the same prompts.

Two models: the demo zoo's largest, which is trained (padded with zeros so that K-quants fit: peers/padded.py), and the random
bench model, whose logits lie close together, so that it tells rounding apart and little else. The end of text is
forbidden on both sides, so that every answer has its full length.

For each file: the share of prompts whose tokens all agree, how many tokens agree on average, and where they part, how far
llama.cpp's logit of our token lies below its best one. A gap near zero is rounding; a large one would be an error of ours.

    cargo build --release && pip install -r scripts/requirements-peers.txt
    python scripts/compare_gguf.py
    python scripts/compare_gguf.py --models demo --kinds Q4_K --prompts 20
    python scripts/compare_gguf.py --peer-only        # llama.cpp alone: each kind against its own F16
"""

import argparse
import http.client
import json
import signal
import statistics
import sys
from pathlib import Path

from tokenizers import Tokenizer

from make_bench_model import CACHE
from peers import bench_model, gguf_file, padded
from peers.native_llama import NativeLlama
from peers.servers import Ours

DEMO = Path(__file__).resolve().parents[1] / "models" / "demo"
FORBID = -100


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=CACHE, help="where models lie or are made (default: ~/.cache/messplus/peers)")
    parser.add_argument("--models", nargs="+", choices=["demo", "bench"], default=["demo", "bench"])
    parser.add_argument("--kinds", nargs="+", choices=["F16", *gguf_file.KINDS], default=["F16", "Q8_0", "Q4_K", "Q6_K"])
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binary", type=Path, default=Ours.binary, help="our server (default: target/release/messplus)")
    parser.add_argument("--peer-only", action="store_true", help="compare llama.cpp's kinds with its F16, without our server")
    parser.add_argument("--exact-attention", action="store_true", help="llama.cpp with f32 keys and values and without flash attention, as we compute")
    parser.add_argument("--peer-attention", action="store_true", help="compare llama.cpp's default attention with its exact one, without our server")
    parser.add_argument("--json", type=Path, help="write every number here")
    return parser.parse_args()


def demo_prompts(folder, count):
    """Questions of the demo zoo as its chat template writes them."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    return [tokenizer.encode(f"<|bos|><|user|>{row['question']}<|assistant|>", add_special_tokens=False).ids for row in rows[:count]]


def spelled(folder):
    """id -> the text our server shows for it: special tokens by their name, broken UTF-8 as the replacement sign."""
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"] for token in spec["added_tokens"]}
    byte_of = {symbol: byte for byte, symbol in bench_model.byte_symbols().items()}
    texts = {}
    for word, index in spec["model"]["vocab"].items():
        plain = index in special or any(symbol not in byte_of for symbol in word)
        texts[index] = word if plain else bytes(byte_of[symbol] for symbol in word).decode("utf-8", "replace")
    return texts


def ours(path, prompts, tokens, eos, threads):
    """The texts of the tokens we answer, one list a prompt."""
    server = Ours(threads, 1)
    answers = []
    try:
        server.start(path)
        for ids in prompts:
            body = {"model": server.model, "prompt": ids, "max_tokens": tokens, "temperature": 0, "logprobs": 0, "logit_bias": {str(eos): FORBID}}
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
            if answer.status != 200:
                raise RuntimeError(f"messplus answered {answer.status}: {text[:300]}")
            answers.append(json.loads(text)["choices"][0]["logprobs"]["tokens"])
    finally:
        server.stop()
    return answers


def theirs(path, prompts, tokens, eos, threads, exact=False):
    """llama.cpp's ids and logits, one prompt after another."""
    llama = NativeLlama(path, seqs=1, context=max(map(len, prompts)) + tokens, threads=threads, exact_attention=exact)
    for ids in prompts:
        found, _, logits = llama.greedy([ids], tokens, never=[eos], keep_logits=True)
        yield found[0], logits[0]
    llama.close()


def judge(own, other, logits, texts, ids_of):
    """(how many tokens agree, the gap where they part or None)."""
    for at, index in enumerate(other):
        said = own[at] if at < len(own) else None
        if said == texts[index]:
            continue
        rivals = [logits[at][rival] for rival in ids_of.get(said, ())]
        return at, float(logits[at][index] - max(rivals)) if rivals else float("inf")  # a text that is no token of the model
    return len(other), None


def report(name, kind, path, verdicts, tokens):
    whole = sum(gap is None for _, gap in verdicts)
    gaps = sorted(gap for _, gap in verdicts if gap is not None)
    row = {"model": name, "kind": kind, "tensors": gguf_file.types_of(path), "prompts": len(verdicts), "agree": whole / len(verdicts),
           "tokens_agreed": statistics.mean(count for count, _ in verdicts), "gap_median": statistics.median(gaps) if gaps else None,
           "gap_largest": gaps[-1] if gaps else None}
    where = f"{row['gap_median']:.4f} | {row['gap_largest']:.4f}" if gaps else "– | –"
    print(f"| {name} {kind} | {row['agree']:.0%} of {len(verdicts)} | {row['tokens_agreed']:.1f} of {tokens} | {where} |", flush=True)
    return row


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a started server is stopped
    args = arguments()
    Ours.binary = args.binary.resolve()
    if not (args.peer_only or args.peer_attention) and not Ours.binary.exists():
        sys.exit(f"{Ours.binary} does not exist: cargo build --release, or compare llama.cpp with itself by --peer-only")
    rows = []
    print("| file | all tokens agree | tokens agreed | gap where they part, median | largest |\n|---|---:|---:|---:|---:|")
    for name in args.models:
        if name == "demo":
            folder = padded.make(DEMO / "large", args.dir)
            prompts = demo_prompts(folder, args.prompts)
        else:
            folder = bench_model.make(args.dir)
            prompts = [ids for _, ids in bench_model.prompts(folder, args.prompts, 32, 7)]
        eos = json.loads((folder / "config.json").read_text())["eos_token_id"]
        texts = spelled(folder)
        ids_of = {}
        for index, text in texts.items():
            ids_of.setdefault(text, []).append(index)
        kinds = args.kinds
        if args.peer_only:
            whole = gguf_file.make(folder, "F16", args.dir)
            base = [[texts[index] for index in ids] for ids, _ in theirs(whole, prompts, args.tokens, eos, args.threads)]
        for kind in kinds:
            path = gguf_file.make(folder, kind, args.dir)
            if args.peer_attention:
                said = [[texts[index] for index in ids] for ids, _ in theirs(path, prompts, args.tokens, eos, args.threads, True)]
            else:
                said = base if args.peer_only else ours(path, prompts, args.tokens, eos, args.threads)
            verdicts = [judge(own, ids, logits, texts, ids_of)
                        for own, (ids, logits) in zip(said, theirs(path, prompts, args.tokens, eos, args.threads, args.exact_attention), strict=True)]
            rows.append(report(name, kind, path, verdicts, args.tokens))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
