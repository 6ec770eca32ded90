package io.memora;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/**
 * A JVM that writes a lane itself is killed and stopped at each moment of a message, and a thread that writes or reads is thrown out there: what
 * it had committed is there, what it had not is not, and the lane goes on.
 */
class LaneMomentsTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(60);
    private static final byte[] END = {};

    /** A child that stands at a moment. */
    private final class Standing implements AutoCloseable {
        private final Process process;
        private final BufferedReader said;
        /** The number of the message that it has in hand. */
        private final long number;
        /** Of what it sends. */
        private final Reader reader;

        Standing(Subscriber subscriber, String moment, int times) throws IOException {
            reader = new Reader(subscriber);
            process = Testing.child(Testing.thisJava(), List.of("-XX:TieredStopAtLevel=1", "-Dio.memora.moments=true"), LaneChild.class, "send",
                    home.toString(), moment, "" + times).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            said = process.inputReader();
            String line = said.readLine();
            assertTrue(line != null && line.startsWith("reached "), moment + ": " + line);
            number = Long.parseLong(line.substring(8));
        }

        void kill() throws InterruptedException {
            process.destroyForcibly();
            assertEquals(137, process.waitFor());
        }

        void signal(String name) throws Exception {
            assertEquals(0, new ProcessBuilder("kill", "-" + name, "" + process.pid()).inheritIO().start().waitFor());
        }

        /** Lets it go on to its end. */
        void finish() throws Exception {
            process.outputWriter().append('\n').flush();
            assertEquals("sent", said.readLine());
            assertTrue(process.waitFor(60, TimeUnit.SECONDS));
            assertEquals(0, process.exitValue());
        }

        @Override
        public void close() {
            process.destroyForcibly();
        }
    }

    /** Takes messages as they come, sleeping in between, up to an empty one. */
    private static final class Reader extends Thread {
        private final Subscriber subscriber;
        private final List<Message> got = new ArrayList<>();
        private Throwable wrong;

        Reader(Subscriber subscriber) {
            this.subscriber = subscriber;
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            try {
                do {
                    Message message = subscriber.recv(LONG);
                    if (message == null) {
                        throw new AssertionError("nothing comes behind " + got.size() + " messages");
                    }
                    got.add(message);
                } while (got.get(got.size() - 1).payload().length > 0);
            } catch (Throwable error) {
                wrong = error;
            }
        }

        /** What came before the empty one, on one lane. */
        List<Long> numbers(int lane) throws InterruptedException {
            join();
            assertNull(wrong, () -> "" + wrong);
            return got.stream().filter(it -> it.lane() == lane && it.payload().length > 0).map(it -> LaneChild.number(it.payload())).toList();
        }

        int lane() {
            return got.get(0).lane();
        }
    }

    private static List<Long> numbers(long from, long to) {
        return LongStream.range(from, to).boxed().toList();
    }

    @Test
    void theNextPublisherGoesOnWithTheLaneOfAJvmThatWasKilledAtAnyMoment() throws Exception {
        for (String moment : LaneChild.MOMENTS) {
            for (int turn = 0; turn < Testing.LENGTH; turn++) {
                int times = moment.equals("waking") ? turn : 100 + turn * 37;
                try (Channel channel = fabric.channel("lane", LaneChild.OPTIONS);
                        Subscriber subscriber = channel.subscriber();
                        Standing child = new Standing(subscriber, moment, times)) {
                    Reader reader = child.reader;
                    child.kill();
                    fabric.reap();
                    boolean sent = LaneChild.MOMENTS.indexOf(moment) >= LaneChild.COMMITTED;
                    long next = child.number + (sent ? 1 : 0);
                    int lane;
                    try (Publisher publisher = channel.publisher()) {
                        for (long number = next; number < next + 300; number++) {
                            publisher.send(LaneChild.payload(number), LONG);
                        }
                        publisher.send(END, LONG);
                        reader.join();
                        lane = reader.lane();
                    }
                    assertEquals(numbers(0, next + 300), reader.numbers(lane), moment);
                    assertEquals(1, channel.stats().lanes(), moment + ": it went on with another lane");
                }
                assertEquals(List.of(), fabric.check(), moment);
            }
        }
    }

    @Test
    void aJvmThatWasStoppedAtAnyMomentGoesOnAsIfNothingHadHappened() throws Exception {
        for (String moment : LaneChild.MOMENTS) {
            int times = moment.equals("waking") ? 0 : 300;
            try (Channel channel = fabric.channel("lane", LaneChild.OPTIONS);
                    Subscriber subscriber = channel.subscriber();
                    Standing child = new Standing(subscriber, moment, times)) {
                Reader reader = child.reader;
                child.signal("STOP");
                // Nobody takes anything from it: whoever sends meanwhile does so elsewhere, over more than a ring.
                fabric.reap();
                Publisher other = channel.publisher();
                for (long number = 0; number < 500; number++) {
                    other.send(LaneChild.payload(number), LONG);
                }
                Subscriber late = channel.subscriber();
                child.signal("CONT");
                Reader lateReader = new Reader(late);
                child.finish();
                other.send(END, LONG);
                reader.join();
                int lane = reader.lane();
                assertEquals(numbers(0, LaneChild.LAST), reader.numbers(lane), moment);
                Message end = reader.got.get(reader.got.size() - 1);
                assertNotEquals(lane, end.lane(), moment);
                assertEquals(numbers(0, 500), reader.numbers(end.lane()), moment);
                List<Long> rest = lateReader.numbers(lane);
                boolean sent = LaneChild.MOMENTS.indexOf(moment) > LaneChild.COMMITTED;
                assertTrue(rest.get(0) <= child.number + 1 && (!sent || rest.get(0) == child.number + 1), moment + ": " + rest.get(0));
                assertEquals(numbers(rest.get(0), LaneChild.LAST), rest, moment);
                late.close();
                other.close();
            }
            assertEquals(List.of(), fabric.check(), moment);
        }
    }

    @Test
    void aThreadThatIsThrownOutAtAnyMomentLeavesALaneThatGoesOn() throws Exception {
        run("thrown", List.of("-Dio.memora.moments=true"));
    }

    @Test
    void aReadingThreadThatIsThrownOutAtAnyMomentLosesNothingAndLeavesPublishersTheirRoom() throws Exception {
        run("reading", List.of("-Dio.memora.moments=true"));
    }

    @Test
    void aThreadWithoutRoomOnItsStackLosesAndRepeatsNothing() throws Exception {
        for (int turn = 0; turn < Testing.LENGTH; turn++) {
            run("deep", List.of("-Xint"));
            run("deep", List.of());
        }
    }

    private void run(String role, List<String> options) throws Exception {
        Testing.Ended child = Testing.run(Testing.child(Testing.thisJava(), options, LaneChild.class, role, home.toString()), "");
        assertEquals("fine\n", child.out(), child.err());
        assertEquals(List.of(), fabric.check());
    }
}
