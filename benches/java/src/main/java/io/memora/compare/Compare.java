package io.memora.compare;

import com.github.benmanes.caffeine.cache.Caffeine;
import io.memora.Cache;
import io.memora.Fabric;
import java.io.File;
import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import net.openhft.chronicle.map.ChronicleMap;

/**
 * Get and set of our cache beside Chronicle Map, which processes share too, and Caffeine, which lives in one JVM. One run, the
 * cases interleaved, medians with the lowest and the highest. Usage: {@code Compare RESULTS.jsonl}.
 */
public final class Compare {
    private static final int KEY_LEN = 16;
    private static final int VALUE_LEN = 100;
    private static final int WARM_UP = 3;
    private static final int ROUNDS = 7;
    private static final int TIMES = 500_000;
    private static final VarHandle LONGS = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    /** Reads or overwrites the entry of a number; what it gives depends on the value. */
    @FunctionalInterface
    interface Access {
        long touch(int number);
    }

    private record Peer(String name, Access get, Access set) {}

    /** A key that Caffeine can hash: arrays have no equality. */
    private record Key(long name, long number) {}

    private static long blackhole;

    private Compare() {}

    /** Runs all cases and appends them to the file that is named. */
    public static void main(String[] arguments) throws IOException {
        if (arguments.length != 1) {
            System.err.println("usage: Compare RESULTS.jsonl");
            System.exit(2);
        }
        Path results = Path.of(arguments[0]);
        Path tmpfs = Path.of("/dev/shm");
        Path folder = Files.createTempDirectory(Files.isDirectory(tmpfs) ? tmpfs : Path.of("/tmp"), "memora-compare-");
        try {
            compare(folder, 100_000, results);
            compare(folder, 1_000_000, results);
        } finally {
            try (Stream<Path> files = Files.walk(folder)) {
                files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
            }
        }
        if (blackhole == 42) {
            System.out.println();
        }
    }

    private static byte[] key(byte[] key, int number) {
        LONGS.set(key, 8, (long) number);
        return key;
    }

    private static void compare(Path folder, int keys, Path results) throws IOException {
        byte[] key = "key-000000000000".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
        byte[] value = new byte[VALUE_LEN];
        byte[] found = new byte[VALUE_LEN];
        String name = "compare-" + keys;
        try (Fabric fabric = Fabric.builder(name).home(folder.resolve("home")).limit(Math.max(64L << 20, keys * 512L)).open();
                Cache cache = fabric.cache("cache");
                ChronicleMap<byte[], byte[]> chronicle = ChronicleMap.of(byte[].class, byte[].class).name(name).entries(keys)
                        .constantKeySizeBySample(key).constantValueSizeBySample(value).putReturnsNull(true)
                        .createPersistedTo(folder.resolve(name + ".chronicle").toFile())) {
            com.github.benmanes.caffeine.cache.Cache<Key, byte[]> caffeine = Caffeine.newBuilder().maximumSize(keys * 2L).build();
            List<Peer> peers = List.of(
                    new Peer("memora", number -> cache.get(key(key, number)).length,
                            number -> cache.set(key(key, number), stamp(value, number))),
                    new Peer("Chronicle Map 2026.1", number -> chronicle.getUsing(key(key, number), found).length, number -> {
                        chronicle.put(key(key, number), stamp(value, number));
                        return number;
                    }),
                    new Peer("Caffeine 3.3.1 (one process)",
                            number -> caffeine.getIfPresent(new Key(1, number)).clone().length, number -> {
                                caffeine.put(new Key(1, number), stamp(value, number).clone());
                                return number;
                            }));
            for (Peer peer : peers) {
                for (int number = 0; number < keys; number++) {
                    blackhole += peer.set.touch(number);
                }
            }
            String size = (keys < 1_000_000 ? keys / 1000 + "k" : keys / 1_000_000 + "M") + " 16B/100B";
            report("get uniform " + size, peers, measure(peers.stream().map(Peer::get).toList(), keys), results);
            report("set uniform " + size, peers, measure(peers.stream().map(Peer::set).toList(), keys), results);
        }
    }

    private static byte[] stamp(byte[] value, int number) {
        LONGS.set(value, 0, (long) number);
        return value;
    }

    /** Nanoseconds of an access, for each case and round. */
    private static double[][] measure(List<Access> cases, int keys) {
        double[][] samples = new double[cases.size()][ROUNDS];
        for (int round = -WARM_UP; round < ROUNDS; round++) {
            for (int place = 0; place < cases.size(); place++) {
                SplittableRandom random = new SplittableRandom(round);
                Access access = cases.get(place);
                long start = System.nanoTime();
                for (int i = 0; i < TIMES; i++) {
                    blackhole += access.touch(random.nextInt(keys));
                }
                if (round >= 0) {
                    samples[place][round] = (System.nanoTime() - start) / (double) TIMES;
                }
            }
        }
        for (double[] sample : samples) {
            Arrays.sort(sample);
        }
        return samples;
    }

    private static void report(String name, List<Peer> peers, double[][] samples, Path results) throws IOException {
        List<String> beside = new ArrayList<>();
        for (int place = 0; place < peers.size(); place++) {
            double[] sorted = samples[place];
            System.out.printf(Locale.ROOT, "%-8s %-30s %-24s %9.1f ns/op (%.1f to %.1f)%n", "compare", peers.get(place).name, name,
                    sorted[ROUNDS / 2], sorted[0], sorted[ROUNDS - 1]);
            if (place > 0) {
                beside.add(String.format(Locale.ROOT, "{\"name\":\"%s\",\"value\":%.1f}", peers.get(place).name,
                        sorted[ROUNDS / 2]));
            }
        }
        double[] ours = samples[0];
        String line = String.format(Locale.ROOT,
                "{\"bench\":\"compare\",\"case\":\"%s\",\"lang\":\"java\",\"procs\":1,\"value\":%.1f,\"unit\":\"ns/op\",\"lo\":%.1f,"
                        + "\"hi\":%.1f,\"floor\":null,\"peers\":[%s],\"commit\":\"%s\",\"machine\":\"%s\"}%n",
                name, ours[ROUNDS / 2], ours[0], ours[ROUNDS - 1], String.join(",", beside), commit(), machine());
        Files.writeString(results, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    private static String commit() throws IOException {
        Process git = new ProcessBuilder("git", "rev-parse", "--short", "HEAD").redirectError(ProcessBuilder.Redirect.DISCARD)
                .start();
        return new String(git.getInputStream().readAllBytes(), java.nio.charset.StandardCharsets.UTF_8).strip();
    }

    private static String machine() throws IOException {
        String model = Files.readAllLines(Path.of("/proc/cpuinfo")).stream().filter(line -> line.startsWith("model name"))
                .map(line -> line.substring(line.indexOf(':') + 1).strip()).limit(1).collect(Collectors.joining());
        return model.replaceAll("[\"\\\\]", "") + ", " + Runtime.getRuntime().availableProcessors() + " cores, Linux "
                + System.getProperty("os.version");
    }
}
