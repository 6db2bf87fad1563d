#!/usr/bin/env bash
# Seconds from a dead start to the first answer on the demo zoo: scripts/first_answer.sh [runs]
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${MESSPLUS:-target/release/messplus}
body='{"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France?"}]}'
for _ in $(seq "${1:-5}"); do
    folder=$(mktemp -d)
    begin=$(date +%s.%N)
    "$binary" serve --listen 127.0.0.1:18080 --data-dir "$folder" >/dev/null 2>&1 &
    server=$!
    until curl -sf http://127.0.0.1:18080/v1/chat/completions -H 'content-type: application/json' -d "$body" >/dev/null; do
        sleep 0.005
    done
    end=$(date +%s.%N)
    awk "BEGIN { printf \"%.3f s\n\", $end - $begin }"
    kill -INT "$server"
    wait "$server"
    rm -r "$folder"
done
