package io.memora.cli;

import io.memora.Cache;
import io.memora.Channel;
import io.memora.ChannelOptions;
import io.memora.ErrorCode;
import io.memora.Fabric;
import io.memora.MemoraException;
import io.memora.Publisher;
import io.memora.Store;
import io.memora.StoreOptions;
import io.memora.Subscriber;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Stream;

/**
 * Two JVMs share a cache, a channel and a store; one of them is killed in the middle and started again, and the result is exact.
 */
final class Demo {
    private static final int ORDERS = 5_000;
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final ChannelOptions CHANNEL = ChannelOptions.broadcast().laneBytes(64 * 1024);

    private Demo() {}

    static int main(List<String> rest) {
        new Arguments(rest, Set.of(), 0);
        Path home = temporary(Path.of("/dev/shm"));
        Path files = temporary(Path.of(System.getProperty("java.io.tmpdir")));
        try {
            return run(home.resolve("home"), files.resolve("orders"));
        } finally {
            remove(home);
            remove(files);
        }
    }

    private static int run(Path home, Path files) {
        try (Fabric fabric = Fabric.builder("demo").home(home).limit(32L << 20).open();
                Channel channel = fabric.channel("orders", CHANNEL);
                Cache cache = fabric.cache("customers");
                Store store = fabric.store("stored-orders", StoreOptions.in(files));
                Publisher publisher = channel.publisher()) {
            // The named subscription begins here, whoever takes it over.
            channel.subscriber("worker").close();
            System.out.printf("This JVM (process %d) sends %,d orders; a second one stores them.%n",
                    ProcessHandle.current().pid(), ORDERS);
            Process worker = worker(home, files);
            for (int order = 1; order <= ORDERS; order++) {
                if (publisher.send(bytes(order + " c" + order % 10), PATIENCE) == Publisher.BACK_PRESSURE) {
                    throw MemoraException.of(ErrorCode.TIMED_OUT, "The second JVM takes no orders.", 0);
                }
                if (order == ORDERS / 2) {
                    // Until it is at work, so that it is killed while it handles orders.
                    await("The second JVM did not begin.", () -> store.size() > ORDERS / 10);
                    worker.destroyForcibly();
                    System.out.printf("After %,d orders the second JVM (process %d) is killed with %,d stored.%n",
                            order, worker.pid(), store.size());
                    worker = worker(home, files);
                }
            }
            publisher.send(bytes("end"));
            int code = waitFor(worker);
            long counted = 0;
            for (int customer = 0; customer < 10; customer++) {
                byte[] last = cache.get(bytes("c" + customer));
                counted += last == null ? 0 : 1;
            }
            boolean exact = code == 0 && store.size() == ORDERS && counted == 10;
            System.out.printf("The store has %,d orders, the cache the last one of %d customers: %s.%n",
                    store.size(), counted, exact ? "nothing is lost and nothing counts twice" : "THIS IS WRONG");
            return exact ? 0 : 1;
        }
    }

    private static Process worker(Path home, Path files) {
        return Processes.start(List.of("demo-worker", "--home", home.toString(), "--fabric", "demo",
                "--store-dir", files.toString()));
    }

    /** The second JVM. */
    static int worker(List<String> rest) {
        Arguments arguments = new Arguments(rest, Set.of("--home", "--fabric", "--store-dir"), 0);
        try (Fabric fabric = arguments.open();
                Channel channel = fabric.openChannel("orders");
                Cache cache = fabric.cache("customers");
                Store store = fabric.store("stored-orders", StoreOptions.in(Path.of(arguments.required("--store-dir"))));
                Subscriber subscriber = subscribe(channel)) {
            boolean[] ended = {false};
            while (!ended[0]) {
                int taken = subscriber.poll((lane, position, payload) -> {
                    String[] words = StandardCharsets.UTF_8.decode(payload).toString().split(" ");
                    if (words.length == 2) {
                        // The number of the order is the key: one that is seen twice is stored once.
                        store.set(bytes(words[0]), bytes(words[1]));
                        cache.set(bytes(words[1]), bytes(words[0]));
                    } else {
                        ended[0] = true;
                    }
                }, 64);
                if (taken == 0) {
                    LockSupport.parkNanos(100_000);
                }
            }
            return 0;
        }
    }

    private static Subscriber subscribe(Channel channel) {
        Subscriber[] subscriber = new Subscriber[1];
        await("The subscription stays in use.", () -> {
            try {
                subscriber[0] = channel.subscriber("worker");
                return true;
            } catch (MemoraException error) {
                if (error.code() != ErrorCode.SUBSCRIPTION_IN_USE) {
                    throw error;
                }
                return false;
            }
        });
        return subscriber[0];
    }

    private static void await(String otherwise, java.util.function.BooleanSupplier condition) {
        long start = System.nanoTime();
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() - start > PATIENCE.toNanos()) {
                throw MemoraException.of(ErrorCode.TIMED_OUT, otherwise, 0);
            }
            LockSupport.parkNanos(1_000_000);
        }
    }

    private static int waitFor(Process process) {
        try {
            return process.waitFor();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            process.destroyForcibly();
            return -1;
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static Path temporary(Path place) {
        try {
            return Files.isDirectory(place) ? Files.createTempDirectory(place, "memora-demo-")
                    : Files.createTempDirectory("memora-demo-");
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static void remove(Path directory) {
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(file);
            }
        } catch (IOException error) {
            System.err.println("memora: " + directory + " is left behind: " + error.getMessage());
        }
    }
}
