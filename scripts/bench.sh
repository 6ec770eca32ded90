#!/usr/bin/env bash
# Measures the Rust core, then what the borders to C and to Java cost; appends to target/bench/results.jsonl (but for C).
# Needs `make native jar` first. Give a JDK of another version in BENCH_JAVA to measure that one, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
RESULTS=${CARGO_TARGET_DIR:-$PWD/target}/bench/results.jsonl
mkdir -p "$(dirname "$RESULTS")"
MEMORA_HOME=$(mktemp -d /dev/shm/memora-bench.XXXXXX)
export MEMORA_HOME
trap 'rm -rf "$MEMORA_HOME"' EXIT
cargo run --release --locked -q -p memora-bench -- all --results "$RESULTS"
cargo run --release --locked -q -p memora-ffi --example crossing
for java in java ${BENCH_JAVA:-}; do
    "$java" -jar bindings-java/target/memora.jar bench --results "$RESULTS"
done
echo "results: $RESULTS"
