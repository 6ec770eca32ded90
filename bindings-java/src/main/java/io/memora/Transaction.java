package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import io.memora.internal.Scratch;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.Objects;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.locks.LockSupport;

/**
 * Several reads and changes of a {@link Store} that take effect as one, or not at all. Changes are kept by the transaction until
 * {@link #commit}, and seen by its own reads. Closing without a commit gives it up.
 *
 * <p>Transactions are strictly serializable, together with the operations outside of them, over all processes. Nothing is locked: what a
 * transaction has read is proved when it commits, and of two that are in each other's way one throws {@link MemoraException.Conflict}.
 * Until then a transaction may see one key before and another one after the change of somebody else; it cannot commit then.
 *
 * <p><b>One thread at a time</b> may use it; a second one at the same moment gets {@link ErrorCode#BUSY}. It may pass from thread to
 * thread, and virtual threads may use it. Any thread may close it at any time. It ends with the store that it was begun with: when that
 * closes, its methods throw {@link MemoraException.Closed}.
 *
 * <p>Buffers are read and written from their position on, and their position and limit stay as they are.
 */
public final class Transaction implements AutoCloseable {
    /** Answer of {@link #get(ByteBuffer, ByteBuffer)}: there is no such entry. */
    public static final int MISS = Entries.MISS;

    private static final int TRIES = 1000;
    private static final int TRIES_WITHOUT_PAUSE = 3;
    private static final long PAUSE_NANOS = 10_000;
    private static final int PAUSE_DOUBLINGS = 7;

    private final Handle handle;
    /** Holds the store open for as long as this is in use. */
    private final Store store;
    private final Lookups.Source source;

    Transaction(Store store, long number) {
        this.store = store;
        this.handle = new Handle(this, number);
        this.source = new Reading(number);
    }

    /** Names the transaction without holding it. */
    private record Reading(long number) implements Lookups.Source {
        @Override
        public int into(long key, int keyLen, long out, int capacity) {
            return Native.transactionGet(number, key, keyLen, out, capacity);
        }

        @Override
        public byte[] array(long key, int keyLen) {
            return Native.transactionGetArray(number, key, keyLen);
        }
    }

    /** Does a body with a transaction of its own and commits, again as long as others are in the way. */
    static <T, X extends Exception> T retried(Store store, TransactionBody<T, X> body) throws X {
        Objects.requireNonNull(body, "body");
        for (int attempt = 0; attempt < TRIES; attempt++) {
            try (Transaction transaction = store.transaction()) {
                T answer = body.run(transaction);
                transaction.commit();
                return answer;
            } catch (MemoraException.Conflict conflict) {
                letOthersGoFirst(attempt);
            }
        }
        throw MemoraException.of(ErrorCode.CONFLICT, "Others changed what the transaction read each of the " + TRIES
                + " times that it was tried. " + ErrorCode.CONFLICT.remedy(), 0);
    }

    /** The longer the more often they were in the way; not all for the same time. A virtual thread gives its carrier away. */
    private static void letOthersGoFirst(int attempt) {
        if (attempt < TRIES_WITHOUT_PAUSE) {
            Thread.yield();
            return;
        }
        long most = PAUSE_NANOS << Math.min(attempt - TRIES_WITHOUT_PAUSE, PAUSE_DOUBLINGS);
        LockSupport.parkNanos(ThreadLocalRandom.current().nextLong(1, most));
    }

    /** The store that this is a transaction of. */
    public Store store() {
        return store;
    }

    /** A copy of the value of a key as this transaction sees it, or null when there is none. */
    public byte[] get(byte[] key) {
        Entry entry = getEntry(key);
        return entry == null ? null : entry.value();
    }

    /**
     * The entry of a key as this transaction sees it, or null when there is none. The version of what the transaction itself has put is 0.
     *
     * @throws MemoraException.Conflict when the key was read before and has changed since: this transaction cannot commit any more
     */
    public Entry getEntry(byte[] key) {
        Entry entry = Lookups.entry(key, source);
        Reference.reachabilityFence(this);
        return entry;
    }

