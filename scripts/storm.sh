#!/usr/bin/env bash
# A short storm: Rust, C and JVM workers on one fabric, a Rust worker and the C worker killed and started again meanwhile; then the
# fabric is checked and the histories are judged. Needs `make build` and the C stress worker. SECONDS_EACH: how long workers run.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
MEMORA=${MEMORA:-$TARGET/release/memora}
C_WORKER=${MEMORA_STRESS_C:-$TARGET/bindings-c/stress}
JAR=${JAR:-bindings-java/target/memora.jar}
SECONDS_EACH=${SECONDS_EACH:-5}
WORK=$(mktemp -d /dev/shm/memora-storm.XXXXXX)
export MEMORA_HOME=$WORK/home
trap 'rm -rf "$WORK"' EXIT
passed=0 failed=0

result() { if [ "$1" -eq 0 ]; then echo "storm $2: passed"; passed=$((passed + 1)); else echo "storm $2: FAILED"; failed=$((failed + 1)); fi; }

for work in kv queue; do
    set -- --fabric storm --history
    "$MEMORA" stress $work "$@" "$WORK/$work-rust.jsonl" --seed rust --seconds "$SECONDS_EACH" & rust=$!
    "$MEMORA" stress $work "$@" "$WORK/$work-victim.jsonl" --seed victim & victim=$!
    "$C_WORKER" $work "$@" "$WORK/$work-c.jsonl" --seed c & c=$!
    java -jar "$JAR" stress $work "$@" "$WORK/$work-java.jsonl" --seed java --seconds "$SECONDS_EACH" & java=$!
    sleep $((SECONDS_EACH / 2))
    kill -9 "$victim" "$c"
    wait "$victim" "$c" 2>/dev/null
    "$MEMORA" stress $work "$@" "$WORK/$work-again.jsonl" --seed again --seconds 1 & again=$!
    "$C_WORKER" $work "$@" "$WORK/$work-c-again.jsonl" --seed c-again --seconds 1 & c_again=$!
    for one in rust java again c_again; do
        wait "${!one}"
        result $? "$work: the worker $one"
    done
    "$MEMORA" check storm
    result $? "$work: memora check"
    cargo run -q --locked -p memora-testkit --bin check-history -- $work "$WORK"/$work-*.jsonl
    result $? "$work: histories"
done
echo "storm: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
