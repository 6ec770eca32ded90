package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Reads the committed changes of a store, each once, those of a key in their order. They come when a flush has made them durable.
 *
 * <p>Whoever keeps the position of the last change that was handled goes on there with another feed, also after all processes or the
 * host have died.
 *
 * <p><b>One thread at a time</b> may read; a second one at the same moment gets {@link ErrorCode#BUSY}. Any thread may close at any
 * time: who waits then throws {@link MemoraException.Closed} within 50 ms. It is closed with its store.
 *
 * <p>A waiting virtual thread parks between looks and does not hold its carrier; a look reads files, mostly from the memory in which the
 * kernel has them.
 */
public final class Feed implements AutoCloseable {
    private static final int HEADER = 52;

    private final Handle handle;
    /** Holds the store open for as long as this is in use. */
    private final Store store;
    private final AtomicBoolean inside = new AtomicBoolean();

    Feed(Store store, long number) {
        this.store = store;
        this.handle = new Handle(this, number);
    }

    /** The store whose changes these are. */
    public Store store() {
        return store;
    }

    private void enter() {
        if (!inside.compareAndSet(false, true)) {
            throw MemoraException.of(ErrorCode.BUSY,
                    "Another thread is inside this feed: give each thread its own. " + ErrorCode.BUSY.remedy(), 0);
        }
    }

    /** The next change if there is one now, else null. */
    public Change tryNext() {
        return next(Duration.ZERO);
    }

    /**
     * The next change; waits for so long until there is one. Null when none came, or when the thread was interrupted, whose interrupt
     * status stays set.
     *
     * @throws MemoraException {@link ErrorCode#POSITION_TRIMMED} when it was so far behind that files which come next were removed
     */
    public Change next(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        enter();
        try {
            Change[] found = new Change[1];
            Waiting.until(timeout, wait -> {
                byte[] bytes = Native.feedNext(handle.number(), wait);
                if (bytes == null) {
                    return Waiting.NONE;
                }
                found[0] = change(bytes);
                return 0;
            });
            return found[0];
        } finally {
            inside.set(false);
            Reference.reachabilityFence(this);
        }
    }

    private static Change change(byte[] bytes) {
        ByteBuffer in = ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder());
        FeedPosition position = new FeedPosition(in.getLong(0), in.getLong(8), in.getLong(16));
        long expires = in.getLong(32);
        byte[] key = new byte[in.getInt(44)];
        in.get(HEADER, key);
        int valueLen = in.getInt(48);
        byte[] value = null;
        if (valueLen >= 0) {
            value = new byte[valueLen];
            in.get(HEADER + key.length, value);
        }
        return new Change(key, value, in.getInt(40), expires == 0 ? -1 : expires, in.getLong(24), position);
    }

    /** Where one goes on who has handled every change that this gave; with a prefix it may stand behind the last of them. */
    public FeedPosition position() {
        enter();
        try {
            ByteBuffer in = ByteBuffer.wrap(Native.feedPosition(handle.number())).order(ByteOrder.nativeOrder());
            return new FeedPosition(in.getLong(), in.getLong(), in.getLong());
        } finally {
            inside.set(false);
            Reference.reachabilityFence(this);
        }
    }

    /** Closes this feed. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
