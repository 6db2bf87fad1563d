#!/usr/bin/env python3
"""Speed on this machine against llama.cpp and mistral.rs: the same GGUF file, the same threads, one server at a time.

Every round starts each peer, throws one request away, and measures single requests, then bursts of 4 and of 16, all prompts
different. Rounds alternate between the peers (A B C, A B C) so that a slow spell of the machine hits all; medians are shown.

  prefill      prompt tokens a second until the first token, one request alone
  decode       tokens a second after the first token, one request alone
  N at once    answered tokens a second from the first byte sent to the last one received, prompts included
  decoding     tokens a second while all N answer: after the last first token, before the first end; none where requests queue

    cargo build --release && pip install -r scripts/requirements-peers.txt
    python scripts/compare_peers.py                                     # all peers, Q8_0 and Q4_K_M
    python scripts/compare_peers.py --kinds Q8_0 --peers messplus llama-native --rounds 3
    python scripts/compare_peers.py --gguf model.gguf --json out.json   # any Qwen2-like GGUF with the bench tokenizer
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from pathlib import Path

from make_bench_model import CACHE
from peers import bench_model, gguf_file
from peers.servers import PEERS, Ours


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=CACHE, help="where the bench model lies or is made (default: ~/.cache/messplus/peers)")
    parser.add_argument("--kinds", nargs="+", choices=["F16", *gguf_file.KINDS], default=["Q8_0", "Q4_K_M"])
    parser.add_argument("--gguf", type=Path, help="measure this file instead")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--binary", type=Path, default=Ours.binary, help="our server (default: target/release/messplus)")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[4, 16], help="sizes of bursts (default: 4 16)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--singles", type=int, default=3, help="single requests a round")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write every number here")
    return parser.parse_args()


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def checked(records, args):
    """The records, if every request got what it asked for."""
    for record in records:
        if "error" in record:
            raise RuntimeError(record["error"])
        if record["prompt_tokens"] not in (None, args.prompt_tokens) or record["tokens"] != args.output_tokens:
            raise RuntimeError(f"asked {args.prompt_tokens} + {args.output_tokens} tokens, got {record['prompt_tokens']} + {record['tokens']}")
    return records


def single(record):
    first, last = record["stamps"][0], record["stamps"][-1]
    return record["prompt_tokens"], first, (record["tokens"] - 1) / (last - first)


def decoding(records):
    """Tokens a second while all answer, or None. Chunks in the window are scaled to tokens: some servers join tokens."""
    begin, end = max(r["stamps"][0] for r in records), min(r["stamps"][-1] for r in records)
    if end - begin < 0.25:
        return None
    inside = sum(r["tokens"] / len(r["stamps"]) * sum(begin < stamp <= end for stamp in r["stamps"]) for r in records)
    return inside / (end - begin)


def measure(peer, folder, args, seed):
    """One round of one peer: a dictionary of numbers."""
    warm = bench_model.prompts(folder, 1, args.prompt_tokens, seed)
    checked(peer.run(warm, args.output_tokens), args)
    numbers = {"load_average": os.getloadavg()[0]}
    alone = [checked(peer.run([prompt], args.output_tokens), args)[0]
             for prompt in bench_model.prompts(folder, args.singles, args.prompt_tokens, seed + 1)]
    numbers["first_token_ms"] = 1000 * statistics.median(record["stamps"][0] for record in alone)
    numbers["prefill"] = args.prompt_tokens / numbers["first_token_ms"] * 1000
    numbers["decode"] = statistics.median(single(record)[2] for record in alone)
    for number, count in enumerate(args.concurrency):
        asked = bench_model.prompts(folder, count, args.prompt_tokens, seed + 2 + number)
        try:
            records = checked(peer.run(asked, args.output_tokens), args)
        except RuntimeError as error:
            print(f"  {peer.name} at {count}: no number: {str(error).splitlines()[0][:300]}", file=sys.stderr, flush=True)
            numbers |= {f"{count} at once": None, f"{count} decoding": None}
            continue
        numbers[f"{count} at once"] = count * args.output_tokens / max(record["stamps"][-1] for record in records)
        numbers[f"{count} decoding"] = decoding(records)
    return numbers


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def table(results, columns):
    """Markdown: a row a peer, with our number as a multiple of it."""
    ours = results.get("messplus")
    lines = ["| server | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for key, numbers in results.items():
        cells = []
        for column in columns:
            value = numbers.get(column)
            text = "–" if value is None else f"{value:.1f}"
            if ours and key != "messplus" and value and ours.get(column):
                text += f" ({ours[column] / value:.2f}×)"
            cells.append(text)
        lines.append(f"| {PEERS[key].name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare(path, folder, args):
    """key -> medians, key -> list of rounds, of one file."""
    rounds = {key: [] for key in args.peers}
    for number in range(args.rounds):
        for key in args.peers:
            peer = PEERS[key](args.threads, max(args.concurrency, default=1))
            try:
                peer.start(path)
                rounds[key].append(measure(peer, folder, args, 1000 * number))
                print(f"  round {number + 1}, {peer.name}: " + ", ".join(
                    f"{name} {value:.1f}" for name, value in rounds[key][-1].items() if value is not None), file=sys.stderr, flush=True)
            except RuntimeError as error:
                print(f"  round {number + 1}, {peer.name}: no number: {error}", file=sys.stderr, flush=True)
            finally:
                peer.stop()
    medians = {key: {name: median([one[name] for one in found]) for name in found[0]} if found else {} for key, found in rounds.items()}
    return medians, rounds


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a started server is stopped
    args = arguments()
    Ours.binary = args.binary.resolve()
    if "messplus" in args.peers and not Ours.binary.exists():
        sys.exit(f"{Ours.binary} does not exist: cargo build --release, or leave messplus out of --peers")
    folder = bench_model.make(args.dir)
    paths = {args.gguf.name: args.gguf.resolve()} if args.gguf else {kind: gguf_file.make(folder, kind, args.dir) for kind in args.kinds}
    columns = ["prefill", "decode", *(f"{count} {what}" for count in args.concurrency for what in ("at once", "decoding"))]
    about = {"processor": processor(), "cores": os.cpu_count(), "threads": args.threads, "load_average_at_start": os.getloadavg()[0],
             "versions": {key: PEERS[key](1, 1).version() for key in args.peers}, "command": " ".join(sys.argv),
             "prompt_tokens": args.prompt_tokens, "output_tokens": args.output_tokens, "rounds": args.rounds}
    print(f"{about['processor']}, {about['cores']} cores, {args.threads} threads, load {about['load_average_at_start']:.1f} at the start")
    if about["load_average_at_start"] > 1:
        print("this machine is or just was busy: if other programs run, these numbers are noise; run again when it is quiet", file=sys.stderr)
    print("; ".join(dict.fromkeys(about["versions"].values())))
    print(f"tokens/s, medians of {args.rounds} rounds; in brackets ours as a multiple; {args.prompt_tokens} + {args.output_tokens} tokens a request")
    kinds = []
    for kind, path in paths.items():
        print(f"\n{kind}: {path.name}, {path.stat().st_size / 1e6:.0f} MB, {gguf_file.types_of(path)}", flush=True)
        medians, rounds = compare(path, folder, args)
        print(table(medians, columns), flush=True)
        kinds.append({"kind": kind, "file": path.name, "medians": medians, "rounds": rounds})
    if args.json:
        args.json.write_text(json.dumps({"about": about, "kinds": kinds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
