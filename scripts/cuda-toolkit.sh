#!/usr/bin/env bash
# A CUDA 13.0 compiler out of PyPI wheels, for machines that have none, and the environment to build with it.
#
#   scripts/cuda-toolkit.sh DIR          installs into DIR (some 300 MB) and prints the lines to source
#   eval "$(scripts/cuda-toolkit.sh DIR)"
#   cargo build --release --features cuda
#
# CUDA's libraries are looked up when the program runs, so nothing of them is needed to build it, and it starts on a machine
# without a driver too.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: scripts/cuda-toolkit.sh DIR" >&2; exit 2; }
dir=$(readlink -m "$1")
if [ ! -e "$dir/ready" ]; then
    mkdir -p "$dir"
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install --quiet --no-deps \
        nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 >&2
    site=$("$dir/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cuda=$site/nvidia/cu13
    ln -sfn "$cuda" "$dir/cuda"
    "$dir/cuda/bin/nvcc" --version >&2
    touch "$dir/ready"
fi
cat <<LINES
export CUDA_HOME='$dir/cuda' PATH='$dir/cuda/bin':"\$PATH"
LINES
