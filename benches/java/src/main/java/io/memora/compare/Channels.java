package io.memora.compare;

import io.memora.Channel;
import io.memora.ChannelOptions;
import io.memora.Fabric;
import io.memora.MessageView;
import io.memora.Publisher;
import io.memora.Subscriber;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import org.agrona.DirectBuffer;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.IdleStrategy;
import org.agrona.concurrent.UnsafeBuffer;

/**
 * One of the two JVMs of the contestants in Java: our channels beside Aeron IPC, an Agrona ring in a mapped file, and Chronicle Queue. The protocol
 * is that of {@code benches/compare/src/channels/worker.rs}.
 */
public final class Channels {
    /** Messages of one poll at most. */
    static final int BATCH = 256;
    private static final int SLEEP_NANOS = 200_000;

    /** Takes the bytes of a message. */
    interface Taker {
        /** From {@code at} on, {@code len} of them. */
        void take(DirectBuffer buffer, int at, int len);

        /** Where ours stands. */
        void take(MessageView message);
    }

    /** The sending end. */
    interface Out extends AutoCloseable {
        /** Sends the first bytes of a buffer, and waits for room. */
        void send(UnsafeBuffer message, int len);

        @Override
        void close();
    }

    /** The receiving end. */
    interface In extends AutoCloseable {
        /** Takes up to so many messages that are there. */
        int poll(Taker taker, int limit);

        /** Takes one message at least; the thread sleeps until there is one. */
        void await(Taker taker);

        @Override
        void close();
    }

    /** A contestant. */
    interface Link {
        In receive(String direction, long number, int size);

        Out send(String direction, long number, int size);
    }

    private record Task(String contestant, String what, int size, long count, long number) {
        static Task read(String line) {
            String[] words = line.trim().split(" ");
            return new Task(words[0], words[1], Integer.parseInt(words[2]), Long.parseLong(words[3]), Long.parseLong(words[4]));
        }

        long warm() {
            return count / 10 + 1;
        }

        boolean blocking() {
            return what.equals("block");
        }
    }

    private final Path folder;
    private final boolean first;
    private final Fabric fabric;
    private Link aeron;

    private Channels(Path folder, boolean first) {
        this.folder = folder;
        this.first = first;
        this.fabric = Fabric.builder("bench-java").home(folder.resolve("memora")).open();
    }

    public static void main(String[] arguments) throws IOException {
        Path folder = Path.of(System.getenv("MEMORA_CHANNELS_FOLDER"));
        Channels worker = new Channels(folder, "a".equals(System.getenv("MEMORA_CHANNELS_SIDE")));
        BufferedReader tasks = new BufferedReader(new InputStreamReader(System.in));
        for (String line = tasks.readLine(); line != null; line = tasks.readLine()) {
            String answer = worker.perform(Task.read(line));
            System.out.println("done " + answer);
        }
        System.exit(0);
    }

    private Link link(String contestant) {
        return switch (contestant) {
            case "memora" -> new Memora(fabric);
            case "agrona" -> new AgronaRing(folder);
            case "chronicle" -> new Chronicle(folder);
            default -> {
                // The media driver is in the receiving JVM, and starts with the first task.
                if (aeron == null) {
                    aeron = new AeronIpc(folder.resolve("aeron"), !first);
                }
                yield aeron;
            }
        };
    }

    private String perform(Task task) throws IOException {
        Link link = link(task.contestant);
        if (task.what.equals("rate")) {
            return first ? sendAll(link, task) : count(link, task);
        }
        return first ? roundTrips(link, task) : echo(link, task);
    }

    private static void ready() {
        System.out.println("ready");
        System.out.flush();
    }

    private static UnsafeBuffer message(int size) {
        UnsafeBuffer message = new UnsafeBuffer(ByteBuffer.allocateDirect(size));
        message.setMemory(0, size, (byte) 7);
        return message;
    }

    private static String sendAll(Link link, Task task) {
        UnsafeBuffer message = message(task.size);
        long end = task.warm() + task.count;
        try (Out out = link.send("there", task.number, task.size)) {
            for (long number = 0; number < end; number++) {
                message.putLong(task.size - 8, number);
                message.putLong(0, number);
                out.send(message, task.size);
            }
        }
        return "";
    }

    /** Checks that messages are whole and in order, and counts them. */
    private static final class Counter implements Taker {
        private final int size;
        private long next;

        private Counter(int size) {
            this.size = size;
        }

        @Override
        public void take(DirectBuffer buffer, int at, int len) {
            check(len == size && buffer.getLong(at) == next && buffer.getLong(at + len - 8) == next);
        }

        @Override
        public void take(MessageView message) {
            int len = message.length();
            check(len == size && message.getLong(0) == next && message.getLong(len - 8) == next);
        }

        private void check(boolean right) {
            if (!right) {
                throw new IllegalStateException("message " + next + " is not whole or not in its place");
            }
            next++;
        }
    }

