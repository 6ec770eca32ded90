#!/usr/bin/env bash
# Measures the Rust core, then what the borders to C and to Java cost, then beside peers; appends to target/bench/results.jsonl (but for C).
#   scripts/bench.sh [channels]   all, or only channels beside their peers (picture: target/bench/channels.svg)
#   scripts/bench.sh store        only the store, and beside databases on files
# Needs `make native jar` first. Peers come from the registries and from Debian (redis-server, memcached); what cannot be had is said and
# skipped. Give a JDK of another version in BENCH_JAVA to measure that one, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
RESULTS=${CARGO_TARGET_DIR:-$PWD/target}/bench/results.jsonl
mkdir -p "$(dirname "$RESULTS")"
MEMORA_HOME=$(mktemp -d /dev/shm/memora-bench.XXXXXX)
export MEMORA_HOME
trap 'rm -rf "$MEMORA_HOME"' EXIT

compare=no
if cargo build --release --locked -q --manifest-path benches/compare/Cargo.toml --target-dir target/compare; then
    compare=yes
else
    echo "skipped: the Rust peers, which could not be built"
fi

stores() {
    cargo run --release --locked -q -p memora-bench -- store recovery --results "$RESULTS"
    if [ "$compare" = yes ]; then
        target/compare/release/memora-compare store --results "$RESULTS"
    fi
}

if [ "${1:-}" = store ]; then
    stores
    exit
fi
# What Chronicle Map and Queue, Aeron and Agrona ask for on newer JDKs.
opens=()
for package in java.lang java.lang.reflect java.io java.net java.nio java.util sun.nio.ch jdk.internal.misc jdk.internal.ref; do
    opens+=("--add-opens=java.base/$package=ALL-UNNAMED" "--add-exports=java.base/$package=ALL-UNNAMED")
done
opens+=("--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED" "--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED" "--add-opens=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED")
quiet=(-Dchronicle.announcer.disable=true -Dchronicle.analytics.disable=true)
classes="benches/java/target/memora-compare.jar:bindings-java/target/memora.jar:benches/java/target/lib/*"
java_compare=no
if "${MVN:-mvn}" -B -ntp -q -f benches/java/pom.xml package; then
    java_compare=yes
else
    echo "skipped: the Java peers, which Maven could not get"
fi

channels() {
    [ "$compare" = yes ] || return 0
    local tuned=(-XX:+UseParallelGC -XX:+UnlockDiagnosticVMOptions -XX:GuaranteedSafepointInterval=300000 -Dagrona.disable.bounds.checks=true)
    if "${CC:-gcc}" -std=c99 -O2 -Wall -Wextra -Ibindings-c/include -o target/compare/channels-c benches/compare/c/channels.c \
        "${CARGO_TARGET_DIR:-target}/release/libmemora.a" -lgcc_s -lrt -lpthread -lm -ldl -lc; then
        export MEMORA_CHANNELS_C=$PWD/target/compare/channels-c
    fi
    if [ "$java_compare" = yes ]; then
        export MEMORA_CHANNELS_JAVA="java ${opens[*]} ${quiet[*]} ${tuned[*]} -cp $classes io.memora.compare.Channels"
    fi
    target/compare/release/memora-compare channels --results "$RESULTS"
}

if [ "${1:-}" = channels ]; then
    channels
    exit
fi
cargo run --release --locked -q -p memora-bench -- cache channel fabric hitratio overwrites --results "$RESULTS"
cargo run --release --locked -q -p memora-ffi --example crossing
for java in java ${BENCH_JAVA:-}; do
    "$java" -jar bindings-java/target/memora.jar bench --results "$RESULTS"
done
if [ "$compare" = yes ]; then
    target/compare/release/memora-compare speed memory full shift warm sizes --results "$RESULTS"
fi
if [ "$java_compare" = yes ]; then
    java "${opens[@]}" "${quiet[@]}" -cp "$classes" io.memora.compare.Compare "$RESULTS"
fi
channels
stores
echo "results: $RESULTS"
