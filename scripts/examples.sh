#!/usr/bin/env bash
# Builds and runs the small example of every language in a home of its own and compares what it prints with expected.txt.
# Needs `make build` first.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/memora-examples.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
JAR=bindings-java/target/memora.jar

rust() { cargo run -q --locked -p memora-hello; }

c() {
    gcc -std=c99 -Wall -Wextra -pedantic -Werror -Ibindings-c/include -o "$WORK/hello" examples/c/hello.c \
        "$TARGET/release/libmemora.a" -lgcc_s -lrt -lpthread -lm -ldl -lc && "$WORK/hello"
}

java() {
    javac -Xlint:all -Werror -cp "$JAR" -d "$WORK/classes" examples/java/Hello.java &&
        command java -cp "$JAR:$WORK/classes" Hello
}

passed=0 failed=0
for language in rust c java; do
    if MEMORA_HOME=$WORK/home-$language "$language" >"$WORK/output" && diff -u "examples/$language/expected.txt" "$WORK/output"; then
        echo "example $language: as expected"
        passed=$((passed + 1))
    else
        echo "example $language: FAILED"
        failed=$((failed + 1))
    fi
done
echo "examples: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
