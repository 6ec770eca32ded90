#!/usr/bin/env bash
# Measures the Rust core, then what the borders to C and to Java cost; appends to target/bench/results.jsonl (but for C).
# Needs `make native jar` first. Peers come from the registries and from Debian (redis-server, memcached); what cannot be had is said and
# skipped. Give a JDK of another version in BENCH_JAVA to measure that one, too.
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
if cargo build --release --locked -q --manifest-path benches/compare/Cargo.toml --target-dir target/compare; then
    target/compare/release/memora-compare --results "$RESULTS"
else
    echo "skipped: the Rust peers, which could not be built"
fi
if "${MVN:-mvn}" -B -ntp -q -f benches/java/pom.xml package; then
    # What Chronicle Map asks for on newer JDKs.
    opens=()
    for package in java.lang java.lang.reflect java.io java.net java.nio java.util sun.nio.ch jdk.internal.misc jdk.internal.ref; do
        opens+=("--add-opens=java.base/$package=ALL-UNNAMED" "--add-exports=java.base/$package=ALL-UNNAMED")
    done
    opens+=("--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED" "--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED" "--add-opens=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED")
    java "${opens[@]}" -Dchronicle.announcer.disable=true -Dchronicle.analytics.disable=true \
        -cp "benches/java/target/memora-compare.jar:bindings-java/target/memora.jar:benches/java/target/lib/*" \
        io.memora.compare.Compare "$RESULTS"
else
    echo "skipped: the Java peers, which Maven could not get"
fi
echo "results: $RESULTS"
