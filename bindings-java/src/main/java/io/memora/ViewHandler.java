package io.memora;

/** Looks at the messages of {@link Subscriber#pollInPlace}. */
@FunctionalInterface
public interface ViewHandler {
    /**
     * One message. <b>It may be looked at only until this returns, and only by the thread that called this.</b> An exception means that
     * it was not handled: it ends the poll, and the message comes again.
     */
    void onMessage(MessageView message);
}