    /**
     * Copies the value of a key, as this transaction sees it, to where {@code out} stands.
     *
     * @return the length of the value, or {@link #MISS}
     * @throws MemoraException {@link ErrorCode#BUFFER_TOO_SMALL} when it does not fit: {@link MemoraException#amount} is its
     *     length, and nothing was written
     */
    public int get(ByteBuffer key, ByteBuffer out) {
        int len = Lookups.copy(key, out, source);
        Reference.reachabilityFence(this);
        return len;
    }

    /** Puts a value for ever when this commits. */
    public void put(byte[] key, byte[] value) {
        put(key, value, SetOptions.NONE);
    }

    /**
     * Puts a value when this commits; its time to live begins then.
     *
     * @throws MemoraException {@link ErrorCode#KEY_TOO_LONG}, {@link ErrorCode#VALUE_TOO_LONG}, or
     *     {@link ErrorCode#TRANSACTION_TOO_LARGE}: nothing is added to the transaction then, and it can go on
     */
    public void put(byte[] key, byte[] value, SetOptions options) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = Entries.key(scratch, key);
            if (value.length <= Scratch.VALUE_CAPACITY) {
                scratch.value(value, 0, value.length);
                Native.transactionPut(handle.number(), scratch.keyAddress(), keyLen, scratch.valueAddress(), value.length,
                        options.ttlMillis, options.flags);
            } else {
                Native.transactionPutArray(
                        handle.number(), scratch.keyAddress(), keyLen, value, options.ttlMillis, options.flags);
            }
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** The same for ever, out of a buffer. */
    public void put(ByteBuffer key, ByteBuffer value) {
        put(key, value, SetOptions.NONE);
    }

