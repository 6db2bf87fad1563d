#!/usr/bin/env bash
# What measuring costs: the energy thread's share of a core and its reads a second, under 200 steps a second, with a
# stand-in card that ticks every 100 ms and whose every read computes for READ_MICROS (50; real drivers take 20 to 100).
#   scripts/meter_overhead.sh [cargo test options, such as --release]
set -euo pipefail
cd "$(dirname "$0")/.."
script=$(mktemp)
trap 'rm -f "$script"' EXIT
printf '{"config": {"read_micros": %s, "boards": [{"tick_ms": 100.0}]}}\n' "${READ_MICROS:-50}" >"$script"
NVML_STANDIN_SCRIPT=$script cargo test "$@" --test suite meter_overhead -- --ignored --nocapture
