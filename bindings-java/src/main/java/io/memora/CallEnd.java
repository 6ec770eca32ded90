package io.memora;

/**
 * How a call ended.
 *
 * @param call which one
 * @param code null for a reply; else {@link ErrorCode#PEER_DIED}, {@link ErrorCode#UNANSWERED}, or another error
 * @param reply the reply; empty if there is none
 */
public record CallEnd(Call call, ErrorCode code, byte[] reply) {
    /** Whether there is a reply. */
    public boolean isReply() {
        return code == null;
    }
}
