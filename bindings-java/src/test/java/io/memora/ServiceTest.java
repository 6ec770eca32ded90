package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class ServiceTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);
    private static final Duration SHORT = Duration.ofMillis(20);

    /** Longer than any message may be. */
    private static final byte[] TOO_LONG = new byte[128 << 20];

    private Service service;
    private Client client;
    private Server server;

    @BeforeEach
    void openService() {
        service = fabric.service("work", ServiceOptions.defaults().messageBytes(200).calls(4));
        client = service.client();
        server = service.server();
    }

    @AfterEach
    void closeService() {
        service.close();
    }

    @Test
    void callsEndOnceInAnyOrder() {
        assertNull(server.tryTake());
        assertNull(server.take(SHORT));
        assertNull(client.awaitAny(SHORT));
        List<Call> calls = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            calls.add(client.send(bytes("request " + i)));
        }
        fails(ErrorCode.TOO_MANY_CALLS, () -> client.send(bytes("more")));
        List<Request> requests = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            Request request = server.take(LONG);
            assertEquals("request " + i, string(request.data()));
            requests.add(request);
        }
        assertNull(client.poll(calls.get(2)));
        assertTrue(requests.get(2).reply(bytes("two")));
        fails(ErrorCode.INVALID_ARGUMENT, () -> requests.get(2).reply(bytes("again")));
        assertEquals("two", string(client.await(calls.get(2), LONG)));
        fails(ErrorCode.INVALID_ARGUMENT, () -> client.poll(calls.get(2)));
        requests.get(1).refuse();
        CallEnd end = client.awaitAny(LONG);
        assertEquals(calls.get(1), end.call());
        assertEquals(ErrorCode.UNANSWERED, end.code());
        assertFalse(end.isReply());
        fails(ErrorCode.TIMED_OUT, () -> client.await(calls.get(0), SHORT));
        assertFalse(requests.get(0).reply(bytes("late")), "nobody waits");
        fails(ErrorCode.VALUE_TOO_LONG, () -> requests.get(3).reply(TOO_LONG));
        ByteBuffer direct = ByteBuffer.allocateDirect(8).put(2, (byte) 7).position(2).limit(5);
        assertTrue(requests.get(3).reply(direct));
        assertEquals(0, direct.remaining());
        end = client.awaitAny(LONG);
        assertTrue(end.isReply());
        assertArrayEquals(new byte[] {7, 0, 0}, end.reply());
        Call buffered = client.send(ByteBuffer.allocateDirect(3).put(0, (byte) 'd'));
        Call wrapped = client.send(ByteBuffer.wrap(bytes("xyz"), 1, 1));
        assertArrayEquals(new byte[] {'d', 0, 0}, server.take(LONG).data());
        Request last = server.take(LONG);
        assertEquals("y", string(last.data()));
        assertTrue(last.reply(ByteBuffer.wrap(bytes("heap"))));
        assertEquals("heap", string(client.await(wrapped, LONG)));
        client.cancel(buffered);
        fails(ErrorCode.INVALID_ARGUMENT, () -> client.cancel(buffered));
        ServiceStats stats = service.stats();
        assertEquals(1, stats.clients());
        assertEquals(1, stats.servers());
        assertEquals(1, stats.timedOut());
        assertEquals(1, stats.left(), "cancelled and not answered");
    }

    @Test
    void longRequestsAndRepliesArriveWholeAndTheirMemoryComesBack() {
        byte[] sent = new byte[300_000];
        for (int round = 0; round < 50; round++) {
            for (int i = 0; i < sent.length; i++) {
                sent[i] = (byte) (i * 7 + i / 251 + round);
            }
            Call call = round % 2 == 0 ? client.send(sent)
                    : client.send(ByteBuffer.allocateDirect(sent.length).put(sent).flip());
            Request request = server.take(LONG);
            assertArrayEquals(sent, request.data());
            sent[0]++;
            boolean told = round % 2 == 0 ? request.reply(sent)
                    : request.reply(ByteBuffer.allocateDirect(sent.length).put(sent).flip());
            assertTrue(told);
            assertArrayEquals(sent, client.await(call, LONG));
        }
        byte[] half = new byte[(int) LIMIT / 3];
        client.send(half);
        fails(ErrorCode.FULL, () -> {
            client.send(half);
            client.send(half);
        });
        assertArrayEquals(half, server.take(LONG).data());
    }

    @Test
    void serversAnswerInThreadsUntilTheyAreClosed() throws Exception {
        AtomicInteger served = new AtomicInteger();
        Thread thread = new Thread(() -> {
            try {
                while (true) {
                    Request request = server.take(LONG);
                    byte[] data = request.data();
                    data[0]++;
                    request.reply(data);
                    served.incrementAndGet();
                }
            } catch (MemoraException.Closed closed) {
                // The end.
            }
        });
        thread.start();
        for (int i = 0; i < 2000; i++) {
            assertEquals("b", string(client.call(bytes("a"), LONG)));
        }
        server.close();
        thread.join(20_000);
        assertFalse(thread.isAlive());
        assertEquals(2000, served.get());
    }

    @Test
    void theDeathOfAnotherJvmIsToldAtOnceAndWhatItDidNotTakeIsTakenByOthers() throws Exception {
        server.close();
        Call first = client.send(bytes("first"));
        Call second = client.send(bytes("second"));
        Process child = Testing.child(Testing.thisJava(), List.of(), ChildJvm.class, "take", home.toString()).start();
        try {
            long end = System.nanoTime() + LONG.toNanos();
            while (service.stats().taken() == 0 && System.nanoTime() < end) {
                Thread.sleep(1);
            }
            assertEquals(1, service.stats().taken());
        } finally {
            child.destroyForcibly();
        }
        fails(ErrorCode.PEER_DIED, () -> client.await(first, Duration.ofDays(1)));
        child.waitFor();
        try (Server next = service.server()) {
            Request request = next.take(LONG);
            assertNotNull(request);
            assertEquals("second", string(request.data()));
            assertTrue(request.reply(bytes("done")));
            assertEquals("done", string(client.await(second, LONG)));
        }
        assertEquals(1, service.stats().died());
    }

    @Test
    void whatIsWrongIsTold() {
        fails(ErrorCode.INVALID_ARGUMENT, () -> ServiceOptions.defaults().calls(-1));
        fails(ErrorCode.INVALID_ARGUMENT, () -> fabric.service("x", ServiceOptions.defaults().calls(3)));
        fails(ErrorCode.WRONG_OPTIONS, () -> fabric.service("work", ServiceOptions.defaults()));
        fails(ErrorCode.NOT_FOUND, () -> fabric.openService("none"));
        fails(ErrorCode.VALUE_TOO_LONG, () -> client.send(TOO_LONG));
        fails(ErrorCode.INVALID_ARGUMENT, () -> client.poll(new Call(12345)));
        try (Service again = fabric.openService("work")) {
            assertEquals("work", again.name());
        }
        Call call = client.send(bytes("q"));
        Request request = server.take(LONG);
        server.close();
        fails(ErrorCode.CLOSED, () -> request.reply(bytes("late")));
        fails(ErrorCode.UNANSWERED, () -> client.await(call, LONG));
        client.close();
        fails(ErrorCode.CLOSED, () -> client.send(bytes("q")));
    }
}
