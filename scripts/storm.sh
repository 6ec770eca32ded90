#!/usr/bin/env bash
# A short storm: Rust, C and JVM workers on one fabric, a Rust worker and the C worker killed and started again meanwhile; then the
# fabric is checked and the histories are judged. Needs `make build` and the C stress worker. SECONDS_EACH: how long workers run;
# ROUNDS: how often, each time on a new fabric.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
MEMORA=${MEMORA:-$TARGET/release/memora}
C_WORKER=${MEMORA_STRESS_C:-$TARGET/bindings-c/stress}
JAR=${JAR:-bindings-java/target/memora.jar}
SECONDS_EACH=${SECONDS_EACH:-5}
ROUNDS=${ROUNDS:-1}
WORK=$(mktemp -d /dev/shm/memora-storm.XXXXXX)
export MEMORA_HOME=$WORK/home
trap 'rm -rf "$WORK"' EXIT
passed=0 failed=0

result() { if [ "$1" -eq 0 ]; then echo "storm $2: passed"; passed=$((passed + 1)); else echo "storm $2: FAILED"; failed=$((failed + 1)); fi; }

# A fabric and histories for each round: what a judge needs grows with the length of a history.
for round in $(seq "$ROUNDS"); do
    for work in kv evict queue; do
        set -- --fabric "storm$round" --burst 30 --history
        "$MEMORA" stress $work "$@" "$WORK/$work-rust.jsonl" --seed "rust$round" --seconds "$SECONDS_EACH" & rust=$!
        "$MEMORA" stress $work "$@" "$WORK/$work-victim.jsonl" --seed "victim$round" & victim=$!
        "$C_WORKER" $work "$@" "$WORK/$work-c.jsonl" --seed "c$round" & c=$!
        java -jar "$JAR" stress $work "$@" "$WORK/$work-java.jsonl" --seed "java$round" --seconds "$SECONDS_EACH" & java=$!
        sleep $((SECONDS_EACH / 2))
        kill -9 "$victim" "$c"
        wait "$victim" "$c" 2>/dev/null
        "$MEMORA" stress $work "$@" "$WORK/$work-again.jsonl" --seed "again$round" --seconds 1 & again=$!
        "$C_WORKER" $work "$@" "$WORK/$work-c-again.jsonl" --seed "c-again$round" --seconds 1 & c_again=$!
        for one in rust java again c_again; do
            wait "${!one}"
            result $? "$work: the worker $one"
        done
        "$MEMORA" check "storm$round"
        result $? "$work: memora check"
        cargo run -q --locked -p memora-testkit --bin check-history -- $work "$WORK"/$work-*.jsonl
        result $? "$work: histories"
    done
    rm -f "$WORK"/*.jsonl
    "$MEMORA" rm "storm$round" || failed=$((failed + 1))
done
echo "storm: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
