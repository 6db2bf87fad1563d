#!/usr/bin/env python3
"""Make the model that speed comparisons run on: random weights in the shape of a small Qwen2 (0.38 billion parameters).

It is written as a Hugging Face folder (bf16) and as GGUF files; F16 by gguf-py, the others by llama.cpp's own quantiser.
Its answers are noise, but no server can tell: only shapes and types decide speed.

    pip install -r scripts/requirements-peers.txt
    python scripts/make_bench_model.py                        # F16, Q8_0 and Q4_K_M
    python scripts/make_bench_model.py --kinds Q4_0 Q6_K      # others; Q4_K and Q6_K hold one type only
"""

import argparse
from pathlib import Path

from peers import bench_model, gguf_file

CACHE = Path.home() / ".cache" / "messplus" / "peers"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=CACHE, help="where (default: ~/.cache/messplus/peers)")
    parser.add_argument("--kinds", nargs="+", choices=["F16", *gguf_file.KINDS], default=["F16", "Q8_0", "Q4_K_M"])
    args = parser.parse_args()
    folder = bench_model.make(args.dir)
    print(folder)
    for kind in args.kinds:
        path = gguf_file.make(folder, kind, args.dir)
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {gguf_file.types_of(path)}")


if __name__ == "__main__":
    main()
