package io.memora.cli;

import io.memora.Cache;
import io.memora.Fabric;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;

/** What Java users pay: the cost of crossing into the library, get and set, and messages between two JVMs. */
final class Bench {
    /**
     * Runs of a case whose samples count; those of all cases of a group are interleaved, after three that do not count. Their
     * median is the figure, beside the lowest and the highest.
     */
    private static final int ROUNDS = 7;
    private static final int VALUE_LEN = 100;
    private static final int KEY_LEN = 16;
    private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    /** Does a case so many times and gives something that depends on all of them. */
    @FunctionalInterface
    interface Case {
        long run(int times);
    }

    private record Named(String name, Case action) {}

    private final Results results;
    private final Fabric fabric;
    private final Path home;
    private final int scale;
    private long blackhole;

    private Bench(Results results, Fabric fabric, Path home, int scale) {
        this.results = results;
        this.fabric = fabric;
        this.home = home;
        this.scale = scale;
    }

    static int main(List<String> rest) {
        Arguments arguments = new Arguments(rest, Set.of("--results", "--quick"), 0);
        String file = arguments.option("--results");
        boolean quick = arguments.option("--quick") != null;
        Path home;
        try {
            home = Files.createTempDirectory(Files.isDirectory(Path.of("/dev/shm")) ? Path.of("/dev/shm")
                    : Path.of(System.getProperty("java.io.tmpdir")), "memora-bench-");
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        Results results = new Results(file == null ? null : Path.of(file));
        try (Fabric fabric = Fabric.builder("bench").home(home.resolve("home")).limit(256L << 20).open()) {
            Bench bench = new Bench(results, fabric, home.resolve("home"), quick ? 20 : 1);
            bench.crossing();
            bench.cache(10_000);
            bench.cache(100_000);
            if (!quick) {
                bench.cache(1_000_000);
            }
            ChannelBench.run(results, fabric, home.resolve("home"), quick ? 200_000 : 5_000_000);
            return bench.blackhole == 42 ? 3 : 0;
        } finally {
            remove(home);
        }
    }

    private static void remove(Path home) {
        try {
            Fabric.remove(home.resolve("home"), "bench");
            Files.deleteIfExists(home.resolve("home"));
            Files.deleteIfExists(home);
        } catch (IOException error) {
            System.err.println("memora: " + home + " is left behind: " + error.getMessage());
        }
    }

    private double[][] measure(int times, List<Named> cases) {
        int count = Math.max(1, times / scale);
        double[][] samples = new double[cases.size()][ROUNDS];
        // Enough rounds before for the compiler to have finished.
        for (int round = -3; round < ROUNDS; round++) {
            for (int i = 0; i < cases.size(); i++) {
                long start = System.nanoTime();
                blackhole += cases.get(i).action.run(count);
                double value = (System.nanoTime() - start) / (double) count;
                if (round >= 0) {
                    samples[i][round] = value;
                }
            }
        }
        return samples;
    }

    private void report(String bench, String unit, List<Named> cases, double[][] samples) {
        for (int i = 0; i < samples.length; i++) {
            results.add(bench, cases.get(i).name, 1, unit, samples[i], null, 0);
        }
    }

    private void crossing() {
        long handle = Native.fabricOpen("bench", home.toString(), 0, -1, -1, 0, false, 0);
        try {
            byte[] bytes = new byte[VALUE_LEN];
            ByteBuffer direct = ByteBuffer.allocateDirect(VALUE_LEN);
            List<Named> cases = List.of(
                    new Named("crossing, nothing but the guard", times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += Native.crossNothing();
                        }
                        return sum;
                    }),
                    new Named("crossing with the check of a handle", times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += Native.crossEmpty(handle);
                        }
                        return sum;
                    }),
                    new Named("crossing, byte[100] copied by us to scratch", times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            Scratch scratch = Scratch.take();
                            scratch.value(bytes, 0, VALUE_LEN);
                            sum += Native.crossAddress(scratch.valueAddress(), VALUE_LEN);
                            scratch.give();
                        }
                        return sum;
                    }),
                    new Named("crossing, byte[100] copied by the JVM", times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += Native.crossArray(bytes, VALUE_LEN);
                        }
                        return sum;
                    }),
                    new Named("crossing, direct buffer as an argument", times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += Native.crossBuffer(direct, VALUE_LEN);
                        }
                        return sum;
                    }));
            report("java", "ns/op", cases, measure(2_000_000, cases));
        } finally {
            Native.close(handle);
        }
    }

    private void cache(int keys) {
        // A fabric of its own: overwriting fills what it may have before it cleans.
        String fabricName = "bench-" + keys;
        try (Fabric own = Fabric.builder(fabricName).home(home).limit(Math.max(64L << 20, keys * 512L)).open();
                Cache cache = own.cache("cache")) {
            byte[] value = new byte[VALUE_LEN];
            byte[] key = new byte[KEY_LEN];
            for (int i = 0; i < keys; i++) {
                cache.set(key(key, i), value);
            }
            if (cache.size() != keys) {
                throw new IllegalStateException("the cache has " + cache.size() + " entries, not " + keys);
            }
            Random random = new Random(keys);
            byte[][] many = new byte[16][KEY_LEN];
            ByteBuffer directKey = ByteBuffer.allocateDirect(KEY_LEN);
            ByteBuffer directValue = ByteBuffer.allocateDirect(VALUE_LEN);
            String name = " uniform " + (keys < 1_000_000 ? keys / 1000 + "k" : keys / 1_000_000 + "M") + " 16B/100B";
            List<Named> cases = List.of(
                    new Named("nothing but the loop, its keys and a copy" + name, times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += key(key, random.draw(keys)).clone().length;
                        }
                        return sum;
                    }),
                    new Named("get" + name, times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += cache.get(key(key, random.draw(keys))).length;
                        }
                        return found(sum, times);
                    }),
                    new Named("get to direct buffer" + name, times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            directKey.put(0, key(key, random.draw(keys)));
                            sum += cache.get(directKey, directValue);
                        }
                        return found(sum, times);
                    }),
                    new Named("getMany of 16, a key" + name, times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i += many.length) {
                            for (byte[] one : many) {
                                key(one, random.draw(keys));
                            }
                            for (byte[] one : cache.getMany(many)) {
                                sum += one.length;
                            }
                        }
                        return sum;
                    }),
                    new Named("set (overwrite)" + name, times -> {
                        long sum = 0;
                        for (int i = 0; i < times; i++) {
                            sum += cache.set(key(key, random.draw(keys)), value);
                        }
                        return sum;
                    }));
            report("cache", "ns/op", cases, measure(1_000_000, cases));
        } finally {
            Fabric.remove(home, fabricName);
        }
    }

    private static long found(long sum, int times) {
        if (sum != (long) times * VALUE_LEN) {
            throw new IllegalStateException("a value was not found, or had another length");
        }
        return sum;
    }

    private static byte[] key(byte[] key, int number) {
        // As the benches in Rust have them.
        LONGS.set(key, 0, 0x6b65792d30303030L);
        LONGS.set(key, 8, (long) number);
        return key;
    }
}
