package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Takes messages out of a channel.
 *
 * <p>A named subscriber has a place that outlives it. The place moves over what was taken when the next {@code poll}, {@code recv},
 * {@code commit} or {@code close} is called, which means: after it was handled. Whoever is killed while it handles a message
 * sees that message again; lane and position tell which one it is.
 *
 * <p><b>One thread at a time</b> may take; a second one at the same moment, and a handler that calls the subscriber it was called
 * from, gets {@link ErrorCode#BUSY}. Any thread may close at any time: who waits then throws {@link MemoraException.Closed} within
 * 50 ms.
 *
 * <p>A waiting virtual thread parks between looks and does not hold its carrier.
 */
public final class Subscriber implements AutoCloseable, Source {
    private static final int HEADER = 24;
    private static final int SENT = 16;

    private final Handle handle;
    /** Holds the channel open for as long as this is in use. */
    private final Channel channel;
    /** While a thread is inside: the batch below belongs to that call. */
    private final AtomicBoolean inside = new AtomicBoolean();

    private final MessageView view = new MessageView();
    /** Reads in place for one thread; null before one polled so, and where none can. */
    private LaneReader reader;
    private boolean asked;

    /** What was taken and not yet handed over: it stays when a handler throws. */
    private final Batch batch = new Batch(HEADER, new Batch.Source() {
        @Override
        public long poll(long address, int capacity, int limit) {
            return Native.poll(handle().number(), address, capacity, limit);
        }

        @Override
        public byte[] rest() {
            return Native.rest(handle().number());
        }
    });

    Subscriber(Channel channel, long number) {
        this.channel = channel;
        this.handle = new Handle(this, number);
    }

    /** The channel that this subscriber takes from. */
    public Channel channel() {
        return channel;
    }

    /**
     * Hands over up to {@code limit} messages that are there now, without waiting. When the handler throws, the messages after
     * that one are handed over by the next call.
     *
     * @return how many messages were handed over
     * @throws MemoraException.Overrun once for each time that messages were lost; call again to go on
     */
    public int poll(MessageHandler handler, int limit) {
        Objects.requireNonNull(handler, "handler");
        enter();
        try {
            int handed = handOver(handler, limit);
            if (handed > 0 || limit <= 0) {
                return handed;
            }
            batch.take(limit);
            return handOver(handler, limit);
        } finally {
            inside.setRelease(false);
            Reference.reachabilityFence(this);
        }
    }

    /**
     * As {@link #poll}, but the handler looks at each message where it stands, and copies what it wants of it. Nothing else is copied, and a
     * thread that keeps polling short messages makes no native call: give each thread a subscriber of its own.
     *
     * <p>When the handler throws, the message was not handled: it comes again, by whichever method asks next. Where the subscription is
     * ejected while the handler is at work, {@link MessageView#isWhole} says so from then on, and this or the next call throws
     * {@link ErrorCode#EJECTED}; what the handler did with that message is for it to undo. On a channel that overruns nobody would wait for the handler, and
     * what is longer than a ring takes stands in no piece: those it gets copied.
     *
     * <p>The handler may send, and may close this subscriber, which then closes when it returns. It may stop early, as the library does after a
     * quarter of a ring: nothing is there when this gives 0.
     *
     * @return how many messages were handled
     * @throws MemoraException.Overrun once for each time that messages were lost; call again to go on
     */
    public int pollInPlace(ViewHandler handler, int limit) {
        Objects.requireNonNull(handler, "handler");
        enter();
        try {
            if (batch.count() > 0 || limit <= 0) {
                return showCopies(handler, limit);
            }
            LaneReader mine = reader();
            int handled = mine == null ? LaneReader.ASK : mine.poll(handler, limit);
            if (handled != LaneReader.ASK) {
                return handled;
            }
            if (mine == null || !mine.isMine()) {
                batch.take(limit);
                return showCopies(handler, limit);
            }
            // One that stands in the way of those which are read in place.
            batch.take(1);
            handled = showCopies(handler, 1);
            if (handled == 0 || handled == limit || view.isLast()) {
                return handled;
            }
            int more = mine.poll(handler, limit - handled);
            return more == LaneReader.ASK ? handled : handled + more;
        } finally {
            inside.setRelease(false);
            if (view.isLast()) {
                end();
            }
            Reference.reachabilityFence(this);
        }
    }

    /** What reads without a call, if this thread may. */
    private LaneReader reader() {
        if (!asked && !Scratch.virtual()) {
            asked = true;
            reader = LaneReader.of(handle.number(), view);
        }
        return reader;
    }

    private int showCopies(ViewHandler handler, int limit) {
        int handled = 0;
        view.beginCopies();
        while (batch.count() > 0 && handled < limit && !view.isLast()) {
            int at = batch.next();
            view.show(batch.littleEndian(), at + HEADER, batch.payloadLen(at), batch.bytes().getInt(at + 8), batch.bytes().getLong(at),
                    batch.bytes().getLong(at + SENT));
            try {
                handler.onMessage(view);
            } finally {
                view.end();
            }
            batch.advance();
            handled++;
        }
        return handled;
    }

    private Handle handle() {
        return handle;
    }

    /** The handle, for waiting. */
    long number() {
        return handle.number();
    }

    /** Whether messages of the last batch wait to be handed over. */
    boolean hasBatch() {
        return batch.count() > 0;
    }

    private void enter() {
        if (!inside.compareAndSet(false, true)) {
            throw MemoraException.of(ErrorCode.BUSY, "Another thread, or a handler further up, is inside this subscriber: give each"
                    + " thread its own. " + ErrorCode.BUSY.remedy(), 0);
        }
    }

    private int handOver(MessageHandler handler, int limit) {
        int handed = 0;
        while (batch.count() > 0 && handed < limit) {
            int at = batch.advance();
            handed++;
            handler.onMessage(batch.bytes().getInt(at + 8), batch.bytes().getLong(at), batch.payload(at));
        }
        return handed;
    }

    /** Takes a message if there is one now, else gives null. */
    public Message tryRecv() {
        return recv(Duration.ZERO);
    }

    /**
     * Takes a message, and waits for so long until there is one; null when none came, or when the thread was interrupted, whose
     * interrupt status stays set.
     *
     * @throws MemoraException.Overrun once for each time that messages were lost; call again to go on
     */
    public Message recv(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        enter();
        try {
            return receive(timeout);
        } finally {
            inside.setRelease(false);
        }
    }

    private Message receive(Duration timeout) {
        Message[] out = new Message[1];
        if (batch.count() > 0) {
            int at = batch.advance();
            ByteBuffer payload = batch.payload(at);
            byte[] bytes = new byte[payload.remaining()];
            payload.get(bytes);
            return new Message(batch.bytes().getInt(at + 8), batch.bytes().getLong(at), bytes, batch.bytes().getLong(at + SENT));
        }
        Waiting.until(timeout, wait -> {
            out[0] = attempt(wait);
            return out[0] == null ? Waiting.NONE : 0;
        });
        return out[0];
    }

    private Message attempt(int waitMicros) {
        Scratch scratch = Scratch.take();
        try {
            int len = Native.recv(
                    handle.number(), scratch.valueAddress(), Scratch.VALUE_CAPACITY, waitMicros);
            if (len == Waiting.NONE) {
                return null;
            }
            byte[] payload = len >= 0 ? scratch.value(HEADER, len) : Native.held(handle.number());
            return new Message(scratch.valueInt(8), scratch.valueLong(0), payload, scratch.valueLong(SENT));
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Confirms all that was taken, without taking more. When a handler threw and messages of its batch wait to be handed over, they
     * would be confirmed too, so this is refused then: poll again first.
     */
    public void commit() {
        enter();
        try {
            if (batch.count() > 0) {
                throw new MemoraException(ErrorCode.BUSY,
                        batch.count() + " messages were taken and not yet handed over: poll again first.", 0, null);
            }
            Native.commit(handle.number());
        } finally {
            inside.setRelease(false);
            Reference.reachabilityFence(this);
        }
    }

    /** Bytes that were sent and that this subscriber has not taken yet, with the headers of the messages. */
    public long lag() {
        enter();
        try {
            return Native.lag(handle.number());
        } finally {
            inside.setRelease(false);
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Closes this subscriber. What was taken counts as handled, unless a handler threw, or closed this, and messages of its batch wait to be
     * handed over: then a named subscription hands out all of that batch of {@link #poll} again. Closing the channel or the fabric instead confirms what
     * was taken. The second time does nothing.
     */
    @Override
    public void close() {
        if (view.isShown()) {
            // In its own handler: once the message was handled, which then counts.
            view.makeLast();
        } else {
            end();
        }
    }

    private void end() {
        try {
            // Where messages were handled in the rings, they would come again as well.
            if (batch.count() > 0 && reader == null) {
                Native.unread(handle.number());
            }
        } catch (MemoraException refused) {
            // Closed before, or another thread is inside: then that one's call decides.
        } finally {
            handle.close();
        }
    }
}
