#!/usr/bin/env bash
# Builds and runs the C tests against the installed library: test.sh TEST...
# Called by `make test`, which sets CC, CXX, CFLAGS, CXXFLAGS, SANITIZE, OUT and STAGE.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LD_LIBRARY_PATH=$STAGE/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export PKG_CONFIG_PATH=$STAGE/lib/pkgconfig
export MEMORA_STRESS_C=$OUT/stress
passed=0 failed=0 broken=0

mkdir -p "$OUT/tests"
report() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1"
    fi
}

# The tests count for themselves; here only a crash, or a build that fails, counts.
for test in "$@"; do
    for form in plain sanitized static; do
        flags=$CFLAGS
        libraries="-L$STAGE/lib -lmemora"
        [ "$form" != sanitized ] || flags="$flags $SANITIZE"
        [ "$form" != static ] || libraries="$STAGE/lib/libmemora.a $(pkg-config --static --libs-only-l memora | sed 's/-lmemora//')"
        # The static form shows that the archive links; two of the tests are enough for that.
        case "$form/$test" in static/cache_test | static/channel_test) ;; static/*) continue ;; esac
        binary=$OUT/tests/$test-$form
        # shellcheck disable=SC2086
        if ! $CC $flags -I"$STAGE/include" -Itests -o "$binary" "tests/$test.c" tests/testing.c $libraries -lpthread; then
            report "$test ($form) does not compile" 1
            continue
        fi
        "$binary" "$form"
        status=$?
        # 1 says that checks failed, which the test has counted itself.
        [ "$status" -eq 0 ] || broken=1
        [ "$status" -le 1 ] || report "$test ($form) ended with status $status" 1
    done
done

# The headers in C++, against the same library.
# shellcheck disable=SC2086
$CXX -std=c++11 $CXXFLAGS -I"$STAGE/include" -o "$OUT/tests/header-cpp" tests/header_test.cpp -L"$STAGE/lib" -lmemora &&
    "$OUT/tests/header-cpp"
report "the header in C++11" $?
for standard in c++17 c++20; do
    # shellcheck disable=SC2086
    $CXX -std=$standard $CXXFLAGS $SANITIZE -I"$STAGE/include" -o "$OUT/tests/wrapper-cpp" tests/wrapper_test.cpp \
        -L"$STAGE/lib" -lmemora -lpthread && "$OUT/tests/wrapper-cpp"
    report "memora.hpp in $standard" $?
done

# The header alone, before anything else is included.
echo '#include <memora.h>' | $CC -std=c99 -Wall -Wextra -pedantic -Werror -I"$STAGE/include" -fsyntax-only -x c -
report "the header alone in C99" $?

# Nothing but memora_* leaves the library, and everything that the header declares is in it.
others=$(nm -D --defined-only "$STAGE/lib/libmemora.so" | awk '{print $NF}' | grep -vE '^(MEMORA_0|memora_.*)$' | tr '\n' ' ')
[ -z "$others" ] || echo "exported, but not ours: $others"
report "only memora_* is exported" "$([ -z "$others" ]; echo $?)"
unversioned=$(nm -D --defined-only --with-symbol-versions "$STAGE/lib/libmemora.so" | awk '{print $NF}' | grep '^memora_' |
    grep -v '@@MEMORA_0$' | tr '\n' ' ')
[ -z "$unversioned" ] || echo "without a version: $unversioned"
report "all symbols have the version MEMORA_0" "$([ -z "$unversioned" ]; echo $?)"
missing=$(comm -23 <(grep -oE '\bmemora_[a-z_]+\(' include/memora.h | grep -v '_fn(' | tr -d '(' | sort -u) \
    <(nm -D --defined-only "$STAGE/lib/libmemora.so" | awk '{print $NF}' | sed "s/@.*//" | sort -u) | tr '\n' ' ')
[ -z "$missing" ] || echo "declared, but missing in the library: $missing"
report "all that the header declares is exported" "$([ -z "$missing" ]; echo $?)"

readelf -d "$STAGE/lib/libmemora.so" | grep -q 'SONAME.*\[libmemora\.so\.0\]' && [ -e "$STAGE/lib/libmemora.so.0" ]
report "the soname, and the link that it names" $?
readelf -d "$STAGE/lib/libmemora.so" | grep -q NODELETE
report "the library stays mapped after a dlclose" $?

# The samples, built as a user would.
sample() {
    local home
    home=$(mktemp -d "${TMPDIR:-/tmp}/memora-sample.XXXXXX")
    MEMORA_HOME=$home/home "$1" | diff -u ../examples/c/expected.txt -
    local status=$?
    rm -rf "$home"
    return $status
}
if command -v pkg-config >/dev/null; then
    rm -f "$OUT/tests/hello"
    make -s -C samples/pkg-config OUT="$OUT/tests/" CC="$CC" && sample "$OUT/tests/hello"
    report "the sample built with pkg-config" $?
else
    echo "SKIPPED: the sample built with pkg-config, because there is no pkg-config here"
fi
if command -v cmake >/dev/null; then
    rm -rf "$OUT/tests/cmake"
    cmake -S samples/cmake -B "$OUT/tests/cmake" -DCMAKE_PREFIX_PATH="$STAGE" -DCMAKE_C_COMPILER="$CC" >"$OUT/tests/cmake.log" 2>&1 &&
        cmake --build "$OUT/tests/cmake" >>"$OUT/tests/cmake.log" 2>&1 &&
        sample "$OUT/tests/cmake/hello" && sample "$OUT/tests/cmake/hello_static"
    status=$?
    [ "$status" -eq 0 ] || cat "$OUT/tests/cmake.log"
    report "the samples built with CMake" "$status"
else
    echo "SKIPPED: the samples built with CMake, because there is no cmake here"
fi

echo "packaging: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$broken" -eq 0 ]
