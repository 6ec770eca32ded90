package io.memora;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/** What the child JVMs of {@link LaneMomentsTest} do; their moments are watched. */
public final class LaneChild {
    /** The moments of a message, in their order; from {@link #COMMITTED} on it was sent. The last comes only where somebody sleeps. */
    static final List<String> MOMENTS = List.of("entered", "cleared", "copied", "committed", "moved", "left", "waking");
    static final int COMMITTED = MOMENTS.indexOf("committed");
    static final ChannelOptions OPTIONS = ChannelOptions.broadcast().laneBytes(4096);
    static final int LAST = 1500;
    private static final Duration LONG = Duration.ofSeconds(60);
    private static final Consumer<String> NOTHING = moment -> {};

    private LaneChild() {}

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[1]);
        try (Fabric fabric = Fabric.builder("test").home(home).open()) {
            switch (arguments[0]) {
                case "send" -> send(fabric, arguments[2], Integer.parseInt(arguments[3]));
                case "thrown" -> thrown(fabric);
                case "reading" -> reading(fabric);
                case "deep" -> deep(fabric);
                default -> throw new IllegalArgumentException(arguments[0]);
            }
        }
    }

    /** Its number, again and again. */
    static byte[] payload(long number) {
        ByteBuffer payload = ByteBuffer.allocate((int) (8 + number % 12 * 8));
        while (payload.hasRemaining()) {
            payload.putLong(number);
        }
        return payload.array();
    }

    /** The number of a message that is whole. */
    static long number(byte[] payload) {
        ByteBuffer words = ByteBuffer.wrap(payload);
        long number = words.getLong();
        if (payload.length != 8 + number % 12 * 8) {
            throw new AssertionError("message " + number + " has " + payload.length + " bytes");
        }
        while (words.hasRemaining()) {
            if (words.getLong() != number) {
                throw new AssertionError("message " + number + " is torn");
            }
        }
        return number;
    }

    /** Sends numbers; stands still for as long as nobody writes to it when it comes to a moment for the time after so many. */
    private static void send(Fabric fabric, String where, int times) throws Exception {
        try (Channel channel = fabric.openChannel("lane"); Publisher publisher = channel.publisher()) {
            long[] now = {0};
            int[] left = {times};
            long pause = 1;
            Moments.watcher = moment -> {
                if (moment.equals(where) && left[0]-- == 0) {
                    System.out.println("reached " + now[0]);
                    try {
                        System.in.read();
                    } catch (IOException error) {
                        throw new IllegalStateException(error);
                    }
                }
            };
            for (; now[0] < LAST; now[0]++) {
                publisher.send(payload(now[0]), LONG);
                if (now[0] % 50 == 0) {
                    // Until its reader falls asleep, which takes longer on a busy machine.
                    pause = where.equals("waking") && left[0] >= 0 ? Math.min(pause * 2, 2000) : 1;
                    Thread.sleep(pause);
                }
            }
            System.out.println("sent");
        }
    }

    private static void check(boolean right, String what) {
        if (!right) {
            throw new AssertionError(what);
        }
    }

    /** A thread is thrown out at each moment; whatever is done next, what it had committed stays, and the lane goes on. */
    private static void thrown(Fabric fabric) throws Exception {
        for (String where : MOMENTS.subList(0, MOMENTS.indexOf("waking"))) {
            for (int next = 0; next < 4; next++) {
                thrown(fabric, where, next);
            }
        }
        System.out.println("fine");
    }

    private static void thrown(Fabric fabric, String where, int next) throws Exception {
        String what = "thrown out at " + where + ", " + next + ": ";
        List<Long> expected = new ArrayList<>();
        try (Channel channel = fabric.channel("thrown", OPTIONS); Subscriber subscriber = channel.subscriber()) {
            Publisher publisher = channel.publisher();
            long number = 0;
            for (; number < 40; number++) {
                publisher.send(payload(number));
                expected.add(number);
            }
            Moments.watcher = moment -> {
                if (moment.equals(where)) {
                    Moments.watcher = NOTHING;
                    throw new StackOverflowError(moment);
                }
            };
            try {
                publisher.send(payload(number));
                throw new AssertionError(what + "the thread does not write its lane itself");
            } catch (StackOverflowError meant) {
                if (MOMENTS.indexOf(where) >= COMMITTED) {
                    expected.add(number);
                }
            }
            number++;
            Publisher first = publisher;
            switch (next) {
                case 0 -> {}
                case 1 -> {
                    long other = number++;
                    elsewhere(() -> first.send(payload(other)));
                    expected.add(other);
                }
                case 2 -> publisher.close();
                default -> elsewhere(first::close);
            }
            if (next >= 2) {
                publisher = channel.publisher();
            }
            boolean[] itself = {false};
            Moments.watcher = moment -> itself[0] = true;
            for (long end = number + 50; number < end; number++) {
                publisher.send(payload(number), LONG);
                expected.add(number);
                if (number == end - 25) {
                    take(subscriber, expected, what);
                }
            }
            Moments.watcher = NOTHING;
            check(itself[0] == (next != 1), what + "writes itself: " + itself[0]);
            take(subscriber, expected, what);
            check(channel.stats().lanes() == 1, what + "the next publisher got another lane");
            publisher.close();
        }
        check(fabric.check().isEmpty(), what + fabric.check());
    }

    /** The moments of a thread that reads: what it handled by {@code noted} does not come again. */
    private static final List<String> READING = List.of("looking", "shown", "found", "handled", "noted");

    /** A thread that reads is thrown out at each moment; whoever goes on gets everything, in its order, and publishers get their room. */
    private static void reading(Fabric fabric) throws Exception {
        for (String where : READING) {
            for (int next = 0; next < 3; next++) {
                reading(fabric, where, next);
            }
        }
        System.out.println("fine");
    }

    private static void reading(Fabric fabric, String where, int next) throws Exception {
        String what = "reading, thrown out at " + where + ", " + next + ": ";
        List<Long> got = new ArrayList<>();
        ViewHandler handler = view -> got.add(number(view.toByteArray()));
        try (Channel channel = fabric.channel("read-" + where + next, OPTIONS); Publisher publisher = channel.publisher()) {
            Subscriber first = channel.subscriber("named");
            long sent = 0;
            for (; sent < 60; sent++) {
                publisher.send(payload(sent), LONG);
                first.pollInPlace(handler, 10);
            }
            boolean[] thrown = {false};
            Moments.watcher = moment -> {
                if (moment.equals(where)) {
                    Moments.watcher = NOTHING;
                    thrown[0] = true;
                    throw new StackOverflowError(moment);
                }
            };
            try {
                for (int more = 0; more < 3; more++) {
                    publisher.send(payload(sent++), LONG);
                    publisher.send(payload(sent++), LONG);
                    first.pollInPlace(handler, 10);
                }
                throw new AssertionError(what + "the thread does not read itself");
            } catch (StackOverflowError meant) {
                check(thrown[0], what + meant);
            }
            Subscriber subscriber = first;
            if (next == 1) {
                elsewhere(() -> first.pollInPlace(handler, 1));
            } else if (next == 2) {
                first.close();
                subscriber = channel.subscriber("named");
            }
            // Several times what the lane holds.
            for (long end = sent + 500; sent < end; sent++) {
                for (int full = 0; publisher.trySend(payload(sent)) == Publisher.BACK_PRESSURE; full++) {
                    check(full < 100, what + "there is no room for message " + sent);
                    subscriber.pollInPlace(handler, 1 + full);
                }
            }
            while (subscriber.pollInPlace(handler, 7) > 0) {
                continue;
            }
            int twice = 0;
            long expected = 0;
            for (long number : got) {
                if (number == expected - 1) {
                    twice++;
                } else {
                    check(number == expected++, what + number + " came instead of " + (expected - 1));
                }
            }
            check(expected == sent, what + expected + " came of " + sent);
            check(twice == (where.equals("handled") ? 1 : 0), what + twice + " came twice");
            subscriber.close();
        }
        check(fabric.check().isEmpty(), what + fabric.check());
    }

    /** Takes what is there: what is expected, which is none then. */
    private static void take(Subscriber subscriber, List<Long> expected, String what) {
        List<Long> got = new ArrayList<>();
        for (Message message = subscriber.tryRecv(); message != null; message = subscriber.tryRecv()) {
            got.add(number(message.payload()));
        }
        check(got.equals(expected), what + got + " instead of " + expected);
        expected.clear();
    }

    private static void elsewhere(Runnable what) throws InterruptedException {
        Throwable[] wrong = {null};
        Thread thread = new Thread(what);
        thread.setUncaughtExceptionHandler((dead, error) -> wrong[0] = error);
        thread.start();
        thread.join();
        check(wrong[0] == null, "elsewhere: " + wrong[0]);
    }

    /** Sends with less and less room on the stack, until there is none; many times. */
    private static void deep(Fabric fabric) throws Exception {
        ChannelOptions large = ChannelOptions.stream().laneBytes(1 << 20);
        try (Channel channel = fabric.channel("deep", large); Subscriber subscriber = channel.subscriber()) {
            Diver diver = new Diver(channel);
            int overflows = 0;
            long last = -1;
            long taken = 0;
            int rounds = 25;
            for (int round = 0; round < rounds; round++) {
                diver.acknowledged.clear();
                Thread thread = new Thread(null, diver, "diver", (160 << 10) + round % 64 * 16);
                thread.start();
                thread.join();
                check(diver.wrong == null, "diver: " + diver.wrong);
                overflows += diver.overflows;
                List<Long> got = new ArrayList<>();
                for (Message message = subscriber.tryRecv(); message != null; message = subscriber.tryRecv()) {
                    long number = number(message.payload());
                    check(number > last, number + " came behind " + last);
                    last = number;
                    got.add(number);
                }
                taken += got.size();
                got.retainAll(new java.util.HashSet<>(diver.acknowledged));
                check(got.equals(diver.acknowledged), "round " + round + ": not all that was sent came");
            }
            check(overflows > rounds && taken > 100L * rounds, overflows + " overflows, " + taken + " messages");
        }
        check(fabric.check().isEmpty(), "" + fabric.check());
        System.out.println("fine");
    }

    /** A thread that sends as deep as it can. */
    private static final class Diver implements Runnable {
        private final Channel channel;
        private final List<Long> acknowledged = new ArrayList<>(1 << 16);
        private long number;
        private int overflows;
        private Throwable wrong;
        private Publisher publisher;

        Diver(Channel channel) {
            this.channel = channel;
        }

        @Override
        public void run() {
            try (Publisher mine = channel.publisher()) {
                publisher = mine;
                overflows = 0;
                for (int dive = 0; dive < 40; dive++) {
                    // Where it writes itself, with all classes loaded.
                    send();
                }
                for (int dive = 0; dive < 3; dive++) {
                    try {
                        dive(dive);
                    } catch (StackOverflowError meant) {
                        overflows++;
                    }
                    send();
                }
            } catch (Throwable error) {
                wrong = error;
            }
        }

        private void dive(int odd) {
            send();
            if (odd > 0) {
                dive(odd - 1);
            }
            dive(odd);
        }

        private void send() {
            // Whatever it comes to, this number is used.
            long mine = number++;
            if (publisher.trySend(payload(mine)) != Publisher.BACK_PRESSURE) {
                acknowledged.add(mine);
            }
        }
    }
}
