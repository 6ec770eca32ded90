package io.memora.cli;

import io.memora.CacheOptions;
import io.memora.ErrorCode;
import io.memora.Fabric;
import io.memora.MemoraException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;

/**
 * The stress workers in Java, as docs/stress.md describes them: random operations on one fabric, whose questions and answers are
 * written down for a checker.
 */
public final class Stress {
    /** One step of a worker. */
    @FunctionalInterface
    interface Worker {
        void step();
    }

    private static final String CACHE = "stress";

    private Stress() {}

    /** Runs a worker and ends the JVM with its exit code. */
    public static void main(String[] arguments) {
        try {
            System.exit(run(Arrays.asList(arguments)));
        } catch (Arguments.Wrong error) {
            System.err.println("stress: " + error.getMessage());
            System.exit(2);
        }
    }

    static int run(List<String> rest) {
        Set<String> allowed =
                Set.of("--fabric", "--home", "--seed", "--history", "--ops", "--seconds", "--burst", "--role", "--subscription");
        Arguments arguments = new Arguments(rest, allowed, 1);
        String kind = arguments.word("the kind of worker, kv, evict or queue,");
        String role = arguments.option("--role") == null ? "both" : arguments.option("--role");
        if (!List.of("kv", "evict", "queue").contains(kind)) {
            throw new Arguments.Wrong("there is no worker `" + kind + "`, only kv, evict and queue");
        }
        if (!List.of("both", "produce", "consume").contains(role)) {
            throw new Arguments.Wrong("there is no role `" + role + "`, only both, produce and consume");
        }
        if (arguments.option("--ops") != null && arguments.option("--seconds") != null) {
            throw new Arguments.Wrong("--ops and --seconds are two bounds: give one");
        }
        arguments.required("--fabric");
        String seed = arguments.required("--seed");
        Path path = Path.of(arguments.required("--history"));
        long ops = arguments.number("--ops", Long.MAX_VALUE);
        long seconds = arguments.number("--seconds", Long.MAX_VALUE / 1_000_000_000L);
        long burst = arguments.number("--burst", Long.MAX_VALUE);
        String client = seed + "-" + ProcessHandle.current().pid() + "-" + Long.toHexString(System.nanoTime());
        Random random = new Random(Random.hash(seed.getBytes(StandardCharsets.UTF_8)));
        try (Fabric fabric = arguments.open(); History history = new History(path, client)) {
            if (kind.equals("kv")) {
                // It evicts nothing: every answer must follow from what was stored.
                try (var cache = fabric.cache(CACHE, CacheOptions.rejecting())) {
                    return loop(new StressKv(cache, history, random, client), ops, seconds, burst);
                }
            }
            if (kind.equals("evict")) {
                try (var worker = new StressEvict(fabric, history, random, client)) {
                    return loop(worker, ops, seconds, burst);
                }
            }
            try (var worker =
                    new StressQueue(fabric, history, random, client, role, arguments.option("--subscription"))) {
                return loop(worker, ops, seconds, burst);
            }
        } catch (MemoraException error) {
            System.err.println("stress: " + error.getMessage());
            return 1;
        }
    }

    private static int loop(Worker worker, long ops, long seconds, long burst) {
        long start = System.nanoTime();
        for (long op = 0; op < ops && (System.nanoTime() - start) / 1_000_000_000L < seconds; op++) {
            if (op % burst == burst - 1) {
                LockSupport.parkNanos(1_000_000);
            }
            worker.step();
        }
        return 0;
    }

    /** Writes an error down as the answer; one that is no answer ends the worker. */
    static void refused(History.Operation operation, MemoraException error) {
        operation.truth("ok", false).text("err", error.code().name()).done();
        ErrorCode code = error.code();
        boolean answer = code == ErrorCode.FULL || code == ErrorCode.NO_SPACE || code == ErrorCode.BUSY
                || code == ErrorCode.BACK_PRESSURE;
        if (!answer) {
            throw error;
        }
    }
}
