package io.memora;

import java.nio.ByteBuffer;

/**
 * A request that a server took, to be answered once, from any thread. Whoever sent it waits until then; {@link Server#close} lets it go.
 */
public final class Request {
    private final Server server;
    private final long ticket;
    private final long number;
    private final int client;
    private final byte[] data;

    Request(Server server, long ticket, long number, int client, byte[] data) {
        this.server = server;
        this.ticket = ticket;
        this.number = number;
        this.client = client;
        this.data = data;
    }

    /** The bytes of the request; the array is the caller's. */
    public byte[] data() {
        return data;
    }

    /** Number of the call: unique in the entry of its client. */
    public long number() {
        return number;
    }

    /** The entry of the client. Another client may have it later. */
    public int client() {
        return client;
    }

    /**
     * Answers. False if nobody waited for the reply any more: then it was dropped.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} if it was answered before; {@link ErrorCode#VALUE_TOO_LONG} if the reply is too
     *     long, {@link ErrorCode#FULL} if there is no memory for one that is longer than {@code messageBytes}: then it is still to be answered
     */
    public boolean reply(byte[] reply) {
        return server.reply(ticket, reply);
    }

    /** As {@link #reply(byte[])}: the remaining bytes of a buffer, whose position moves to its limit. */
    public boolean reply(ByteBuffer reply) {
        if (reply.isDirect()) {
            boolean waited = server.reply(ticket, reply);
            reply.position(reply.limit());
            return waited;
        }
        byte[] bytes = new byte[reply.remaining()];
        reply.get(bytes);
        return server.reply(ticket, bytes);
    }

    /** Lets it go without a reply: its client is told {@link ErrorCode#UNANSWERED}. */
    public void refuse() {
        server.refuse(ticket);
    }
}
