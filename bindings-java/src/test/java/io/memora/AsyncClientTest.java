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
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class AsyncClientTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(20);

    private Service service;
    private AsyncClient calls;

    @BeforeEach
    void openService() {
        service = fabric.service("work", ServiceOptions.defaults().messageBytes(200).calls(4));
        calls = service.asyncClient();
    }

    @AfterEach
    void closeService() {
        calls.close();
        service.close();
    }

    private static ErrorCode failure(CompletableFuture<byte[]> future) {
        ExecutionException error = assertThrows(ExecutionException.class, () -> future.get(20, TimeUnit.SECONDS));
        return assertInstanceOf(MemoraException.class, error.getCause()).code();
    }

    @Test
    void moreCallsThanTheServiceAllowsAreAllAnswered() throws Exception {
        Thread server = new Thread(() -> {
            try (Server answers = service.server()) {
                for (int i = 0; i < 100; i++) {
                    Request request = answers.take(LONG);
                    request.reply(bytes("re: " + string(request.data())));
                }
            }
        });
        server.start();
        List<CompletableFuture<String>> replies = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            replies.add(calls.callAsync(bytes("call " + i), LONG).thenApply(Testing::string));
        }
        for (int i = 0; i < 100; i++) {
            assertEquals("re: call " + i, replies.get(i).get(20, TimeUnit.SECONDS));
        }
        server.join();
        assertEquals(100, service.stats().calls());
    }

    @Test
    void longCallsThatHaveNoMemoryAtTheSameTimeWaitForEachOther() throws Exception {
        byte[] request = new byte[(int) LIMIT / 4];
        Thread server = new Thread(() -> {
            try (Server answers = service.server()) {
                for (int i = 0; i < 12; i++) {
                    Request taken = answers.take(LONG);
                    taken.reply(new byte[] {taken.data()[request.length - 1]});
                }
            }
        });
        List<CompletableFuture<byte[]>> replies = new ArrayList<>();
        for (int i = 0; i < 12; i++) {
            request[request.length - 1] = (byte) i;
            replies.add(calls.callAsync(request, LONG));
        }
        server.start();
        for (int i = 0; i < 12; i++) {
            assertEquals(i, replies.get(i).get(20, TimeUnit.SECONDS)[0]);
        }
        server.join();
    }

    @Test
    void callsEndAsTheyDoForAClient() throws Exception {
        try (Server server = service.server()) {
            byte[] request = bytes("refuse");
            CompletableFuture<byte[]> refused = calls.callAsync(request, LONG);
            request[0] = 'X';
            Request taken = server.take(LONG);
            assertEquals("refuse", string(taken.data()), "the bytes were copied");
            taken.refuse();
            assertEquals(ErrorCode.UNANSWERED, failure(refused));
            assertEquals(ErrorCode.VALUE_TOO_LONG, failure(calls.callAsync(new byte[128 << 20], LONG)));
            assertEquals(ErrorCode.TIMED_OUT, failure(calls.callAsync(bytes("late"), Duration.ofMillis(5))));
            assertEquals(ErrorCode.TIMED_OUT, failure(calls.callAsync(bytes("never"), Duration.ZERO)));
            assertNull(server.tryTake(), "what was given up is never served");
            CompletableFuture<byte[]> cancelled = calls.callAsync(bytes("x"), LONG);
            Request held = server.take(LONG);
            assertTrue(cancelled.cancel(true));
            while (service.stats().left() == 0) {
                Thread.sleep(1);
            }
            assertFalse(held.reply(bytes("nobody hears it")));
            assertThrows(NullPointerException.class, () -> calls.callAsync(bytes("x"), null));
            CompletableFuture<byte[]> open = calls.callAsync(bytes("open"), Duration.ofDays(Long.MAX_VALUE / 86_400));
            calls.close();
            calls.close();
            assertEquals(ErrorCode.CLOSED, failure(open));
            fails(ErrorCode.CLOSED, () -> calls.callAsync(bytes("x"), LONG));
        }
    }

    @Test
    void closingTheServiceEndsTheCalls() throws Exception {
        CompletableFuture<byte[]> open = calls.callAsync(bytes("open"), LONG);
        service.close();
        assertEquals(ErrorCode.CLOSED, failure(open));
    }
}