    private static String count(Link link, Task task) {
        Counter counter = new Counter(task.size);
        long end = task.warm() + task.count;
        long start = 0;
        long counted = 0;
        try (In in = link.receive("there", task.number, task.size)) {
            ready();
            while (counter.next < end) {
                if (in.poll(counter, BATCH) == 0) {
                    Thread.onSpinWait();
                }
                if (start == 0 && counter.next >= task.warm()) {
                    start = System.nanoTime();
                    counted = end - counter.next;
                }
            }
            return System.nanoTime() - start + " " + counted;
        }
    }

    private String roundTrips(Link link, Task task) throws IOException {
        UnsafeBuffer message = message(task.size);
        ByteBuffer times = ByteBuffer.allocate((int) task.count * 4).order(ByteOrder.nativeOrder());
        Answer answer = new Answer();
        long end = task.warm() + task.count;
        try (In in = link.receive("back", task.number, task.size); Out out = link.send("there", task.number, task.size)) {
            for (long round = 0; round < end; round++) {
                if (task.blocking()) {
                    long rest = System.nanoTime();
                    while (System.nanoTime() - rest < SLEEP_NANOS) {
                        Thread.onSpinWait();
                    }
                }
                answer.len = 0;
                long start = System.nanoTime();
                out.send(message, task.size);
                if (task.blocking()) {
                    in.await(answer);
                } else {
                    while (in.poll(answer, 1) == 0) {
                        Thread.onSpinWait();
                    }
                }
                long time = System.nanoTime() - start;
                if (answer.len != task.size) {
                    throw new IllegalStateException("an answer of " + answer.len + " bytes");
                }
                if (round >= task.warm()) {
                    times.putInt((int) Math.min(time, Integer.MAX_VALUE));
                }
            }
        }
        Path file = folder.resolve("times");
        Files.write(file, times.array());
        return file.toString();
    }

    /** What came back. */
    private static final class Answer implements Taker {
        private int len;

        @Override
        public void take(DirectBuffer buffer, int at, int answered) {
            len = answered;
        }

        @Override
        public void take(MessageView message) {
            len = message.length();
        }
    }

    /** Sends back what comes. */
    private static final class Echo implements Taker, AutoCloseable {
        private final Link link;
        private final Task task;
        private final UnsafeBuffer message;
        private Out out;
        private long left;

        private Echo(Link link, Task task) {
            this.link = link;
            this.task = task;
            this.message = message(task.size);
            this.left = task.warm() + task.count;
        }

        @Override
        public void take(DirectBuffer buffer, int at, int len) {
            message.putBytes(0, buffer, at, len);
            out().send(message, len);
            left--;
        }

        @Override
        public void take(MessageView view) {
            view.copyTo(message.byteBuffer().clear());
            out().send(message, view.length());
            left--;
        }

        private Out out() {
            if (out == null) {
                out = link.send("back", task.number, task.size);
            }
            return out;
        }

        @Override
        public void close() {
            if (out != null) {
                out.close();
            }
        }
    }

    private static String echo(Link link, Task task) {
        try (In in = link.receive("there", task.number, task.size); Echo echo = new Echo(link, task)) {
            ready();
            while (echo.left > 0) {
                if (task.blocking()) {
                    in.await(echo);
                } else if (in.poll(echo, 1) == 0) {
                    Thread.onSpinWait();
                }
            }
            return "";
        }
    }

    /** Peers that cannot be woken look again after pauses that grow to a millisecond, as their guides say. */
    static void park(In in, Taker taker) {
        IdleStrategy idle = new BackoffIdleStrategy();
        while (in.poll(taker, 1) == 0) {
            idle.idle();
        }
    }

    /** A stream of ours. */
    private record Memora(Fabric fabric) implements Link {
        private Channel channel(String direction, int size) {
            boolean large = size > 4096;
            ChannelOptions options = ChannelOptions.stream().laneBytes(large ? 1 << 20 : 0);
            return fabric.channel(large ? direction + "-large" : direction, options);
        }

        @Override
        public In receive(String direction, long number, int size) {
            Channel channel = channel(direction, size);
            Subscriber subscriber = channel.subscriber();
            return new In() {
                @Override
                public int poll(Taker taker, int limit) {
                    return subscriber.pollInPlace(taker::take, limit);
                }

                @Override
                public void await(Taker taker) {
                    byte[] payload = subscriber.recv(Duration.ofHours(1)).payload();
                    taker.take(new UnsafeBuffer(payload), 0, payload.length);
                }

                @Override
                public void close() {
                    channel.close();
                }
            };
        }

        @Override
        public Out send(String direction, long number, int size) {
            Channel channel = channel(direction, size);
            Publisher publisher = channel.publisher();
            return new Out() {
                @Override
                public void send(UnsafeBuffer message, int len) {
                    publisher.send(message.byteBuffer().clear());
                }

                @Override
                public void close() {
                    channel.close();
                }
            };
        }
    }
}
