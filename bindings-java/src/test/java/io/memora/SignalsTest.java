package io.memora;

import static io.memora.Testing.fails;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.Test;

class SignalsTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final Duration SHORT = Duration.ofMillis(10);

    private static <T> T inAnotherThread(java.util.concurrent.Callable<T> work) throws Exception {
        CompletableFuture<T> result = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                result.complete(work.call());
            } catch (Throwable error) {
                result.completeExceptionally(error);
            }
        });
        thread.start();
        thread.join();
        return result.get();
    }

    @Test
    void eventsAreHeardByAllOrByOne() throws Exception {
        try (NamedEvent event = fabric.event("event")) {
            assertEquals(0, event.sequence());
            assertNull(event.await(0, Duration.ZERO));
            assertNull(event.await(0, SHORT));
            assertEquals(1, event.signalAll());
            assertEquals(new NamedEvent.Notification(1, false), event.await(0, LONG));
            event.signalOne();
            assertEquals(new NamedEvent.Notification(1, true), event.await(1, LONG));
            assertNull(event.await(1, SHORT));
            Thread.currentThread().interrupt();
            assertNull(event.await(1, LONG));
            assertTrue(Thread.interrupted());
            Thread closer = new Thread(event::close);
            closer.start();
            assertThrows(MemoraException.Closed.class, () -> event.await(1, LONG));
            closer.join();
        }
    }

    @Test
    void countersCount() {
        try (NamedCounter counter = fabric.counter("counter")) {
            assertEquals(5, counter.add(5));
            assertEquals(5, counter.set(-1));
            assertEquals(-1, counter.compareAndSwap(3, 4));
            assertEquals(-1, counter.compareAndSwap(-1, 4));
            assertEquals(4, counter.get());
            assertEquals(OptionalLong.of(4), counter.awaitAtLeast(4, LONG));
            assertEquals(OptionalLong.empty(), counter.awaitAtLeast(5, SHORT));
            assertEquals(OptionalLong.empty(), counter.awaitChange(4, SHORT));
            counter.set(-1);
            assertEquals(OptionalLong.of(-1), counter.awaitChange(4, LONG));
        }
    }

    @Test
    void locksHaveOneOwnerAndPassOnWhenItsThreadEnds() throws Exception {
        try (NamedLock lock = fabric.lock("lock")) {
            try (NamedLock.Held held = lock.lock()) {
                assertFalse(held.ownerDied());
                fails(ErrorCode.WOULD_DEADLOCK, lock::lock);
                fails(ErrorCode.WOULD_DEADLOCK, lock::tryLock);
                assertNull(inAnotherThread(lock::tryLock));
                inAnotherThread(() -> {
                    fails(ErrorCode.TIMED_OUT, () -> lock.lock(SHORT));
                    fails(ErrorCode.NOT_OWNER, held::close);
                    fails(ErrorCode.NOT_OWNER, held::markConsistent);
                    Thread.currentThread().interrupt();
                    assertThrows(InterruptedException.class, () -> lock.lock(LONG));
                    return null;
                });
            }
            assertNotNull(inAnotherThread(lock::lock));
            // That thread ended without letting go.
            try (NamedLock.Held held = lock.lock(LONG)) {
                assertTrue(held.ownerDied());
            }
            try (NamedLock.Held held = lock.lock()) {
                assertTrue(held.ownerDied());
                held.markConsistent();
                held.close();
                fails(ErrorCode.NOT_OWNER, held::markConsistent);
            }
            try (NamedLock.Held held = lock.tryLock()) {
                assertFalse(held.ownerDied());
            }
        }
    }

    @Test
    void permitsComeBackWhenTheirThreadEnds() throws Exception {
        fails(ErrorCode.NOT_FOUND, () -> fabric.openSemaphore("permits"));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.semaphore("permits", 0));
        try (NamedSemaphore semaphore = fabric.semaphore("permits", 3)) {
            fails(ErrorCode.WRONG_OPTIONS, () -> fabric.semaphore("permits", 2));
            try (NamedSemaphore.Held two = semaphore.acquire(2)) {
                assertEquals(2, two.count());
                assertEquals(1, semaphore.free());
                assertNull(inAnotherThread(() -> semaphore.tryAcquire(2)));
                inAnotherThread(() -> {
                    fails(ErrorCode.TIMED_OUT, () -> semaphore.acquire(2, SHORT));
                    fails(ErrorCode.NOT_OWNER, two::close);
                    return null;
                });
                fails(ErrorCode.WOULD_DEADLOCK, () -> semaphore.acquire(2));
                fails(ErrorCode.INVALID_ARGUMENT, () -> semaphore.acquire(-1));
            }
            assertNotNull(inAnotherThread(() -> semaphore.acquire(3)));
            try (NamedSemaphore.Held all = semaphore.acquire(3, LONG)) {
                assertTrue(all.ownerDied());
            }
            assertFalse(semaphore.tryAcquire(1).ownerDied());
            assertEquals(3, semaphore.permits());
        }
    }

    @Test
    void whatAKilledJvmHeldPassesOn() throws Exception {
        Process owner = Testing.child(
                Testing.thisJava(), List.of(), ChildJvm.class, "own", home.toString()).start();
        try (NamedLock lock = fabric.lock("lock");
                NamedSemaphore semaphore = fabric.semaphore("permits", 3);
                NamedCounter held = fabric.counter("held")) {
            assertEquals(OptionalLong.of(1), held.awaitAtLeast(1, LONG));
            assertNull(lock.tryLock());
            assertNull(semaphore.tryAcquire(2));
            owner.destroyForcibly().waitFor();
            try (NamedLock.Held mine = lock.lock(LONG); NamedSemaphore.Held all = semaphore.acquire(3, LONG)) {
                assertTrue(mine.ownerDied() && all.ownerDied());
            }
        } finally {
            owner.destroyForcibly();
        }
    }

    @Test
    void virtualThreadsOnJava25WaitAndAreToldThatTheyOwnNothing() throws Exception {
        Testing.Ended child = Testing.run(Testing.child(
                Testing.java25(), List.of("--enable-native-access=ALL-UNNAMED"), ChildJvm.class, "virtual-signals", home.toString()), "");
        assertEquals("500 heard, UNSUPPORTED\n", child.out(), child.err());
    }

    @Test
    void aSignalIsWhatItWasMadeAs() {
        fabric.event("event").close();
        fails(ErrorCode.WRONG_KIND, () -> fabric.lock("event"));
        fails(ErrorCode.INVALID_NAME, () -> fabric.lock("."));
        assertEquals("event", fabric.objects().get(0).kind());
    }
}
