package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.BufferOverflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/** Messages that are looked at where they stand are those that were sent, whatever becomes of the subscriber meanwhile. */
class PollInPlaceTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final int RING = 4096;
    private static final ChannelOptions STREAM = ChannelOptions.stream().laneBytes(RING);
    private static final ChannelOptions BROADCAST = ChannelOptions.broadcast().laneBytes(RING);

    private static byte[] payload(int number, int len) {
        byte[] payload = new byte[len];
        for (int at = 0; at < len; at++) {
            payload[at] = (byte) (number * 31 + at * 7 + at / 256);
        }
        return payload;
    }

    /** Everything that a view can be asked. */
    private static void assertShows(MessageView view, byte[] sent) {
        int len = sent.length;
        assertEquals(len, view.length());
        assertTrue(view.isWhole());
        assertArrayEquals(sent, view.toByteArray());
        assertArrayEquals(sent, view.toMessage().payload());
        ByteBuffer expected = ByteBuffer.wrap(sent).order(ByteOrder.LITTLE_ENDIAN);
        for (int at = 0; at < len; at += at < 24 || at > len - 24 ? 1 : 37) {
            assertEquals(expected.get(at), view.getByte(at));
            int offset = at;
            if (len - at >= 2) {
                assertEquals(expected.getShort(at), view.getShort(at));
            }
            if (len - at >= 4) {
                assertEquals(expected.getInt(at), view.getInt(at));
            }
            if (len - at >= 8) {
                assertEquals(expected.getLong(at), view.getLong(at));
            } else {
                assertThrows(IndexOutOfBoundsException.class, () -> view.getLong(offset));
            }
            byte[] rest = new byte[len - at + 2];
            view.copyTo(at, rest, 1, len - at);
            assertArrayEquals(ByteBuffer.allocate(rest.length).position(1).put(sent, at, len - at).array(), rest);
            assertThrows(IndexOutOfBoundsException.class, () -> view.copyTo(offset, rest));
        }
        for (int at : new int[] {-1, -8, len, len + 1, Integer.MAX_VALUE, Integer.MIN_VALUE, Integer.MAX_VALUE - 7}) {
            assertThrows(IndexOutOfBoundsException.class, () -> view.getByte(at));
            assertThrows(IndexOutOfBoundsException.class, () -> view.getShort(at));
            assertThrows(IndexOutOfBoundsException.class, () -> view.getInt(at));
            assertThrows(IndexOutOfBoundsException.class, () -> view.getLong(at));
            assertThrows(IndexOutOfBoundsException.class, () -> view.copyTo(at, new byte[1]));
        }
        ByteBuffer direct = ByteBuffer.allocateDirect(len + 3).position(2);
        view.copyTo(direct);
        assertEquals(len + 2, direct.position());
        assertEquals(ByteBuffer.wrap(sent), direct.flip().position(2));
        if (len > 0) {
            ByteBuffer small = ByteBuffer.allocate(len - 1);
            assertThrows(BufferOverflowException.class, () -> view.copyTo(small));
            assertEquals(0, small.position());
        }
    }

    @Test
    void messagesOfEverySizeAreShownInPlaceInTheirOrder() {
        for (ChannelOptions options : List.of(STREAM, BROADCAST)) {
            try (Channel channel = fabric.channel("all" + options.hashCode(), options);
                    Subscriber subscriber = channel.subscriber();
                    Publisher first = channel.publisher();
                    Publisher second = channel.publisher()) {
                int[] next = {0, 0};
                long[] last = {0, 0};
                int[] copies = {0};
                int sent = 0;
                while (sent < 1200 || next[0] + next[1] < 2 * sent) {
                    int size = sent % 400 == 399 ? 9000 : sent * 13 % (RING / 2 - 32);
                    boolean more = sent < 1200;
                    if (more) {
                        assertTrue(first.send(payload(sent, size), LONG) > 0);
                        assertTrue(second.send(payload(sent, sent % 40), LONG) > 0);
                        sent++;
                    }
                    int handled;
                    do {
                        handled = subscriber.pollInPlace(view -> {
                            int who = view.lane();
                            int number = next[who]++;
                            int len = who == 1 ? number % 40 : number % 400 == 399 ? 9000 : number * 13 % (RING / 2 - 32);
                            assertShows(view, payload(number, len));
                            assertTrue(view.position() > last[who]);
                            last[who] = view.position();
                            assertEquals(0, view.sentNanos());
                            copies[0] += view.isCopy() ? 1 : 0;
                        }, 100);
                    } while (handled > 0);
                }
                assertEquals(1200, next[0]);
                assertEquals(1200, next[1]);
                // Those that are longer than the ring takes, and what the library met while it gave their memory back or met the lanes.
                assertTrue(copies[0] >= 3 && copies[0] < 20, "copies: " + copies[0]);
            }
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void whatIsHandledMakesRoomAtTheNextPollAndNotBefore() {
        try (Channel channel = fabric.channel("room", STREAM);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            int sent = 0;
            for (int round = 0; round < 100; round++) {
                while (publisher.trySend(payload(sent, 100)) != Publisher.BACK_PRESSURE) {
                    sent++;
                }
                int[] number = {sent};
                List<byte[]> seen = new ArrayList<>();
                int handled = subscriber.pollInPlace(view -> {
                    assertEquals(Publisher.BACK_PRESSURE, publisher.trySend(payload(number[0], 100)));
                    seen.add(view.toByteArray());
                }, 7);
                assertEquals(7, handled);
                for (int i = 0; i < 7; i++) {
                    assertTrue(seen.get(i).length == 100);
                }
                assertEquals(Publisher.BACK_PRESSURE, publisher.trySend(payload(sent, 100)));
                assertEquals(7, subscriber.pollInPlace(view -> {}, 7));
                assertTrue(publisher.trySend(payload(sent, 100)) > 0);
                sent++;
                // All that is there, in as many calls as the library makes of it.
                while (subscriber.pollInPlace(view -> {}, 1000) > 0) {}
                assertEquals(0, subscriber.lag());
            }
        }
    }

    @Test
    void timesComeWithMessages() {
        try (Channel channel = fabric.channel("times", STREAM.timestamps());
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            int[] next = {0};
            for (int number = 0; number < 300; number++) {
                long before = System.nanoTime();
                publisher.send(payload(number, number));
                long after = System.nanoTime();
                while (subscriber.pollInPlace(view -> {
                    assertShows(view, payload(next[0], next[0]));
                    assertTrue(before <= view.sentNanos() && view.sentNanos() <= after);
                    assertTrue(next[0] < 2 || !view.isCopy());
                    next[0]++;
                }, 10) > 0) {}
                assertEquals(number + 1, next[0]);
            }
        }
    }

    @Test
    void aViewEndsWithItsHandlerAndIsForItsThread() throws Exception {
        try (Channel channel = fabric.channel("end", STREAM);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            for (int round = 0; round < 3; round++) {
                publisher.send(bytes("hello"));
                MessageView[] kept = {null};
                assertEquals(1, subscriber.pollInPlace(view -> {
                    kept[0] = view;
                    AtomicReference<Throwable> elsewhere = new AtomicReference<>();
                    Thread other = new Thread(() -> elsewhere.set(assertThrows(IllegalStateException.class, () -> view.getByte(0))));
                    other.start();
                    try {
                        other.join();
                    } catch (InterruptedException error) {
                        throw new AssertionError(error);
                    }
                    assertTrue(elsewhere.get().getMessage().contains("in its handler"), elsewhere::toString);
                    fails(ErrorCode.BUSY, () -> subscriber.pollInPlace(again -> {}, 1));
                    fails(ErrorCode.BUSY, subscriber::tryRecv);
                    assertEquals("hello", string(view.toByteArray()));
                }, 10));
                MessageView view = kept[0];
                for (org.junit.jupiter.api.function.Executable call : List.<org.junit.jupiter.api.function.Executable>of(
                        view::length, view::lane, view::position, view::sentNanos, view::isWhole, view::isCopy, view::toByteArray, view::toMessage,
                        () -> view.getByte(0), () -> view.getShort(0), () -> view.getInt(0), () -> view.getLong(0),
                        () -> view.copyTo(0, new byte[1]), () -> view.copyTo(ByteBuffer.allocate(10)))) {
                    assertThrows(IllegalStateException.class, call);
                }
            }
            assertThrows(NullPointerException.class, () -> subscriber.pollInPlace(null, 1));
            assertEquals(0, subscriber.pollInPlace(view -> {}, Integer.MIN_VALUE));
            assertEquals(0, subscriber.pollInPlace(view -> {}, Integer.MAX_VALUE));
        }
    }

    @Test
    void aMessageWhoseHandlerThrowsComesAgainByAnyMethod() {
        try (Channel channel = fabric.channel("again", STREAM);
                Subscriber subscriber = channel.subscriber("billing");
                Publisher publisher = channel.publisher()) {
            int sent = 0;
            for (int round = 0; round < 20; round++) {
                for (int i = 0; i < 6; i++) {
                    // The library copies long ones.
                    publisher.send(payload(sent, round % 4 == 3 && i == 2 ? 9000 : 50));
                    sent++;
                }
                int first = sent - 6;
                int[] seen = {first};
                ViewHandler handler = view -> {
                    assertArrayEquals(payload(seen[0], view.length()), view.toByteArray());
                    if (seen[0] == first + 2) {
                        throw new IllegalStateException("of the handler");
                    }
                    seen[0]++;
                };
                assertThrows(IllegalStateException.class, () -> {
                    while (subscriber.pollInPlace(handler, 3) > 0) {}
                });
                assertEquals(first + 2, seen[0]);
                byte[] same = payload(first + 2, round % 4 == 3 ? 9000 : 50);
                if (round % 4 == 0) {
                    assertArrayEquals(same, subscriber.tryRecv().payload());
                } else if (round % 4 == 1) {
                    assertEquals(1, subscriber.poll((lane, position, bytes) -> assertEquals(ByteBuffer.wrap(same), bytes), 1));
                } else {
                    assertThrows(IllegalStateException.class, () -> subscriber.pollInPlace(handler, 3));
                    assertEquals(first + 2, seen[0]);
                    assertEquals(1, subscriber.pollInPlace(view -> assertArrayEquals(same, view.toByteArray()), 1));
                }
                seen[0] = first + 3;
                while (subscriber.pollInPlace(handler, 3) > 0) {}
                assertEquals(sent, seen[0]);
            }
        }
    }

    @Test
    void whoClosesInItsHandlerHasHandledTheMessage() {
        try (Channel channel = fabric.channel("closing", BROADCAST); Publisher publisher = channel.publisher()) {
            channel.subscriber("billing").close();
            int handled = 0;
            for (int round = 0; round < 10; round++) {
                Subscriber subscriber = channel.subscriber("billing");
                for (int i = 0; i < 5; i++) {
                    publisher.send(payload(5 * round + i, 20));
                }
                // The first polls: of the library, and in place.
                for (int number : new int[] {handled, handled + 1}) {
                    assertEquals(1, subscriber.pollInPlace(view -> assertArrayEquals(payload(number, 20), view.toByteArray()), 1));
                }
                int closing = handled + 2;
                assertEquals(1, subscriber.pollInPlace(view -> {
                    subscriber.close();
                    assertArrayEquals(payload(closing, 20), view.toByteArray());
                }, 100));
                assertThrows(MemoraException.Closed.class, () -> subscriber.pollInPlace(view -> {}, 1));
                handled += 3;
                // With the channel it closes at once: what was being handled comes again.
                try (Channel same = fabric.openChannel("closing"); Subscriber other = same.subscriber("billing")) {
                    other.pollInPlace(view -> {}, 1);
                    handled++;
                    int again = handled;
                    assertThrows(MemoraException.Closed.class, () -> other.pollInPlace(view -> {
                        same.close();
                        assertArrayEquals(payload(again, 20), view.toByteArray());
                    }, 100));
                }
                try (Subscriber last = channel.subscriber("billing")) {
                    int again = handled;
                    assertEquals(1, last.pollInPlace(view -> assertArrayEquals(payload(again, 20), view.toByteArray()), 1));
                    handled++;
                }
            }
        }
    }

    @Test
    void nothingIsHandedOverAfterTheHandlerHasClosed() {
        try (Channel channel = fabric.channel("last", STREAM); Publisher publisher = channel.publisher()) {
            for (int polls = 1; polls < 4; polls++) {
                Subscriber subscriber = channel.subscriber("billing");
                for (int poll = 1; poll < polls; poll++) {
                    publisher.send(new byte[8]);
                    while (subscriber.pollInPlace(view -> {}, 10) > 0) {}
                }
                publisher.send(new byte[8]);
                int[] calls = {0};
                assertEquals(1, subscriber.pollInPlace(view -> {
                    calls[0]++;
                    subscriber.close();
                    publisher.send(new byte[8]);
                }, 10));
                assertEquals(1, calls[0]);
                assertThrows(MemoraException.Closed.class, subscriber::tryRecv);
                try (Subscriber next = channel.subscriber("billing")) {
                    assertEquals(1, next.pollInPlace(view -> {}, 10));
                }
            }
        }
    }

    @Test
    void ejectionInTheHandlerIsToldToItAndToTheCaller() {
        ChannelOptions strict = BROADCAST.ejectAfter(Duration.ofMillis(20));
        try (Channel channel = fabric.channel("strict", strict); Publisher publisher = channel.publisher()) {
            for (int round = 0; round < 3; round++) {
                try (Subscriber subscriber = channel.subscriber()) {
                    int before = round;
                    for (int i = 0; i <= before; i++) {
                        publisher.send(payload(i, 16));
                        assertEquals(1, subscriber.pollInPlace(view -> assertTrue(view.isWhole()), 1));
                    }
                    publisher.send(payload(100, 16));
                    publisher.send(payload(101, 16));
                    int[] calls = {0};
                    fails(ErrorCode.EJECTED, () -> subscriber.pollInPlace(view -> {
                        calls[0]++;
                        assertTrue(view.isWhole());
                        assertArrayEquals(payload(100, 16), view.toByteArray());
                        for (int i = 0; i < 400; i++) {
                            assertTrue(publisher.send(new byte[16], LONG) > 0);
                        }
                        assertFalse(view.isWhole());
                        // Other bytes, and nothing worse.
                        assertEquals(16, view.toByteArray().length);
                    }, 10));
                    assertEquals(1, calls[0]);
                    fails(ErrorCode.EJECTED, () -> subscriber.pollInPlace(view -> {}, 1));
                }
            }
        }
    }

    @Test
    void whoIsOverrunGetsWholeCopiesAndIsTold() {
        ChannelOptions options = BROADCAST.overrun(ChannelOptions.Overrun.OVERRUN);
        try (Channel channel = fabric.channel("ticks", options);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            int[] next = {0};
            long lost = 0;
            for (int number = 0; number < 500; number++) {
                publisher.trySend(payload(number, 40));
            }
            while (next[0] < 500) {
                try {
                    subscriber.pollInPlace(view -> {
                        assertTrue(view.isCopy());
                        assertShows(view, payload(next[0]++, 40));
                    }, 3);
                } catch (MemoraException.Overrun error) {
                    lost += error.lost();
                    next[0] += (int) error.lost();
                }
            }
            assertEquals(500, next[0]);
            assertTrue(lost > 0 && lost < 500);
        }
    }

    @Test
    void threadsThatTakeTurnsSeeEachMessageOnce() throws Exception {
        ExecutorService other = Executors.newSingleThreadExecutor();
        try (Channel channel = fabric.channel("turns", STREAM);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher()) {
            int[] next = {0};
            int sent = 0;
            for (int round = 0; round < 20; round++) {
                for (int i = 0; i < 8; i++) {
                    publisher.send(payload(sent++, 30));
                }
                Runnable half = () -> assertEquals(4, subscriber.pollInPlace(view -> assertShows(view, payload(next[0]++, 30)), 4));
                half.run();
                other.submit(half).get();
            }
            assertEquals(sent, next[0]);
        } finally {
            other.shutdown();
        }
    }

    @Test
    void closingInAnotherThreadLosesNothingOfANamedSubscription() throws Exception {
        try (Channel channel = fabric.channel("closed", BROADCAST); Publisher publisher = channel.publisher()) {
            channel.subscriber("billing").close();
            AtomicReference<Throwable> wrong = new AtomicReference<>();
            Thread sender = new Thread(() -> {
                ByteBuffer message = ByteBuffer.allocateDirect(24).order(ByteOrder.LITTLE_ENDIAN);
                try {
                    for (long number = 0; !Thread.currentThread().isInterrupted(); number++) {
                        message.putLong(0, number).putLong(16, number);
                        publisher.send(message, LONG);
                    }
                } catch (Throwable error) {
                    wrong.set(error);
                }
            });
            sender.start();
            long[] next = {0};
            for (int round = 0; round < 60 * Testing.LENGTH; round++) {
                Subscriber subscriber = channel.subscriber("billing");
                long[] handled = {0};
                boolean[] begun = {false};
                Thread reader = new Thread(() -> {
                    try {
                        while (true) {
                            subscriber.pollInPlace(view -> {
                                long number = view.getLong(0);
                                assertEquals(24, view.length());
                                assertEquals(number, view.getLong(16));
                                // Only the one that was being handled when it was closed comes again.
                                assertTrue(number == next[0] || !begun[0] && number == next[0] - 1, number + " after " + next[0]);
                                begun[0] = true;
                                next[0] = number + 1;
                                handled[0]++;
                            }, 50);
                        }
                    } catch (MemoraException.Closed expected) {
                        // The end that is meant.
                    } catch (Throwable error) {
                        wrong.set(error);
                    }
                });
                reader.start();
                Thread.sleep(round % 5);
                subscriber.close();
                reader.join(30_000);
                assertNull(wrong.get(), () -> "" + wrong.get());
            }
            assertTrue(next[0] > 1000, "" + next[0]);
            sender.interrupt();
            channel.close();
            sender.join();
        }
        assertEquals(List.of(), fabric.check());
    }

    /** Where the frame's word stands of the message with this marker. */
    private static int frameOf(MappedByteBuffer segment, long marker) {
        for (int at = 8; at + 8 <= segment.capacity(); at += 8) {
            if (segment.getLong(at) == marker) {
                return at - 8;
            }
        }
        throw new AssertionError("no frame");
    }

    @Test
    void whateverStandsInTheRingReadsNothingOutsideOfIt() throws Exception {
        try (Channel channel = fabric.channel("hostile", STREAM);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher();
                FileChannel file = FileChannel.open(fabric.path(), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer segment = file.map(FileChannel.MapMode.READ_WRITE, 0, file.size());
            segment.order(ByteOrder.LITTLE_ENDIAN);
            for (int i = 0; i < 3; i++) {
                publisher.send(new byte[400]);
                assertEquals(1, subscriber.pollInPlace(view -> {}, 10));
            }
            for (int round = 0; round < 20; round++) {
                long marker = 0x5eed_0f_7e57L << 20 | round;
                ByteBuffer message = ByteBuffer.allocate(300).order(ByteOrder.LITTLE_ENDIAN).putLong(0, marker);
                publisher.send(message);
                int frame = frameOf(segment, marker);
                long good = segment.getLong(frame);
                long above = good & 0xffff_ffff_0000_0000L;
                int rest = RING - (int) (good >>> 48) * 8 % RING;
                List<Long> words = new ArrayList<>(List.of(above, above | 1, above | 7, above | rest + 8, above | rest + 1, above | 0x7fff_ffffL,
                        above | 0x8000_0000L, above | 0xffff_ffffL, good + (1L << 48), good - (1L << 48), good ^ 1L << 63, good ^ 1L << 40,
                        good ^ 3L << 40, good | 6L << 32, good | 0xffL << 32, -1L, 1L, Long.MIN_VALUE, good & ~(0xffL << 32)));
                // Padding that does not reach the ring's end, and no end of opened gates.
                words.add(good & ~(3L << 32) | 2L << 32);
                words.add(good & ~(3L << 32) | 3L << 32);
                for (long word : words) {
                    segment.putLong(frame, word);
                    int[] calls = {0};
                    MemoraException error = assertThrows(MemoraException.class, () -> subscriber.pollInPlace(view -> calls[0]++, 10),
                            Long.toHexString(word));
                    assertEquals(ErrorCode.CORRUPT, error.code());
                    assertEquals(0, calls[0]);
                }
                segment.putLong(frame, 0);
                assertEquals(0, subscriber.pollInPlace(view -> {}, 10));
                // A length that can be is taken as it is: other bytes, and none outside of the ring.
                segment.putLong(frame, above | Math.min(rest, 2000));
                IllegalStateException stop = assertThrows(IllegalStateException.class, () -> subscriber.pollInPlace(view -> {
                    int len = view.length();
                    assertEquals(Math.min(rest, 2000) - 8, len);
                    assertEquals(len, view.toByteArray().length);
                    // It is read once: what a peer writes there now changes nothing.
                    segment.putLong(frame, above | 0x7fff_ffff);
                    assertEquals(len, view.length());
                    assertThrows(IndexOutOfBoundsException.class, () -> view.getByte(len));
                    assertEquals(len, view.toByteArray().length);
                    throw new IllegalStateException("once more");
                }, 10));
                assertEquals("once more", stop.getMessage());
                segment.putLong(frame, good);
                assertEquals(1, subscriber.pollInPlace(view -> assertEquals(marker, view.getLong(0)), 10));
            }
        }
    }

    @Test
    void framesWithoutEndComeToAnEnd() throws Exception {
        try (Channel channel = fabric.channel("endless", STREAM);
                Subscriber subscriber = channel.subscriber();
                Publisher publisher = channel.publisher();
                FileChannel file = FileChannel.open(fabric.path(), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer segment = file.map(FileChannel.MapMode.READ_WRITE, 0, file.size());
            segment.order(ByteOrder.LITTLE_ENDIAN);
            publisher.send(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(0, 0x1dea_1dea_1dea_1deaL));
            assertEquals(1, subscriber.pollInPlace(view -> {}, 1));
            int ring = frameOf(segment, 0x1dea_1dea_1dea_1deaL);
            // Each word is an empty message of its place, all around the ring.
            for (int at = 16; at < RING; at += 8) {
                segment.putLong(ring + at, 8L | 0x301L << 32 | (long) at / 8 << 48);
            }
            for (int at = 0; at < 16; at += 8) {
                segment.putLong(ring + at, 8L | 0x301L << 32 | (long) (RING + at) / 8 << 48);
            }
            int[] calls = {0};
            int handled = subscriber.pollInPlace(view -> calls[0] += 1 + view.length(), Integer.MAX_VALUE);
            assertTrue(handled > 0 && handled <= RING / 8, "" + handled);
            assertEquals(handled, calls[0]);
        }
    }

    private Process look(Path files) throws Exception {
        return Testing.child(Testing.thisJava(), List.of("-Xshare:auto", "-XX:TieredStopAtLevel=1"), ChildJvm.class, "look", home.toString(),
                files.toString()).inheritIO().start();
    }

    @Test
    void nothingIsLostWhenAJvmThatReadsInPlaceIsKilled() throws Exception {
        int messages = 3_000 * Testing.LENGTH;
        int kills = 3 * Testing.LENGTH;
        Path files = directory.resolve("files");
        try (Channel channel = fabric.channel("numbers", ChannelOptions.broadcast());
                Store store = fabric.store("seen", StoreOptions.in(files));
                Publisher publisher = channel.publisher()) {
            channel.subscriber("worker").close();
            Process worker = look(files);
            for (int i = 0; i < messages; i++) {
                assertTrue(publisher.send(bytes("number " + i), Duration.ofSeconds(60)) >= 0);
                if (i % (messages / (kills + 1)) == messages / (kills + 1) - 1 && i < messages - 1) {
                    long before = store.size();
                    long start = System.nanoTime();
                    while (store.size() == before && before < i && System.nanoTime() - start < Duration.ofSeconds(60).toNanos()) {
                        Thread.sleep(1);
                    }
                    worker.destroyForcibly();
                    assertEquals(137, worker.waitFor());
                    worker = look(files);
                }
            }
            assertTrue(publisher.send(bytes("end"), Duration.ofSeconds(60)) >= 0);
            assertTrue(worker.waitFor(60, TimeUnit.SECONDS), "the worker does not end");
            assertEquals(0, worker.exitValue());
            assertEquals(messages, store.size());
            for (int i = 0; i < messages; i++) {
                assertTrue(store.get(bytes("number " + i)) != null, "number " + i);
            }
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void onJava25PlatformAndVirtualThreadsReadWithoutAWarning() throws Exception {
        Path java = Testing.java25();
        Testing.Ended child = Testing.run(Testing.child(java, List.of("--enable-native-access=ALL-UNNAMED"), ChildJvm.class, "virtual-look",
                home.toString()), "");
        assertEquals("1000 in place, 1000 copied\n", child.out(), child.err());
        assertEquals("", child.err());
        assertEquals(List.of(), fabric.check());
    }
}
