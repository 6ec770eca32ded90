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

import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LogTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final LogOptions SMALL = LogOptions.defaults().bytes(256 * 1024);

    private static List<String> drain(LogReader reader) {
        List<String> all = new ArrayList<>();
        while (reader.poll((position, payload) -> {
            assertTrue(payload.isReadOnly());
            byte[] text = new byte[payload.remaining()];
            payload.get(text);
            all.add(position + " " + string(text));
        }, 3) > 0) {
        }
        return all;
    }

    @Test
    void messagesOfAllAppendersAreReadAgainInOneOrder() {
        try (Log log = fabric.log("orders", SMALL);
                Appender first = log.appender();
                Appender second = log.appender()) {
            assertEquals(0, first.append(bytes("a")));
            assertEquals(1, second.append(bytes("xbx"), 1, 1));
            assertEquals(2, first.append(ByteBuffer.wrap(bytes("c"))));
            try (LogReader reader = log.reader(LogPosition.OLDEST); LogReader again = log.reader(LogPosition.at(1))) {
                assertEquals(List.of("0 a", "1 b", "2 c"), drain(reader));
                assertEquals(2, again.lag());
                assertEquals(List.of("1 b", "2 c"), drain(again));
                again.seek(LogPosition.OLDEST);
                assertEquals("a", string(again.tryRecv().payload()));
                assertEquals(1, again.position());
                assertNull(reader.recv(Duration.ofMillis(5)));
                second.append(bytes("d"));
                LogMessage last = reader.recv(LONG);
                assertEquals(3, last.position());
                assertEquals(0, last.timeMillis());
            }
            LogStats stats = log.stats();
            assertEquals(0, stats.oldest());
            assertEquals(4, stats.end());
            assertEquals(256 * 1024, stats.bytesMax());
            assertEquals(2, stats.appenders());
        }
    }

    @Test
    void namedReaderGoesOnWhereItWas() {
        try (Log log = fabric.log("orders", SMALL); Appender appender = log.appender()) {
            for (int i = 0; i < 5; i++) {
                appender.append(bytes("m" + i));
            }
            try (LogReader reader = log.reader("audit", LogPosition.OLDEST)) {
                fails(ErrorCode.SUBSCRIPTION_IN_USE, () -> log.reader("audit", LogPosition.OLDEST));
                assertEquals("m0", string(reader.tryRecv().payload()));
                assertEquals("m1", string(reader.tryRecv().payload()));
                reader.commit();
            }
            try (LogReader reader = log.reader("audit", LogPosition.NEWEST)) {
                assertEquals(List.of("2 m2", "3 m3", "4 m4"), drain(reader));
                reader.commit();
                assertEquals(List.of(new LogStats.Reader("audit", true, 5, 0)), log.stats().readers());
            }
            assertTrue(log.forget("audit"));
            assertFalse(log.forget("audit"));
        }
    }

    private static byte[] longBytes(int len, int number) {
        byte[] bytes = new byte[len];
        for (int i = 0; i < len; i++) {
            bytes[i] = (byte) (i * 7 + number);
        }
        return bytes;
    }

    @Test
    void longMessagesStandInChunksOfTheFabric(@TempDir Path directory) {
        int[] lens = {10, 3000, 100_000, 0, 150_000};
        for (LogOptions options : List.of(SMALL, SMALL.in(directory))) {
            String name = options == SMALL ? "memory" : "files";
            try (Log log = fabric.log(name, options);
                    Appender appender = log.appender();
                    LogReader reader = log.reader(LogPosition.OLDEST)) {
                for (int i = 0; i < lens.length; i++) {
                    byte[] bytes = longBytes(lens[i], i);
                    assertEquals(i, i % 2 == 0 ? appender.append(bytes) : appender.append(ByteBuffer.wrap(bytes)));
                }
                assertArrayEquals(longBytes(10, 0), reader.tryRecv().payload());
                List<Integer> seen = new ArrayList<>();
                reader.poll((position, payload) -> {
                    byte[] bytes = new byte[payload.remaining()];
                    payload.get(bytes);
                    assertArrayEquals(longBytes(lens[(int) position], (int) position), bytes);
                    seen.add(bytes.length);
                }, 10);
                assertEquals(List.of(3000, 100_000, 0, 150_000), seen);
            }
        }
    }

    @Test
    void eachErrorIsTold() {
        try (Log log = fabric.log("orders", SMALL); Appender appender = log.appender()) {
            fails(ErrorCode.VALUE_TOO_LONG, () -> appender.append(new byte[40 << 20]));
            LogReader slow = log.reader(LogPosition.OLDEST);
            byte[] message = new byte[1000];
            for (int i = 0; i < 1000; i++) {
                appender.append(message);
            }
            long oldest = log.stats().oldest();
            assertTrue(oldest > 0);
            MemoraException trimmed = fails(ErrorCode.POSITION_TRIMMED, () -> log.reader(LogPosition.at(0)));
            assertEquals(oldest, trimmed.amount());
            MemoraException ahead = fails(ErrorCode.POSITION_AHEAD, () -> log.reader(LogPosition.at(1001)));
            assertEquals(1000, ahead.amount());
            MemoraException.Overrun lost = assertThrows(MemoraException.Overrun.class, slow::tryRecv);
            assertEquals(oldest, lost.amount());
            assertEquals(oldest, slow.tryRecv().position());
            fails(ErrorCode.WRONG_KIND, () -> fabric.channel("orders", ChannelOptions.broadcast()));
            fails(ErrorCode.WRONG_OPTIONS, () -> fabric.log("orders", SMALL.bytes(512 * 1024)));
            fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.log("other", SMALL.bytes(1000)));
            fabric.channel("news", ChannelOptions.broadcast());
            fails(ErrorCode.WRONG_KIND, () -> fabric.log("news", SMALL));
            fails(ErrorCode.WRONG_KIND, () -> fabric.openChannel("orders").publisher());
            slow.close();
            assertThrows(MemoraException.Closed.class, slow::tryRecv);
        }
    }

    @Test
    void fullLogKeepsWhatANamedReaderHasToRead() {
        try (Log log = fabric.log("kept", SMALL.keepsForReaders());
                Appender appender = log.appender();
                LogReader reader = log.reader("keeper", LogPosition.OLDEST)) {
            int sent = 0;
            MemoraException full = null;
            while (full == null) {
                try {
                    appender.append(new byte[1000]);
                    sent++;
                } catch (MemoraException error) {
                    full = error;
                }
            }
            assertEquals(ErrorCode.LOG_FULL, full.code());
            assertTrue(full.getMessage().contains("keeper"), full.getMessage());
            assertEquals(sent, drain(reader).size());
            reader.commit();
            appender.append(new byte[1000]);
        }
    }

    @Test
    void longMessagesAndTimesCome() {
        LogOptions options = LogOptions.defaults().bytes(8 << 20).age(Duration.ofHours(1));
        try (Log log = fabric.log("large", options);
                Appender appender = log.appender();
                LogReader reader = log.reader(LogPosition.OLDEST)) {
            byte[] payload = new byte[60_000];
            for (int i = 0; i < payload.length; i++) {
                payload[i] = (byte) (i * 7);
            }
            for (int i = 0; i < 5; i++) {
                appender.append(payload);
                LogMessage message = reader.tryRecv();
                assertArrayEquals(payload, message.payload());
                assertEquals(i, message.position());
                assertTrue(message.timeMillis() > 0);
            }
        }
    }

    @Test
    void aClaimIsAMessageWhenItIsCommittedAndNothingBefore() {
        try (Log log = fabric.log("claimed", SMALL);
                Appender appender = log.appender();
                LogReader reader = log.reader(LogPosition.OLDEST)) {
            Claim claim = appender.claim(3);
            claim.buffer().put(0, bytes("abc"));
            fails(ErrorCode.BUSY, () -> appender.claim(1));
            assertNull(reader.tryRecv());
            appender.append(bytes("between"));
            assertEquals(1, claim.commit());
            fails(ErrorCode.CLOSED, claim::commit);
            appender.claim(5).abort();
            try (Claim dropped = appender.claim(5)) {
                assertEquals(5, dropped.buffer().capacity());
            }
            fails(ErrorCode.INVALID_ARGUMENT, () -> appender.claim(-1));
            assertEquals(List.of("0 between", "1 abc"), drain(reader));
            // Longer than a block.
            try (Claim longer = appender.claim(100_000)) {
                longer.buffer().put(99_999, (byte) 7);
                assertEquals(2, longer.commit());
            }
            assertEquals(7, reader.tryRecv().payload()[99_999]);
            try (Claim tooLong = appender.claim(40 << 20)) {
                fails(ErrorCode.VALUE_TOO_LONG, tooLong::commit);
            }
        }
    }

    @Test
    void aLogInFilesGoesOnInAnotherFabric(@TempDir Path place) {
        LogOptions options = SMALL.in(place.resolve("orders")).durability(Durability.SYNC).fileBytes(64 * 1024)
                .fileBytesMax(1 << 20).interval(Duration.ofMillis(20));
        try (Fabric first = Fabric.builder("lost").limit(LIMIT).home(directory.resolve("first")).open()) {
            try (Log log = first.log("orders", options); Appender appender = log.appender()) {
                assertEquals(0, appender.append(bytes("paid")));
                assertEquals(1, appender.append(bytes("seen"), Durability.PROCESS));
                try (LogReader reader = log.reader("audit", LogPosition.OLDEST)) {
                    assertEquals("paid", string(reader.tryRecv().payload()));
                    reader.commit();
                }
                log.flush();
                LogStats stats = log.stats();
                assertEquals(2, stats.durable());
                assertTrue(stats.fileBytes() > 0);
                assertFalse(stats.poisoned());
                fails(ErrorCode.WRONG_OPTIONS, () -> first.log("orders", SMALL));
            }
        }
        // Another fabric in another place: as after a reboot, when nothing but the files is left.
        try (Fabric second = Fabric.builder("lost").limit(LIMIT).home(directory.resolve("second")).open();
                Log log = second.log("orders", options);
                Appender appender = log.appender()) {
            assertEquals(2, appender.append(bytes("shipped")));
            try (LogReader reader = log.reader(LogPosition.OLDEST); LogReader audit = log.reader("audit", LogPosition.OLDEST)) {
                assertEquals(List.of("0 paid", "1 seen", "2 shipped"), drain(reader));
                assertEquals(List.of("1 seen", "2 shipped"), drain(audit));
            }
        }
        try (Log memory = fabric.log("memory", SMALL); Appender appender = memory.appender()) {
            fails(ErrorCode.INVALID_ARGUMENT, memory::flush);
            fails(ErrorCode.INVALID_ARGUMENT, () -> appender.append(bytes("x"), Durability.SYNC));
            assertEquals(0, memory.stats().durable());
        }
        fails(ErrorCode.INVALID_ARGUMENT, () -> SMALL.fileBytes(0));
        fails(ErrorCode.INVALID_ARGUMENT, () -> SMALL.interval(Duration.ZERO));
    }
}
