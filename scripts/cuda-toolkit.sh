#!/usr/bin/env bash
# A CUDA 13.0 compiler out of PyPI wheels, for machines that have none, and the environment to build with it.
#
#   scripts/cuda-toolkit.sh DIR          installs into DIR (some 300 MB) and prints the lines to source
#   eval "$(scripts/cuda-toolkit.sh DIR)"
#   cargo build --release --features cuda --target x86_64-unknown-linux-gnu
#
# CUDA's libraries are looked up when the program runs, so the binary starts on a machine without a driver too. For that
# cudarc must be compiled for dynamic loading while candle asks for dynamic linking: RUSTFLAGS says so to the crates, and
# `--target` keeps it from the build scripts, which would refuse both.
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
    # nvcc looks for host libraries in lib64, beside its own folder.
    ln -sfn lib "$cuda/lib64"
    # Names the linker is given although nothing of them is used; it drops them again.
    mkdir -p "$cuda/lib/stubs"
    for name in cuda cublas cublasLt curand nvrtc; do
        cc -shared -x c /dev/null -o "$cuda/lib/stubs/lib$name.so"
    done
    # What asks for the dynamic runtime gets the static one.
    echo 'INPUT(libcudart_static.a)' > "$cuda/lib/libcudart.so"
    ln -sfn "$cuda" "$dir/cuda"
    "$dir/cuda/bin/nvcc" --version >&2
    touch "$dir/ready"
fi
cat <<LINES
export CUDA_HOME='$dir/cuda' PATH='$dir/cuda/bin':"\$PATH"
export CUDA_COMPUTE_CAP="\${CUDA_COMPUTE_CAP:-90}" CUDAFORGE_THREADS="\${CUDAFORGE_THREADS:-2}"
export RUSTFLAGS='--cfg feature="dynamic-loading"'
LINES
