package io.memora.cli;

import io.memora.Channel;
import io.memora.ChannelOptions;
import io.memora.Fabric;
import io.memora.MemoraException;
import io.memora.Message;
import io.memora.Publisher;
import io.memora.Subscriber;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.locks.LockSupport;

/** The channel worker: at most one publisher and one subscriber. */
final class StressQueue implements Stress.Worker, AutoCloseable {
    private static final String CHANNEL = "stress-queue";
    private static final ChannelOptions OPTIONS = ChannelOptions.broadcast().laneBytes(64 * 1024);
    private static final Duration CONSUME_WAIT = Duration.ofMillis(50);
    private static final long PAUSE_NANOS = 1_000_000;

    private final History history;
    private final Random random;
    private final String client;
    private final Channel channel;
    private final Subscriber subscriber;
    private final Publisher publisher;
    private long sequence = 1;
    private boolean refused;

    StressQueue(Fabric fabric, History history, Random random, String client, String role, String subscription) {
        this.history = history;
        this.random = random;
        this.client = client;
        channel = fabric.channel(CHANNEL, OPTIONS);
        subscriber = role.equals("produce") ? null : subscribe(subscription);
        publisher = role.equals("consume") ? null : channel.publisher();
    }

    private Subscriber subscribe(String subscription) {
        History.Operation operation = history.operation("sub").text("q", CHANNEL);
        if (subscription != null) {
            operation.text("s", subscription);
        }
        operation.ask();
        Subscriber subscribed =
                subscription == null ? channel.subscriber() : channel.subscriber(subscription);
        operation.answered().done();
        return subscribed;
    }

    @Override
    public void step() {
        if (subscriber == null) {
            if (refused) {
                LockSupport.parkNanos(PAUSE_NANOS);
            }
            send();
        } else if (publisher == null) {
            recv(CONSUME_WAIT);
        } else if (refused) {
            refused = false;
            if (!recv(Duration.ZERO)) {
                LockSupport.parkNanos(PAUSE_NANOS);
            }
        } else if (random.draw(2) == 0) {
            send();
        } else {
            recv(Duration.ZERO);
        }
    }

    private void send() {
        int len = random.draw(20) == 0 ? random.draw(4000) : random.draw(100);
        byte[] payload = (client + " " + sequence + " " + "x".repeat(len)).getBytes(StandardCharsets.US_ASCII);
        History.Operation operation = history.operation("send").text("q", CHANNEL).text("p", client)
                .number("seq", sequence).text("sum", sum(payload)).ask();
        try {
            refused = publisher.trySend(payload) == Publisher.BACK_PRESSURE;
            operation.answered().truth("ok", !refused);
            if (refused) {
                operation.text("err", "BACK_PRESSURE");
            } else {
                sequence++;
            }
            operation.done();
        } catch (MemoraException error) {
            refused = true;
            Stress.refused(operation.answered(), error);
        }
    }

    /** Whether a message came. */
    private boolean recv(Duration wait) {
        History.Operation operation = history.operation("recv").text("q", CHANNEL).ask();
        Message message;
        try {
            message = wait.isZero() ? subscriber.tryRecv() : subscriber.recv(wait);
        } catch (MemoraException error) {
            Stress.refused(operation.answered(), error);
            return false;
        }
        operation.answered();
        if (message != null) {
            String[] words = new String(message.payload(), StandardCharsets.ISO_8859_1).split(" ", 3);
            boolean readable = words.length == 3 && words[1].matches("\\d{1,18}");
            operation.text("p", readable ? words[0] : "?").number("seq", readable ? Long.parseLong(words[1]) : 0)
                    .text("sum", sum(message.payload()));
        }
        operation.done();
        return message != null;
    }

    private static String sum(byte[] payload) {
        return String.format("%016x", Random.hash(payload));
    }

    @Override
    public void close() {
        if (subscriber != null) {
            subscriber.close();
        }
        if (publisher != null) {
            publisher.close();
        }
        channel.close();
    }
}
