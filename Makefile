# Needs Rust (rustup or a distribution's, 1.90 or later), a JDK of 17 or later, Maven, gcc and make.

SHELL := /bin/bash
CARGO ?= cargo
MVN ?= mvn
CC ?= gcc
TARGET := $(or $(CARGO_TARGET_DIR),target)
JAR := bindings-java/target/memora.jar
COUNTER := $(TARGET)/flights/counter

.PHONY: help run build native jar test torture bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build what is needed and run the flights example: Rust, C and two JVMs, some of them killed
	$(TARGET)/release/flights --counter $(COUNTER) --jar $(JAR) --data examples/data

build: native jar $(COUNTER) ## build the libraries, the memora command, the jar and the example in release form

native:
	$(CARGO) build --release --locked -p memora-ffi -p memora-jni -p memora-sidecar -p memora-flights

jar: native
	$(MVN) -B -ntp -q -f bindings-java/pom.xml package -DskipTests

$(COUNTER): examples/flights/counter.c native
	@mkdir -p $(dir $@)
	$(CC) -std=c99 -O2 -Wall -Wextra -pedantic -Ibindings-c/include -o $@ $< $(TARGET)/release/libmemora.a -lgcc_s -lrt -lpthread -lm -ldl -lc

test: ## everything that must pass: format, lints, Rust, models, C, Java, examples, a short storm
	scripts/test.sh

torture: ## the long forms of the same
	MEMORA_TORTURE=1 scripts/test.sh

bench: native jar ## measure, and append to target/bench/results.jsonl; BENCH=channels or BENCH=store: only these, beside their peers
	scripts/bench.sh $(BENCH)

clean: ## remove everything that was built
	$(CARGO) clean
	$(MVN) -B -ntp -q -f bindings-java/pom.xml clean
	rm -rf benches/java/target
