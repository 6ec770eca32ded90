package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class ChannelViewsTest extends WithFabric {
    private static final ChannelOptions ONCE = ChannelOptions.queue().laneBytes(64 * 1024);

    @Test
    void queueIsABlockingQueue() throws InterruptedException {
        for (ChannelOptions options : List.of(ONCE, ONCE.acknowledged())) {
            String name = options.acknowledge ? "acknowledged" : "once";
            try (Channel channel = fabric.channel(name, options); ChannelQueue queue = channel.blockingQueue()) {
                assertTrue(queue.isEmpty());
                assertNull(queue.poll());
                assertNull(queue.peek());
                assertNull(queue.poll(5, TimeUnit.MILLISECONDS));
                assertTrue(queue.offer(bytes("a")));
                assertTrue(queue.offer(bytes("b"), 1, TimeUnit.SECONDS));
                queue.put(bytes("c"));
                assertEquals("a", string(queue.peek()));
                assertEquals("a", string(queue.peek()));
                assertFalse(queue.isEmpty());
                assertEquals("a", string(queue.take()));
                assertEquals("b", string(queue.poll(20, TimeUnit.SECONDS)));
                List<byte[]> drained = new ArrayList<>();
                queue.put(bytes("d"));
                assertEquals(1, queue.drainTo(drained, 1));
                assertEquals(1, queue.drainTo(drained));
                assertEquals(List.of("c", "d"), drained.stream().map(Testing::string).toList());
                assertThrows(UnsupportedOperationException.class, queue::size);
                assertThrows(UnsupportedOperationException.class, queue::iterator);
                assertThrows(NullPointerException.class, () -> queue.offer(null));
                ChannelStats.Queue left = channel.stats().queue().orElseThrow();
                assertEquals(0, left.waitingBytes());
                assertEquals(0, left.consumers().stream().mapToLong(ChannelStats.Consumer::unacknowledged).sum());
            }
        }
    }

    @Test
    void fullQueueRefusesAndTakesAgain() throws InterruptedException {
        try (Channel channel = fabric.channel("jobs", ONCE); ChannelQueue queue = channel.blockingQueue()) {
            int sent = 0;
            while (queue.offer(new byte[1000])) {
                sent++;
            }
            assertTrue(sent > 10, "sent " + sent);
            assertFalse(queue.offer(new byte[1000], 5, TimeUnit.MILLISECONDS));
            Thread.currentThread().interrupt();
            assertThrows(InterruptedException.class, () -> queue.put(new byte[1000]));
            assertEquals(sent, queue.drainTo(new ArrayList<>()));
            queue.put(new byte[1000]);
            assertEquals(1000, queue.take().length);
            Thread.currentThread().interrupt();
            assertThrows(InterruptedException.class, queue::take);
        }
    }

    @Test
    void manyThreadsShareTheViewAlsoThoseThatEnd() throws InterruptedException {
        try (Channel channel = fabric.channel("jobs", ONCE.acknowledged()); ChannelQueue queue = channel.blockingQueue()) {
            Set<String> seen = Collections.synchronizedSet(new HashSet<>());
            int threads = 12;
            int each = 40;
            List<Thread> all = new ArrayList<>();
            for (int t = 0; t < threads; t++) {
                int number = t;
                all.add(new Thread(() -> {
                    for (int i = 0; i < each; i++) {
                        assertTrue(queue.offer(bytes(number + "/" + i)));
                    }
                }));
                // Takes few, and ends: what it held is the next one's.
                all.add(new Thread(() -> {
                    try {
                        for (int i = 0; i < each; i++) {
                            queue.peek();
                            assertTrue(seen.add(string(queue.take())));
                        }
                    } catch (InterruptedException error) {
                        throw new AssertionError(error);
                    }
                }));
            }
            all.forEach(Thread::start);
            for (Thread thread : all) {
                thread.join();
            }
            assertEquals(threads * each, seen.size());
        }
    }

    @Test
    void broadcastIsABlockingQueueOfASubscription() throws InterruptedException {
        ChannelOptions options = ChannelOptions.broadcast().laneBytes(64 * 1024);
        try (Channel channel = fabric.channel("news", options)) {
            fails(ErrorCode.WRONG_KIND, channel::blockingQueue);
            ChannelQueue queue = channel.blockingQueue("billing");
            // The subscription is there before the first take.
            queue.put(bytes("a"));
            queue.put(bytes("b"));
            queue.put(bytes("c"));
            Thread other = new Thread(() -> assertEquals("a", string(queue.poll())));
            other.start();
            other.join();
            assertEquals("b", string(queue.take()));
            queue.close();
            assertThrows(MemoraException.Closed.class, queue::take);
            assertThrows(MemoraException.Closed.class, () -> queue.offer(bytes("d")));
            BlockingQueue<byte[]> again = channel.blockingQueue("billing");
            assertEquals("c", string(again.take()));
        }
    }

    @Test
    void closeEndsAWait() throws InterruptedException {
        try (Channel channel = fabric.channel("jobs", ONCE)) {
            ChannelQueue queue = channel.blockingQueue();
            CountDownLatch started = new CountDownLatch(1);
            Thread waiter = new Thread(() -> {
                started.countDown();
                assertThrows(MemoraException.Closed.class, queue::take);
            });
            boolean[] failed = {false};
            waiter.setUncaughtExceptionHandler((thread, error) -> failed[0] = true);
            waiter.start();
            started.await();
            Thread.sleep(20);
            queue.close();
            waiter.join();
            assertFalse(failed[0]);
        }
    }

    /** Asks for a few at a time, and keeps what it is told. */
    private static class Listener implements Flow.Subscriber<Message> {
        final BlockingQueue<String> told = new LinkedBlockingQueue<>();
        volatile Flow.Subscription subscription;
        volatile Throwable error;

        @Override
        public void onSubscribe(Flow.Subscription newSubscription) {
            subscription = newSubscription;
            told.add("subscribed");
        }

        @Override
        public void onNext(Message message) {
            told.add(string(message.payload()));
        }

        @Override
        public void onError(Throwable newError) {
            error = newError;
            told.add("error");
        }

        @Override
        public void onComplete() {
            told.add("complete");
        }

        void hears(String expected) throws InterruptedException {
            assertEquals(expected, told.poll(20, TimeUnit.SECONDS));
        }
    }

    @Test
    void flowGivesWhatIsAskedFor() throws InterruptedException {
        ExecutorService executor = Executors.newCachedThreadPool();
        try (Channel channel = fabric.channel("jobs", ONCE.acknowledged()); Publisher publisher = channel.publisher()) {
            Listener listener = new Listener();
            channel.flow(executor).subscribe(listener);
            listener.hears("subscribed");
            for (int i = 0; i < 5; i++) {
                publisher.send(bytes("message " + i));
            }
            listener.subscription.request(2);
            listener.hears("message 0");
            listener.hears("message 1");
            assertNull(listener.told.poll(20, TimeUnit.MILLISECONDS));
            listener.subscription.request(Long.MAX_VALUE);
            listener.subscription.request(1);
            for (int i = 2; i < 5; i++) {
                listener.hears("message " + i);
            }
            publisher.send(bytes("late"));
            listener.hears("late");
            listener.subscription.cancel();
            listener.subscription.cancel();
            executor.shutdown();
            assertTrue(executor.awaitTermination(20, TimeUnit.SECONDS), "the task ends");
            // All that was given is acknowledged, and nothing else was taken.
            publisher.send(bytes("after"));
            try (Consumer consumer = channel.consumer()) {
                Delivery after = consumer.recv(Duration.ofSeconds(20));
                assertEquals("after", string(after.payload()));
                assertFalse(after.redelivered());
                assertNull(consumer.recv(Duration.ofMillis(30)));
            }
            assertNull(listener.told.poll());
            // Nobody runs it any more.
            Listener refused = new Listener();
            channel.flow(executor).subscribe(refused);
            refused.hears("subscribed");
            refused.hears("error");
        }
    }

    @Test
    void flowEndsWithAnErrorOrWhenTheChannelCloses() throws InterruptedException {
        ExecutorService executor = Executors.newCachedThreadPool();
        ChannelOptions losing = ChannelOptions.broadcast().laneBytes(64 * 1024).overrun(ChannelOptions.Overrun.OVERRUN);
        try (Channel channel = fabric.channel("ticks", losing); Publisher publisher = channel.publisher()) {
            Listener wrong = new Listener();
            channel.flow(executor).subscribe(wrong);
            wrong.hears("subscribed");
            wrong.subscription.request(0);
            wrong.hears("error");
            assertInstanceOf(IllegalArgumentException.class, wrong.error);

            Listener slow = new Listener();
            channel.flow(executor, "slow").subscribe(slow);
            slow.hears("subscribed");
            Listener second = new Listener();
            channel.flow(executor, "slow").subscribe(second);
            second.hears("subscribed");
            second.hears("error");
            assertEquals(ErrorCode.SUBSCRIPTION_IN_USE, assertInstanceOf(MemoraException.class, second.error).code());
            for (int i = 0; i < 1000; i++) {
                publisher.send(new byte[200]);
            }
            slow.subscription.request(1000);
            slow.hears("error");
            assertInstanceOf(MemoraException.Overrun.class, slow.error);

            Listener throwing = new Listener() {
                @Override
                public void onNext(Message message) {
                    throw new IllegalStateException("of the subscriber");
                }
            };
            channel.flow(executor).subscribe(throwing);
            throwing.hears("subscribed");
            throwing.subscription.request(1);
            publisher.send(bytes("a"));
            throwing.hears("error");
            assertInstanceOf(IllegalStateException.class, throwing.error);

            Listener waiting = new Listener();
            channel.flow(executor).subscribe(waiting);
            waiting.hears("subscribed");
            waiting.subscription.request(1);
            channel.close();
            waiting.hears("complete");
        } finally {
            executor.shutdown();
            assertTrue(executor.awaitTermination(20, TimeUnit.SECONDS));
        }
    }
}
