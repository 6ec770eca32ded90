package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;

class EventsTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);

    private static void assertEvent(Event.Kind kind, String key, Event event) {
        assertEquals(kind, event.kind());
        assertEquals(key, string(event.key()));
        assertEquals(event.key().length, event.keyLength());
    }

    @Test
    void changesAreToldInTheirOrder() throws Exception {
        try (Cache cache = fabric.cache("cache", CacheOptions.evicting().withEvents());
                EventSubscriber events = cache.events()) {
            assertNull(events.tryNext());
            assertNull(events.next(Duration.ofMillis(20)));
            long version = cache.set(bytes("a"), bytes("1"));
            cache.delete(bytes("a"));
            assertEquals(false, cache.delete(bytes("a")));
            cache.touch(bytes("a"), null);
            cache.set(bytes("b"), bytes("1"));
            Event set = events.next(LONG);
            assertEvent(Event.Kind.SET, "a", set);
            assertEquals(version, set.version());
            assertEvent(Event.Kind.DELETE, "a", events.next(LONG));
            assertEvent(Event.Kind.SET, "b", events.next(LONG));
            assertNull(events.tryNext());
            // Another JVM.
            Testing.Ended child = Testing.run(
                    Testing.child(Testing.thisJava(), List.of(), ChildJvm.class, "open", home.toString()), "");
            assertEquals(0, child.code(), child.out() + child.err());
            assertEvent(Event.Kind.SET, "child", events.next(LONG));
        }
    }

    @Test
    void lossIsCountedExactly() {
        int sets = 200_000;
        try (Cache cache = fabric.cache("cache", CacheOptions.evicting().withEvents());
                EventSubscriber events = cache.events()) {
            for (int i = 0; i < sets; i++) {
                cache.set(bytes("key " + i % 100), bytes("1"));
            }
            long heard = 0;
            long lost = 0;
            while (true) {
                try {
                    if (events.tryNext() == null) {
                        break;
                    }
                    heard++;
                } catch (MemoraException.Overrun overrun) {
                    lost += overrun.lost();
                }
            }
            assertTrue(heard > 0 && lost > 0, heard + " heard, " + lost + " lost");
            assertEquals(sets, heard + lost);
        }
    }

    @Test
    void closingEndsAWait() throws Exception {
        try (Cache cache = fabric.cache("cache", CacheOptions.evicting().withEvents())) {
            EventSubscriber events = cache.events();
            Throwable[] thrown = new Throwable[1];
            Thread waiter = new Thread(() -> {
                try {
                    events.next(Duration.ofDays(1));
                } catch (Throwable error) {
                    thrown[0] = error;
                }
            });
            waiter.start();
            Thread.sleep(30);
            events.close();
            waiter.join();
            assertTrue(thrown[0] instanceof MemoraException.Closed, String.valueOf(thrown[0]));
            assertThrows(MemoraException.Closed.class, events::tryNext);
        }
    }

    @Test
    void cacheWithoutEventsSaysSo() {
        try (Cache cache = fabric.cache("silent")) {
            MemoraException error = fails(ErrorCode.UNSUPPORTED, cache::events);
            assertTrue(error.getMessage().contains("events"), error.getMessage());
        }
    }
}
