#!/usr/bin/env bash
# All tests of all languages, one step after the other. Every step runs, even after a failed one; the last line says how many
# tests passed and failed, and the exit code is that of the whole.
#   scripts/test.sh [STEP...]     only these steps
#   MEMORA_TORTURE=1              the long forms
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
LOGS=$TARGET/test-logs
mkdir -p "$LOGS"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

fmt() { cargo fmt --all --check; }

clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

rust() { cargo test --workspace --locked --no-fail-fast; }

# The concurrent cores under every interleaving that the model checker can reach.
models() { RUSTFLAGS="--cfg memora_loom" cargo test -p memora --lib --locked --release --target-dir "$TARGET/loom" interleavings; }

build() { make --no-print-directory build; }

c() { make --no-print-directory -C bindings-c test; }

java() { mvn -B -ntp -f bindings-java/pom.xml verify; }

examples() { scripts/examples.sh; }

# The main job in a shorter form: same data, same kills, faster publishing.
flights() {
    "$TARGET/release/flights" --counter "$TARGET/flights/counter" --jar bindings-java/target/memora.jar --data examples/data --seconds 4
}

# Rust, C and JVM workers on one fabric, some killed; their histories are checked.
storm() {
    make --no-print-directory -C bindings-c stress || return
    ROUNDS=${MEMORA_TORTURE:+12} scripts/storm.sh || return
    # JVMs that write their lanes themselves, killed at random; the classes come with `make build`.
    MEMORA_STORM_CLASSES=$PWD/bindings-java/target/classes:$PWD/bindings-java/target/test-classes \
        cargo test --locked -p memora --test channel_storms
}

# Counts what the tools say they ran: cargo, Maven's surefire, and our own "N passed, M failed".
count() {
    awk '
        /^test result:/ { passed += $4; failed += $6; ignored += $8 }
        /Tests run:.*Time elapsed/ {
            gsub(",", ""); for (i = 1; i < NF; i++) {
                if ($i == "run:") run = $(i+1); if ($i == "Failures:") bad = $(i+1); if ($i == "Errors:") bad += $(i+1)
                if ($i == "Skipped:") skip = $(i+1) }
            passed += run - bad - skip; failed += bad; ignored += skip }
        /^[a-z].*: [0-9]+ passed, [0-9]+ failed$/ {
            for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i-1); if ($i == "failed") failed += $(i-1) } }
        END { print passed + 0, failed + 0, ignored + 0 }' "$1"
}

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(fmt clippy build rust models c java examples flights storm)
passed=0 failed=0 skipped=0 broken=()
for step in "${steps[@]}"; do
    log=$LOGS/$step.log
    started=$SECONDS
    printf '== %s\n' "$step"
    "$step" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    read -r p f s < <(count "$log")
    # A step without tests of its own (format, lints, build) is one test; a step that failed without naming a test, too.
    if [ "$status" -ne 0 ]; then
        broken+=("$step")
        [ "$f" -gt 0 ] || f=1
    elif [ "$p" -eq 0 ]; then
        p=1
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf -- '-- %s: %s in %d s (%d passed, %d failed, %d skipped)\n' "$step" \
        "$([ "$status" -eq 0 ] && echo passed || echo FAILED)" $((SECONDS - started)) "$p" "$f" "$s"
done

[ ${#broken[@]} -eq 0 ] || printf 'failed steps: %s (see %s)\n' "${broken[*]}" "$LOGS"
printf '%d passed, %d failed, %d skipped in %d s\n' "$passed" "$failed" "$skipped" "$SECONDS"
[ ${#broken[@]} -eq 0 ]