    /** The same out of a buffer. A large direct one is read in place. */
    public void put(ByteBuffer key, ByteBuffer value, SetOptions options) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = Entries.key(scratch, key);
            int len = value.remaining();
            if (len <= Scratch.VALUE_CAPACITY) {
                scratch.value(value);
                Native.transactionPut(handle.number(), scratch.keyAddress(), keyLen, scratch.valueAddress(), len,
                        options.ttlMillis, options.flags);
            } else if (value.isDirect()) {
                // A buffer of an arena that was closed throws here, before its address is used.
                value.get(value.position());
                Native.transactionPutBuffer(handle.number(), scratch.keyAddress(), keyLen, value, value.position(), len,
                        options.ttlMillis, options.flags);
            } else {
                byte[] bytes = new byte[len];
                value.get(value.position(), bytes);
                Native.transactionPutArray(
                        handle.number(), scratch.keyAddress(), keyLen, bytes, options.ttlMillis, options.flags);
            }
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /** Removes an entry when this commits: whether there is one, as this transaction sees it. This reads the key. */
    public boolean delete(byte[] key) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = Entries.key(scratch, key);
            return Native.transactionDelete(handle.number(), scratch.keyAddress(), keyLen) != 0;
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Goes on, and commits, only if the entry of a key has this version in the store, which {@link Store#getEntry} or a write gave.
     *
     * @throws MemoraException.Conflict when it has another one now, or there is no entry
     */
    public void expect(byte[] key, long version) {
        expect(key, true, version);
    }

    /**
     * Goes on, and commits, only if a key has no entry in the store.
     *
     * @throws MemoraException.Conflict when it has one now
     */
    public void expectAbsent(byte[] key) {
        expect(key, false, 0);
    }

    private void expect(byte[] key, boolean present, long version) {
        Scratch scratch = Scratch.take();
        try {
            int keyLen = Entries.key(scratch, key);
            Native.transactionExpect(handle.number(), scratch.keyAddress(), keyLen, present, version);
        } finally {
            scratch.give();
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Goes over the entries whose keys lie between two bounds, as {@link Store#range} does, but as this transaction sees them, with its own
     * changes among them. It is proved at the commit that no entry came into the part that was visited, or left it.
     *
     * @throws MemoraException.Conflict when a key was read before and has changed since
     */
    public byte[] range(byte[] from, byte[] to, Direction direction, int limit, EntryConsumer consumer) {
        byte[] next = Ranges.over(from, to, direction, limit, consumer,
                (least, behind, backward, most) -> Native.transactionRange(handle.number(), least, behind, backward, most));
        Reference.reachabilityFence(this);
        return next;
    }

    /** Sets an entry of a cache for ever when this commits. */
    public void cacheSet(Cache cache, byte[] key, byte[] value) {
        cacheSet(cache, key, value, SetOptions.NONE);
    }

    /**
     * Sets an entry of a cache when this commits. It does not read caches: what is there is replaced.
     *
     * @throws MemoraException {@link ErrorCode#KEY_TOO_LONG}, {@link ErrorCode#VALUE_TOO_LONG}, {@link ErrorCode#TRANSACTION_TOO_LARGE},
     *     or {@link ErrorCode#INVALID_ARGUMENT} when the cache is of another fabric, or was made without {@link
     *     CacheOptions#withTransactions}: nothing is added to the transaction then, and it can go on
     */
    public void cacheSet(Cache cache, byte[] key, byte[] value, SetOptions options) {
        Native.transactionCacheSet(handle.number(), cache.handle.number(), key, value, options.ttlMillis, options.flags);
        Reference.reachabilityFence(cache);
        Reference.reachabilityFence(this);
    }

    /**
     * Deletes an entry of a cache when this commits, whether it is there or not: what others put there meanwhile goes as well, and leases
     * end, because it may be made of what this transaction changes.
     */
    public void cacheDelete(Cache cache, byte[] key) {
        Native.transactionCacheDelete(handle.number(), cache.handle.number(), key);
        Reference.reachabilityFence(cache);
        Reference.reachabilityFence(this);
    }

    /**
     * Sends a message when this commits: subscribers get it then, and never if it does not commit. The messages of one outbox come in the
     * order in which they were published, all or none, also if this process dies meanwhile; together they may take what one message may.
     *
     * @throws MemoraException {@link ErrorCode#VALUE_TOO_LONG}, {@link ErrorCode#TRANSACTION_TOO_LARGE}, or
     *     {@link ErrorCode#INVALID_ARGUMENT} when the channel is of another fabric than the store, or of another opening of it: nothing
     *     is added to the transaction then, and it can go on
     */
    public void publish(Outbox outbox, byte[] message) {
        if (message.length > Scratch.VALUE_CAPACITY) {
            Native.transactionPublishArray(handle.number(), outbox.number(), message);
            Reference.reachabilityFence(outbox);
            Reference.reachabilityFence(this);
            return;
        }
        Scratch scratch = Scratch.take();
        try {
            scratch.value(message, 0, message.length);
            Native.transactionPublish(handle.number(), outbox.number(), scratch.valueAddress(), message.length);
        } finally {
            scratch.give();
            Reference.reachabilityFence(outbox);
            Reference.reachabilityFence(this);
        }
    }

    /** The same out of a buffer. A large direct one is read in place. */
    public void publish(Outbox outbox, ByteBuffer message) {
        int len = message.remaining();
        if (len > Scratch.VALUE_CAPACITY && message.isDirect()) {
            // A buffer of an arena that was closed throws here, before its address is used.
            message.get(message.position());
            Native.transactionPublishBuffer(handle.number(), outbox.number(), message, message.position(), len);
            Reference.reachabilityFence(outbox);
            Reference.reachabilityFence(this);
            return;
        }
        byte[] bytes = new byte[len];
        message.get(message.position(), bytes);
        publish(outbox, bytes);
    }

    /**
     * Makes the commit as durable as this, whatever the store was opened with.
     *
     * @throws MemoraException {@link ErrorCode#INVALID_ARGUMENT} when the store has no files and so cannot be
     */
    public void setDurability(Durability durability) {
        Native.transactionSetDurability(handle.number(), durability.ordinal());
        Reference.reachabilityFence(this);
    }

    /**
     * Makes all changes take effect at one moment, or none of them, and closes this, unless it throws {@link ErrorCode#BUSY}. With
     * {@link Durability#SYNC} they are on disk when this returns.
     *
     * @throws MemoraException.Conflict when another has changed what was read, or was in the way: nothing was done. Begin a new
     *     transaction with what is there now, or use {@link Store#transact}
     * @throws MemoraException {@link ErrorCode#BACK_PRESSURE} when a subscriber is behind and there is no room for a message: nothing was
     *     done; a commit never waits for subscribers
     */
    public void commit() {
        try {
            Native.transactionCommit(handle.number());
        } catch (MemoraException error) {
            if (error.code() != ErrorCode.BUSY) {
                handle.close();
            }
            throw error;
        }
        handle.close();
        Reference.reachabilityFence(this);
    }

    /** Gives the transaction up unless it was committed. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
