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

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class FeedTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final Duration ENDLESS = Duration.ofDays(1);

    private StoreOptions options() {
        return StoreOptions.in(directory.resolve("files"));
    }

    private Store store() {
        return fabric.store("fed", options().feedBytes(64 << 20));
    }

    private static List<Change> drain(Feed feed) {
        List<Change> all = new ArrayList<>();
        for (Change change = feed.tryNext(); change != null; change = feed.tryNext()) {
            all.add(change);
        }
        return all;
    }

    private static List<String> said(List<Change> changes) {
        return changes.stream().map(it -> string(it.key()) + "=" + string(it.value())).toList();
    }

    @Test
    void everyChangeComesOnceAndAReaderGoesOnBehindAny() {
        try (Store store = store(); Feed feed = store.feed(FeedFrom.OLDEST)) {
            assertNull(feed.next(Duration.ofMillis(5)));
            store.set(bytes("a"), bytes("0"));
            store.set(bytes("a"), bytes("1"));
            store.delete(bytes("a"));
            store.flush();
            store.set(bytes("b"), bytes("with"), SetOptions.ttl(Duration.ofMinutes(1)).withFlags(7));
            store.flush();
            byte[] large = new byte[40_000];
            large[39_999] = 1;
            store.set(bytes("c"), large);
            store.set(bytes("c"), new byte[0]);
            store.flush();
            List<Change> all = drain(feed);
            assertEquals(List.of("a=0", "a=1", "a=null", "b=with"), said(all.subList(0, 4)));
            assertTrue(all.get(2).isDeletion());
            assertFalse(all.get(5).isDeletion());
            assertArrayEquals(large, all.get(4).value());
            assertEquals(0, all.get(5).value().length);
            assertEquals(6, all.size());
            assertTrue(Long.compareUnsigned(all.get(0).order(), all.get(1).order()) < 0);
            Change with = all.get(3);
            assertEquals(7, with.flags());
            assertTrue(with.expiresMillis() > System.currentTimeMillis());
            assertEquals(-1, all.get(0).expiresMillis());
            assertEquals(all.get(5).position(), feed.position());
            for (int i = 0; i < all.size(); i++) {
                FeedPosition position = FeedPosition.parse(all.get(i).position().toString());
                assertEquals(all.get(i).position(), position);
                try (Feed later = store.feed(FeedFrom.after(position))) {
                    assertEquals(said(all.subList(i + 1, 6)), said(drain(later)));
                }
            }
            try (Feed some = store.feed(FeedFrom.OLDEST, bytes("b")); Feed newest = store.feed(FeedFrom.NEWEST)) {
                assertEquals(List.of("b=with"), said(drain(some)));
                assertEquals(List.of(), drain(newest));
            }
        }
    }

    @Test
    void placeHoldsWhenTheSharedMemoryIsLost() throws Exception {
        FeedPosition position;
        try (Store store = store()) {
            for (int i = 0; i < 3; i++) {
                store.set(bytes("key"), bytes("" + i));
            }
            store.flush();
            try (Feed feed = store.feed(FeedFrom.OLDEST)) {
                assertEquals("0", string(feed.next(LONG).value()));
                position = feed.position();
            }
        }
        fabric.close();
        Fabric.remove(home, "test");
        fabric = Fabric.builder("test").home(home).limit(LIMIT).open();
        // The directory remembers that it keeps a feed.
        try (Store store = fabric.store("fed", options()); Feed feed = store.feed(FeedFrom.after(position))) {
            store.set(bytes("key"), bytes("3"));
            store.flush();
            assertEquals(List.of("key=1", "key=2", "key=3"), said(drain(feed)));
        }
    }

    @Test
    void whoWaitsIsWokenByAFlushAndByAClose() throws Exception {
        try (Store store = store()) {
            Feed feed = store.feed(FeedFrom.NEWEST);
            CompletableFuture<Change> waits = CompletableFuture.supplyAsync(() -> feed.next(ENDLESS));
            Thread.sleep(20);
            store.set(bytes("key"), bytes("value"), Durability.SYNC);
            assertEquals("value", string(waits.get(60, TimeUnit.SECONDS).value()));
            CompletableFuture<Void> closed = CompletableFuture.runAsync(
                    () -> assertThrows(MemoraException.Closed.class, () -> feed.next(ENDLESS)));
            Thread.sleep(20);
            feed.close();
            closed.get(60, TimeUnit.SECONDS);
            feed.close();
            assertThrows(MemoraException.Closed.class, feed::tryNext);
        }
    }

    @Test
    void feedEndsWithItsStore() {
        Store store = store();
        Feed feed = store.feed(FeedFrom.NEWEST);
        store.close();
        assertThrows(MemoraException.Closed.class, () -> feed.next(ENDLESS));
        feed.close();
    }

    @Test
    void interruptedReaderGetsNothingAndKeepsItsMark() {
        try (Store store = store(); Feed feed = store.feed(FeedFrom.NEWEST)) {
            Thread.currentThread().interrupt();
            assertNull(feed.next(ENDLESS));
            assertTrue(Thread.interrupted());
        }
    }

    @Test
    void filesOfTheFeedAreVerifiedAndABackupKnowsThatThereIsOne() throws Exception {
        Path files = directory.resolve("files");
        Path restored = directory.resolve("restored");
        try (Store store = fabric.store("fed", options().feedBytes(64 << 20).checkpointBytes(1 << 20))) {
            for (int i = 0; i < 4; i++) {
                // More than half of a file, so that the checkpoint begins a new one.
                for (int part = 0; part < 150; part++) {
                    store.set(bytes("key"), new byte[5000 + i]);
                }
                store.checkpoint();
            }
            store.backup(directory.resolve("backup"));
        }
        assertTrue(StoreFiles.verify(files).feedFiles() >= 3);
        StoreFiles.restore(directory.resolve("backup"), restored, "copy", false);
        try (Store copy = fabric.store("copy", StoreOptions.in(restored)); Feed feed = copy.feed(FeedFrom.NEWEST)) {
            copy.set(bytes("key"), bytes("1"));
            copy.flush();
            assertEquals(List.of("key=1"), said(drain(feed)));
        }
        Path oldest;
        try (Stream<Path> all = Files.list(files)) {
            oldest = all.filter(it -> it.getFileName().toString().startsWith("journal.")).sorted().findFirst().orElseThrow();
        }
        byte[] content = Files.readAllBytes(oldest);
        content[4096 + 72] ^= 1;
        Files.write(oldest, content);
        MemoraException damage = fails(ErrorCode.FEED_DAMAGED, () -> StoreFiles.verify(files));
        assertTrue(damage.getMessage().contains(oldest.toString()), damage.getMessage());
        assertTrue(StoreFiles.examine(files).sound());
    }

    @Test
    void whatCannotBeReadIsRefused() {
        fails(ErrorCode.INVALID_ARGUMENT, () -> options().feedBytes(-1));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.store("memory", StoreOptions.inMemory().feedBytes(1 << 20)));
        for (String text : List.of("", "7", "1.2", "1.2.3", "0123456789abcdef.1", "0123456789abcdef.1.-2", "0123456789abcdef.1.2.3",
                "0123456789abcdef.1.99999999999999999999", "0123456789abcdeg.1.2")) {
            fails(ErrorCode.INVALID_ARGUMENT, () -> FeedPosition.parse(text));
        }
        assertEquals("000000000000000a.18446744073709551615.3", new FeedPosition(10, -1, 3).toString());
        assertEquals(new FeedPosition(-2, -1, 3), FeedPosition.parse("fffffffffffffffe.18446744073709551615.3"));
        assertTrue(new FeedPosition(1, -1, 3).compareTo(new FeedPosition(1, 1, 4)) > 0);
        try (Store store = store()) {
            FeedPosition now;
            try (Feed feed = store.feed(FeedFrom.NEWEST)) {
                now = feed.position();
            }
            fails(ErrorCode.POSITION_AHEAD, () -> store.feed(FeedFrom.after(new FeedPosition(now.store(), -1, 0))));
            fails(ErrorCode.POSITION_FOREIGN,
                    () -> store.feed(FeedFrom.after(new FeedPosition(now.store() + 1, now.flush(), now.index()))));
            assertThrows(NullPointerException.class, () -> store.feed(null));
            assertThrows(NullPointerException.class, () -> FeedFrom.after(null));
        }
        StoreOptions small = StoreOptions.in(directory.resolve("small")).checkpointBytes(64 << 10);
        try (Store store = fabric.store("small", small.feedBytes(2 << 20)); Feed feed = store.feed(FeedFrom.OLDEST)) {
            store.set(bytes("first"), bytes("1"));
            store.flush();
            Change first = feed.next(LONG);
            for (int i = 0; i < 80; i++) {
                store.set(bytes("large"), new byte[50_000]);
                store.checkpoint();
            }
            fails(ErrorCode.POSITION_TRIMMED, feed::tryNext);
            fails(ErrorCode.POSITION_TRIMMED, () -> store.feed(FeedFrom.after(first.position())));
        }
        try (Store store = fabric.store("small", small.feedBytes(0))) {
            fails(ErrorCode.INVALID_ARGUMENT, () -> store.feed(FeedFrom.NEWEST));
        }
    }
}
