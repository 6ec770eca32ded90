package io.memora.cli;

import io.memora.Channel;
import io.memora.Durability;
import io.memora.ErrorCode;
import io.memora.Fabric;
import io.memora.MemoraException;
import io.memora.Store;
import io.memora.StoreOptions;
import io.memora.Subscriber;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.LockSupport;

/**
 * The first JVM of the flights example: takes the channel {@code flights} by the named subscription {@code late}, and writes each
 * flight with more than an hour of delay to the store {@code late}, until the message {@code end}.
 *
 * <p>It may be killed at any moment: the subscription sees again what was not yet confirmed, and the key of a flight holds the
 * position of its message, so that one seen twice is stored once.
 */
final class FlightsLate {
    static final String CHANNEL = "flights";
    static final String LATE = "late";
    static final String END = "end";
    private static final int LATE_MINUTES = 60;
    private static final int BATCH = 256;
    /** How long to wait for the subscription of a killed predecessor; its death shows within milliseconds. */
    private static final Duration PATIENCE = Duration.ofSeconds(10);

    private final Store store;
    private boolean ended;

    private FlightsLate(Store store) {
        this.store = store;
    }

    static int main(List<String> rest) {
        Arguments arguments = new Arguments(rest, Set.of("--fabric", "--home", "--store-dir", "--airports"), 0);
        Path directory = Path.of(arguments.required("--store-dir"));
        try (Fabric fabric = arguments.open();
                Store store = fabric.store(LATE, storeOptions(directory));
                Channel channel = fabric.openChannel(CHANNEL);
                Subscriber subscriber = subscribe(channel)) {
            FlightsLate program = new FlightsLate(store);
            while (!program.ended) {
                if (subscriber.poll((lane, position, payload) -> {
                    byte[] line = new byte[payload.remaining()];
                    payload.get(line);
                    program.handle(new String(line, StandardCharsets.UTF_8), position);
                }, BATCH) == 0) {
                    LockSupport.parkNanos(500_000);
                }
            }
            // All is stored: only now may the place move over it.
            store.flush();
            subscriber.commit();
            System.out.println("stored " + store.size() + " late flights");
            return 0;
        }
    }

    static StoreOptions storeOptions(Path directory) {
        return StoreOptions.in(directory).durability(Durability.ASYNC);
    }

    private static Subscriber subscribe(Channel channel) {
        long start = System.nanoTime();
        while (true) {
            try {
                return channel.subscriber(LATE);
            } catch (MemoraException error) {
                if (error.code() != ErrorCode.SUBSCRIPTION_IN_USE
                        || System.nanoTime() - start > PATIENCE.toNanos()) {
                    throw error;
                }
                LockSupport.parkNanos(5_000_000);
            }
        }
    }

    private void handle(String line, long position) {
        if (line.equals(END)) {
            ended = true;
            return;
        }
        String[] fields = line.split(",");
        if (fields.length != 5) {
            throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "A flight has 5 fields, this line has " + fields.length
                    + ": " + line, 0, null);
        }
        if (Integer.parseInt(fields[4]) > LATE_MINUTES) {
            String key = fields[0] + " " + fields[1] + " " + fields[2] + " " + position;
            store.set(key.getBytes(StandardCharsets.UTF_8), line.getBytes(StandardCharsets.UTF_8));
        }
    }
}
