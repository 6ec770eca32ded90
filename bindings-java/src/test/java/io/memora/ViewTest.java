package io.memora;

import static io.memora.Testing.bytes;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.ReadOnlyBufferException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class ViewTest extends WithFabric {
    private static byte[] filled(int len, int with) {
        byte[] value = new byte[len];
        java.util.Arrays.fill(value, (byte) with);
        return value;
    }

    @Test
    void viewStaysWhateverBecomesOfTheEntry() {
        try (Cache cache = fabric.cache("cache")) {
            assertNull(cache.view(bytes("k")));
            long version = cache.set(bytes("k"), filled(1000, 1), SetOptions.ttl(Duration.ofHours(1)).withFlags(9));
            try (View view = cache.view(bytes("k"))) {
                assertEquals(version, view.version());
                assertEquals(9, view.flags());
                assertTrue(view.ttlMillis() > 0);
                assertFalse(view.isCopy());
                assertEquals(1000, view.length());
                ByteBuffer buffer = view.bytes();
                assertTrue(buffer.isDirect() && buffer.isReadOnly());
                assertThrows(ReadOnlyBufferException.class, () -> buffer.put(0, (byte) 0));
                for (int i = 0; i < 40_000; i++) {
                    cache.set(bytes("k" + i % 50), filled(1000, 2));
                }
                cache.delete(bytes("k"));
                assertEquals(ByteBuffer.wrap(filled(1000, 1)), buffer);
                assertArrayEquals(filled(1000, 1), view.toArray());
                // Each call gives a buffer of its own.
                buffer.position(10);
                assertEquals(1000, view.bytes().remaining());
            }
        }
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void closedViewThrowsAndABufferOfItDoesNoHarm() {
        ByteBuffer slice;
        try (Fabric own = Fabric.builder("own").home(home).limit(LIMIT).open(); Cache cache = own.cache("cache")) {
            cache.set(bytes("k"), filled(100_000, 1));
            View view = cache.view(bytes("k"));
            slice = view.bytes().slice(10, 1000);
            view.close();
            view.close();
            assertThrows(MemoraException.Closed.class, view::bytes);
            assertThrows(MemoraException.Closed.class, view::toArray);
            assertEquals(100_000, view.length());
        }
        for (int i = 0; i < 5; i++) {
            System.gc();
            // What stands there is anybody's, but something stands there.
            int sum = 0;
            while (slice.hasRemaining()) {
                sum += slice.get();
            }
            assertTrue(sum >= Integer.MIN_VALUE && !slice.hasRemaining());
            slice.rewind();
        }
    }

    @Test
    void viewOutlivesTheCacheAndTheFabric() {
        View view;
        try (Fabric own = Fabric.builder("own").home(home).limit(LIMIT).open(); Cache cache = own.cache("cache")) {
            cache.set(bytes("k"), filled(50_000, 3));
            view = cache.view(bytes("k"));
        }
        assertArrayEquals(filled(50_000, 3), view.toArray());
        assertEquals(ByteBuffer.wrap(filled(50_000, 3)), view.bytes());
        view.close();
    }

    @Test
    void moreViewsThanMayHoldTheMemoryAreCopies() {
        List<View> views = new ArrayList<>();
        try (Cache cache = fabric.cache("cache")) {
            for (int i = 0; i < 1500; i++) {
                cache.set(bytes("k" + i), filled(5000, i));
                views.add(cache.view(bytes("k" + i)));
            }
            int copies = 0;
            for (int i = 0; i < views.size(); i++) {
                View view = views.get(i);
                assertEquals(ByteBuffer.wrap(filled(5000, i)), view.bytes());
                assertTrue(view.bytes().isDirect());
                copies += view.isCopy() ? 1 : 0;
                view.close();
            }
            assertTrue(copies > 0 && copies < views.size(), "copies: " + copies);
            cache.set(bytes("empty"), new byte[0]);
            try (View empty = cache.view(bytes("empty"))) {
                assertEquals(0, empty.length());
                assertTrue(empty.isCopy());
                assertFalse(empty.bytes().hasRemaining());
            }
        }
    }

    @Test
    void viewsOfAJvmThatWasKilledHoldNothing() throws Exception {
        try (Cache cache = fabric.cache("cache")) {
            for (int i = 0; i < 100; i++) {
                cache.set(bytes("k" + i), filled(30_000, 1));
            }
            Process holder = Testing.child(Testing.thisJava(), List.of("-XX:TieredStopAtLevel=1"), ChildJvm.class,
                    "views", home.toString()).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            assertEquals("holding", holder.inputReader().readLine());
            assertNotEquals(0, cache.processCounts().size());
            holder.destroyForcibly();
            assertEquals(137, holder.waitFor());
            fabric.reap();
            for (int round = 0; round < 10; round++) {
                for (int i = 0; i < 100; i++) {
                    cache.set(bytes("k" + i), filled(30_000, round));
                }
            }
            assertArrayEquals(filled(30_000, 9), cache.get(bytes("k99")));
        }
        assertEquals(List.of(), fabric.check());
    }
}
