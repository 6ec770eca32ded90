package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.Objects;

/**
 * Sends requests to a service and gets the replies.
 *
 * <p>Each call ends once: with its reply, with {@link ErrorCode#PEER_DIED} at once when the server that took it is dead, with
 * {@link ErrorCode#UNANSWERED} when the server let it go, with {@link ErrorCode#TIMED_OUT}, or because it was cancelled. After
 * {@code PEER_DIED} and {@code TIMED_OUT} it is not known how far a server came.
 *
 * <p><b>One thread at a time</b>; a second one gets {@link ErrorCode#BUSY}. Another thread may go on with it, as long as the one that
 * used it last has not ended: else the calls that are under way end with {@link ErrorCode#CLOSED}. Any thread may close: who waits
 * then throws {@link MemoraException.Closed} within 50 ms. A waiting virtual thread does not hold its carrier.
 */
public final class Client implements AutoCloseable {
    private static final int HEADER = 16;

    private final Handle handle;
    /** Holds the service open for as long as this is in use. */
    private final Service service;

    Client(Service service, long number) {
        this.service = service;
        this.handle = new Handle(this, number);
    }

    /** The service that this client calls. */
    public Service service() {
        return service;
    }

    /**
     * Sends a request and does not wait.
     *
     * @throws MemoraException {@link ErrorCode#TOO_MANY_CALLS} if as many are under way as the service allows; {@link ErrorCode#FULL} if there is no
     *     memory for a request that is longer than {@code messageBytes}
     */
    public Call send(byte[] request) {
        long id = Native.callArray(handle.number(), request, 0, request.length);
        Reference.reachabilityFence(this);
        return new Call(id);
    }

    /** As {@link #send(byte[])}: the remaining bytes of a buffer, whose position moves to its limit. */
    public Call send(ByteBuffer request) {
        int length = request.remaining();
        long id;
        if (request.isDirect()) {
            id = Native.callBuffer(handle.number(), request, request.position(), length);
            request.position(request.limit());
        } else {
            byte[] bytes = new byte[length];
            request.get(bytes);
            id = Native.callArray(handle.number(), bytes, 0, length);
        }
        Reference.reachabilityFence(this);
        return new Call(id);
    }

    /** The reply to a call, if it is there, else null: then the call goes on. */
    public byte[] poll(Call call) {
        byte[] reply = Native.callWait(handle.number(), call.id(), 0);
        Reference.reachabilityFence(this);
        return reply;
    }

    /**
     * Waits for the reply to a call. When the time is over, or the thread was interrupted, whose mark stays, the call ends: a reply that
     * comes later is dropped.
     *
     * @throws MemoraException with the code that says how else the call ended
     */
    public byte[] await(Call call, Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        byte[][] reply = new byte[1][];
        Waiting.until(timeout, wait -> {
            reply[0] = Native.callWait(handle.number(), call.id(), wait);
            Reference.reachabilityFence(this);
            return reply[0] == null ? Waiting.NONE : 0;
        });
        if (reply[0] == null) {
            reply[0] = Native.callEnd(handle.number(), call.id());
            Reference.reachabilityFence(this);
        }
        return reply[0];
    }

    /** Sends a request and waits for the reply: {@link #send(byte[])} and {@link #await}. */
    public byte[] call(byte[] request, Duration timeout) {
        return await(send(request), timeout);
    }

    /**
     * Waits for the end of any call. Null when the time is over, when none is under way, or when the thread was interrupted, whose mark
     * stays: the calls go on.
     */
    public CallEnd awaitAny(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        CallEnd[] end = new CallEnd[1];
        Waiting.until(timeout, wait -> {
            byte[] bytes = Native.callWaitAny(handle.number(), wait);
            Reference.reachabilityFence(this);
            if (bytes == null) {
                return Waiting.NONE;
            }
            end[0] = end(ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()));
            return 0;
        });
        return end[0];
    }

    private static CallEnd end(ByteBuffer bytes) {
        Call call = new Call(bytes.getLong());
        long code = bytes.getLong();
        byte[] reply = new byte[bytes.limit() - HEADER];
        bytes.get(reply);
        return new CallEnd(call, code == 0 ? null : ErrorCode.of((int) code), reply);
    }

    /** Gives a call up: a request that no server took is never served, a reply that comes later is dropped. */
    public void cancel(Call call) {
        Native.callCancel(handle.number(), call.id());
        Reference.reachabilityFence(this);
    }

    /** Closes this client: calls that are under way are given up. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
