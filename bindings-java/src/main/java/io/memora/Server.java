package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.Objects;

/**
 * Takes requests of a service. Each request is taken by one server, once, and is to be answered by {@link Request#reply} or
 * {@link Request#refuse}, in any order and from any thread.
 *
 * <p><b>One thread at a time</b> may take; a second one gets {@link ErrorCode#BUSY}. Any thread may close: who waits then throws
 * {@link MemoraException.Closed} within 50 ms, and what was taken and not answered is let go. A waiting virtual thread does not hold
 * its carrier.
 */
public final class Server implements AutoCloseable {
    private static final int HEADER = 24;

    private final Handle handle;
    /** Holds the service open for as long as this is in use. */
    private final Service service;

    Server(Service service, long number) {
        this.service = service;
        this.handle = new Handle(this, number);
    }

    /** The service whose requests these are. */
    public Service service() {
        return service;
    }

    /** The next request if there is one, else null. */
    public Request tryTake() {
        return take(Duration.ZERO);
    }

    /** The next request; waits for so long. Null when none came, or when the thread was interrupted, whose mark stays. */
    public Request take(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        Request[] taken = new Request[1];
        Waiting.until(timeout, wait -> {
            byte[] bytes = Native.serverTake(handle.number(), wait);
            Reference.reachabilityFence(this);
            if (bytes == null) {
                return Waiting.NONE;
            }
            ByteBuffer head = ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder());
            byte[] data = new byte[bytes.length - HEADER];
            head.get(HEADER, data);
            taken[0] = new Request(this, head.getLong(0), head.getLong(8), (int) head.getLong(16), data);
            return 0;
        });
        return taken[0];
    }

    boolean reply(long ticket, byte[] reply) {
        int waited = Native.replyArray(handle.number(), ticket, reply, 0, reply.length);
        Reference.reachabilityFence(this);
        return waited != 0;
    }

    boolean reply(long ticket, ByteBuffer reply) {
        int waited = Native.replyBuffer(handle.number(), ticket, reply, reply.position(), reply.remaining());
        Reference.reachabilityFence(this);
        return waited != 0;
    }

    void refuse(long ticket) {
        Native.refuse(handle.number(), ticket);
        Reference.reachabilityFence(this);
    }

    /** Closes this server. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
