package io.memora.cli;

import io.memora.Channel;
import io.memora.ChannelOptions;
import io.memora.Fabric;
import io.memora.Publisher;
import io.memora.Subscriber;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;

/** Messages of 56 bytes from one JVM to another. */
final class ChannelBench {
    private static final int PAYLOAD_LEN = 56;
    private static final int ROUNDS = 5;
    private static final int BATCH = 1024;
    private static final ChannelOptions OPTIONS = ChannelOptions.stream().laneBytes(1 << 20);

    private ChannelBench() {}

    static void run(Results results, Fabric fabric, Path home, int messages) {
        double[] samples = new double[ROUNDS];
        try (Channel channel = fabric.channel("bench", OPTIONS); Subscriber subscriber = channel.subscriber()) {
            Process publisher = Processes.start(List.of("bench-publisher", "--home", home.toString(), "--fabric", "bench",
                    "--ops", Long.toString((long) messages * (ROUNDS + 1))));
            long[] seen = {0};
            for (int round = -1; round < ROUNDS; round++) {
                long end = seen[0] + messages;
                long start = System.nanoTime();
                while (seen[0] < end) {
                    int taken = subscriber.poll((lane, position, payload) -> {
                        if (payload.getLong(payload.position()) != seen[0]++) {
                            throw new IllegalStateException("message " + (seen[0] - 1) + " is not in its place");
                        }
                    }, (int) Math.min(BATCH, end - seen[0]));
                    if (taken == 0) {
                        if (!publisher.isAlive() && publisher.exitValue() != 0) {
                            throw new IllegalStateException("the publishing JVM failed");
                        }
                        Thread.onSpinWait();
                    }
                }
                if (round >= 0) {
                    samples[round] = messages * 1e3 / (System.nanoTime() - start);
                }
            }
            publisher.onExit().join();
        }
        results.add("channel", "56 B between two JVMs, one by one to poll", 2, "M msg/s", samples, null, 0);
    }

    /** The publishing JVM. */
    static int publisher(List<String> rest) {
        Arguments arguments = new Arguments(rest, Set.of("--home", "--fabric", "--ops"), 0);
        long messages = arguments.number("--ops", 1);
        ByteBuffer payload = ByteBuffer.allocateDirect(PAYLOAD_LEN);
        try (Fabric fabric = arguments.open();
                Channel channel = fabric.openChannel("bench");
                Publisher publisher = channel.publisher()) {
            for (long message = 0; message < messages; message++) {
                payload.putLong(0, message);
                if (publisher.send(payload, Duration.ofSeconds(30)) == Publisher.BACK_PRESSURE) {
                    System.err.println("memora: the other JVM takes no messages");
                    return 1;
                }
            }
            return 0;
        }
    }
}
