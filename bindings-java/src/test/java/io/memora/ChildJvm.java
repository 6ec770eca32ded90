package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.string;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/** What the child JVMs of the tests do. */
public final class ChildJvm {
    private ChildJvm() {}

    public static void main(String[] arguments) throws Exception {
        Path home = arguments.length > 1 ? Path.of(arguments[1]) : null;
        switch (arguments[0]) {
            case "open" -> open(home);
            case "work" -> work(home, Path.of(arguments[2]));
            case "look" -> look(home, Path.of(arguments[2]));
            case "virtual-look" -> virtualLook(home);
            case "virtual" -> virtual(home);
            case "views" -> views(home);
            case "compute" -> compute(home);
            case "take" -> take(home);
            case "virtual-compute" -> virtualCompute(home);
            case "own" -> own(home);
            case "virtual-signals" -> virtualSignals(home);
            case "transfer" -> transfer(home, Path.of(arguments[2]), Integer.parseInt(arguments[3]));
            case "virtual-transfer" -> virtualTransfer(home, Path.of(arguments[2]));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void open(Path home) {
        try (Fabric fabric = Fabric.builder("test").home(home).open(); Cache cache = fabric.cache("cache")) {
            cache.set(bytes("child"), bytes("here"));
            System.out.println("opened by Java " + Runtime.version().feature());
        } catch (MemoraException error) {
            System.out.println(error.code() + ": " + error.getMessage());
            System.exit(3);
        }
    }

    /** Moves money about in transactions. */
    private static void transfer(Path home, Path files, int transfers) {
        try (Fabric fabric = Fabric.builder("test").home(home).open(); Store store = TransactionTest.openStore(fabric, files)) {
            TransactionTest.moveMoney(store, transfers, 99);
            System.out.println("moved");
        }
    }

    /** The same in hundreds of virtual threads. */
    private static void virtualTransfer(Path home, Path files) throws Exception {
        var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        AtomicInteger moved = new AtomicInteger();
        try (Fabric fabric = Fabric.builder("test").home(home).open(); Store store = TransactionTest.openStore(fabric, files)) {
            List<Thread> all = new ArrayList<>();
            for (int i = 0; i < 200; i++) {
                long seed = i;
                all.add((Thread) start.invoke(null, (Runnable) () -> {
                    TransactionTest.moveMoney(store, 5, seed);
                    moved.incrementAndGet();
                }));
            }
            for (Thread thread : all) {
                thread.join();
            }
        }
        System.out.println(moved + " moved");
    }

    /** Has the lock and two permits, for ever. */
    private static void own(Path home) throws Exception {
        try (Fabric fabric = Fabric.builder("test").home(home).open();
                NamedLock lock = fabric.lock("lock");
                NamedSemaphore semaphore = fabric.semaphore("permits", 3);
                NamedCounter held = fabric.counter("held")) {
            NamedLock.Held mine = lock.lock();
            NamedSemaphore.Held two = semaphore.acquire(2);
            held.add(1);
            Thread.sleep(Long.MAX_VALUE);
            two.close();
            mine.close();
        }
    }

    /** Hundreds of virtual threads that wait for one event at the same time, on few carriers; one that wants a lock. */
    private static void virtualSignals(Path home) throws Exception {
        var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        AtomicInteger heard = new AtomicInteger();
        String[] refused = new String[1];
        try (Fabric fabric = Fabric.builder("test").home(home).open();
                NamedEvent event = fabric.event("event");
                NamedCounter waiting = fabric.counter("waiting");
                NamedLock lock = fabric.lock("lock")) {
            List<Thread> all = new ArrayList<>();
            for (int i = 0; i < 500; i++) {
                all.add((Thread) start.invoke(null, (Runnable) () -> {
                    waiting.add(1);
                    heard.addAndGet(event.await(0, Duration.ofSeconds(20)) == null ? 0 : 1);
                }));
            }
            // All are inside at once: none holds its carrier.
            waiting.awaitAtLeast(500, Duration.ofSeconds(20));
            event.signalAll();
            all.add((Thread) start.invoke(null, (Runnable) () -> {
                try {
                    lock.lock().close();
                } catch (MemoraException error) {
                    refused[0] = error.code().toString();
                }
            }));
            for (Thread thread : all) {
                thread.join();
            }
        }
        System.out.println(heard + " heard, " + refused[0]);
    }

    /** Takes one request and keeps it. */
    private static void take(Path home) throws Exception {
        try (Fabric fabric = Fabric.builder("test").home(home).open();
                Service service = fabric.openService("work");
                Server server = service.server()) {
            Request request = server.take(Duration.ofSeconds(20));
            System.out.println("took " + string(request.data()));
            Thread.sleep(Long.MAX_VALUE);
        }
    }

    /** Makes a value for ever. */
    private static void compute(Path home) throws Exception {
        try (Fabric fabric = Fabric.builder("test").home(home).open(); Cache cache = fabric.cache("cache")) {
            cache.getOrCompute(bytes("k"), SetOptions.NONE, Duration.ZERO, key -> {
                System.out.println("computing");
                Thread.sleep(Long.MAX_VALUE);
                return key;
            });
        }
    }

    /** Hundreds of virtual threads that ask for one value; the one that makes it sleeps, so others use its carrier meanwhile. */
    private static void virtualCompute(Path home) throws Exception {
        var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        AtomicInteger made = new AtomicInteger();
        AtomicInteger right = new AtomicInteger();
        try (Fabric fabric = Fabric.builder("test").home(home).open(); Cache cache = fabric.cache("cache")) {
            List<Thread> all = new ArrayList<>();
            for (int i = 0; i < 500; i++) {
                all.add((Thread) start.invoke(null, (Runnable) () -> {
                    byte[] value = cache.getOrCompute(bytes("k"), SetOptions.NONE, Duration.ofSeconds(20), key -> {
                        made.incrementAndGet();
                        LockSupport.parkNanos(50_000_000);
                        return bytes("value");
                    });
                    right.addAndGet(string(value).equals("value") ? 1 : 0);
                }));
            }
            for (Thread thread : all) {
                thread.join();
            }
        }
        System.out.println("made " + made + " for " + right);
    }

    /** Views that are never closed; for ever. */
    private static void views(Path home) throws InterruptedException {
        Fabric fabric = Fabric.builder("test").home(home).open();
        Cache cache = fabric.cache("cache");
        List<View> views = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            views.add(cache.view(bytes("k" + i)));
        }
        System.out.println("holding");
        Thread.sleep(Long.MAX_VALUE);
        views.clear();
    }

    /** The subscription of the workers, once it was taken over from the dead one. */
    private static Subscriber worker(Channel channel) {
        while (true) {
            try {
                return channel.subscriber("worker");
            } catch (MemoraException error) {
                if (error.code() != ErrorCode.SUBSCRIPTION_IN_USE) {
                    throw error;
                }
                Thread.onSpinWait();
            }
        }
    }

    /** Takes numbers from the channel, adds each to the store under its position, counts in the cache; for ever. */
    private static void work(Path home, Path files) {
        try (Fabric fabric = Fabric.builder("test").home(home).open();
                Channel channel = fabric.openChannel("numbers");
                Cache cache = fabric.cache("cache");
                Store store = fabric.store("seen", StoreOptions.in(files))) {
            Subscriber subscriber = worker(channel);
            cache.increment(bytes("starts"), 1, 1);
            while (true) {
                Message message = subscriber.recv(Duration.ofMillis(50));
                if (message != null && string(message.payload()).equals("end")) {
                    return;
                }
                if (message != null) {
                    store.set(bytes(message.lane() + " " + message.position()), message.payload());
                }
            }
        }
    }

    /** Takes numbers in place, adds each to the store; for ever. */
    private static void look(Path home, Path files) {
        boolean[] end = {false};
        try (Fabric fabric = Fabric.builder("test").home(home).open();
                Channel channel = fabric.openChannel("numbers");
                Store store = fabric.store("seen", StoreOptions.in(files))) {
            Subscriber subscriber = worker(channel);
            while (!end[0]) {
                subscriber.pollInPlace(view -> {
                    String text = string(view.toByteArray());
                    if (text.equals("end")) {
                        end[0] = true;
                    } else {
                        store.set(bytes(text), bytes("seen"));
                    }
                }, 20);
            }
        }
    }

    /** A thousand messages for a thread of the platform, and as many for a virtual one. */
    private static void virtualLook(Path home) throws Exception {
        var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        int[] seen = {0, 0};
        try (Fabric fabric = Fabric.builder("test").home(home).open()) {
            for (int kind = 0; kind < 2; kind++) {
                int which = kind;
                Runnable all = () -> {
                    try (Channel channel = fabric.channel("looked" + which, ChannelOptions.stream());
                            Publisher publisher = channel.publisher();
                            Subscriber subscriber = channel.subscriber()) {
                        // The library meets the lane.
                        subscriber.pollInPlace(view -> {}, 1);
                        for (int number = 0; number < 1000; number++) {
                            publisher.send(bytes("number " + number));
                            String expected = "number " + number;
                            while (subscriber.pollInPlace(view -> {
                                if (string(view.toByteArray()).equals(expected) && view.isCopy() == (which == 1)) {
                                    seen[which]++;
                                }
                            }, 1) == 0) {
                                Thread.yield();
                            }
                        }
                    }
                };
                if (kind == 0) {
                    all.run();
                } else {
                    ((Thread) start.invoke(null, all)).join();
                }
            }
        }
        System.out.println(seen[0] + " in place, " + seen[1] + " copied");
    }

    /** Thousands of virtual threads on a cache and a channel; the test's own code is for Java 17. */
    private static void virtual(Path home) throws Exception {
        var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
        int threads = 2_000;
        try (Fabric fabric = Fabric.builder("test").home(home).open();
                Cache cache = fabric.cache("cache");
                Channel channel = fabric.channel("news", ChannelOptions.broadcast());
                Publisher publisher = channel.publisher()) {
            List<Thread> all = new ArrayList<>();
            cache.set(bytes("n"), bytes("0"));
            for (int i = 0; i < threads; i++) {
                byte[] key = bytes("key " + i);
                all.add((Thread) start.invoke(null, (Runnable) () -> {
                    cache.set(key, key);
                    Thread.yield();
                    if (!string(cache.get(key)).equals(string(key))) {
                        throw new IllegalStateException("another thread's value");
                    }
                    cache.increment(bytes("n"), 1);
                }));
            }
            String[] received = new String[1];
            Subscriber subscriber = channel.subscriber();
            Thread waiter = (Thread) start.invoke(null,
                    (Runnable) () -> received[0] = string(subscriber.recv(Duration.ofSeconds(20)).payload()));
            for (Thread thread : all) {
                thread.join();
            }
            publisher.send(bytes("hello"));
            waiter.join();
            System.out.println("counted " + string(cache.get(bytes("n"))) + ", received " + received[0]);
        }
    }
}
