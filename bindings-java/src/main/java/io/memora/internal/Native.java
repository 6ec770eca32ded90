package io.memora.internal;

import io.memora.ErrorCode;
import io.memora.MemoraException;
import java.nio.ByteBuffer;

/**
 * The functions of the native library. A handle names an object for ever; a closed one is refused by the library itself, so
 * that no race between a call and a close can do harm. Addresses come from {@link Scratch} alone.
 */
public final class Native {
    private Native() {}

    /** Loads the library at the first call, and throws when there is none. Whoever makes the first handle calls this. */
    public static void require() {
        NativeLibrary.require();
    }

    /** The version of the jar, known without the library. */
    public static String jarVersion() {
        return NativeLibrary.version();
    }

    /** Called by the library: throws the exception of an error. */
    static void raise(int number, String message, long amount) {
        throw MemoraException.of(ErrorCode.of(number), message, amount);
    }

    public static native String version();

    public static native String errorTable();

    public static native void close(long handle);

    public static native int openHandles();

    public static native int keyLengthMax();

    static native long address(ByteBuffer buffer);

    public static native int crossNothing();

    public static native int crossEmpty(long handle);

    public static native int crossAddress(long address, int len);

    public static native int crossArray(byte[] bytes, int len);

    public static native int crossBuffer(ByteBuffer buffer, int len);

    // Fabrics

    public static native long fabricOpen(
            String name, String home, long limit, int mode, long group, int backend, boolean readOnly, int create);

    public static native String fabricPath(long handle);

    public static native String fabricInfo(long handle);

    public static native String fabricObjects(long handle);

    public static native String fabricCheck(long handle);

    public static native void fabricReap(long handle);

    public static native String fabricList(String home);

    public static native void fabricRemove(String home, String name);

    public static native long fabricCache(
            long handle, String name, long limit, long entries, int whenFull, boolean events,
            boolean transactions);

    public static native long fabricChannel(
            long handle, String name, int kind, int overrun, int laneBytes, boolean acknowledge, long visibilityMs,
            int deliveriesMax, String deadLetters, boolean timestamps, long ejectAfterMs);

    public static native long fabricOpenChannel(long handle, String name);

    public static native long fabricStore(
            long handle, String name, String dir, int durability, int intervalMs, long checkpointBytes, int ordered,
            long feedBytes, int shards);

    // Caches and stores

    public static native int get(long handle, long key, int keyLen, long out, int capacity);

    public static native int getBuffer(long handle, long key, int keyLen, ByteBuffer out, int start, int capacity);

    public static native byte[] getArray(long handle, long key, int keyLen);

    public static native int getEntry(long handle, long key, int keyLen, long out, int capacity);

    public static native byte[] getEntryArray(long handle, long key, int keyLen);

    public static native int getManyAddress(long handle, long packed, int len, long out, int capacity);

    public static native byte[] getMany(long handle, byte[] packed, int len);

    public static native long putAddress(
            long handle, int how, long key, int keyLen, long value, int valueLen, long ttlMs, int flags);

    public static native long putArray(
            long handle, int how, long key, int keyLen, byte[] value, int start, int valueLen, long ttlMs, int flags);

    public static native long putBuffer(
            long handle, int how, long key, int keyLen, ByteBuffer value, int start, int valueLen, long ttlMs, int flags);

    public static native long compareAndSwap(
            long handle, long key, int keyLen, byte[] value, int start, int valueLen, long version, long ttlMs,
            int flags, long seen);

    public static native int delete(long handle, long key, int keyLen);

    public static native int count(
            long handle, long key, int keyLen, boolean down, long by, boolean hasInitial, long initial, long out);

    public static native byte[] scan(long handle, long cursor, int limit);

    public static native long size(long handle);

    public static native String stats(long handle);

    public static native String processCounts(long handle);

    public static native int deleteIf(long handle, long key, int keyLen, long version, long seen);

    public static native int touch(long handle, long key, int keyLen, long ttlMs);

    public static native byte[] getAndTouch(long handle, long key, int keyLen, long ttlMs);

    public static native byte[] getAndSet(long handle, long key, int keyLen, byte[] value, long ttlMs, int flags);

    public static native byte[] getAndDelete(long handle, long key, int keyLen);

    public static native int countWith(
            long handle, long key, int keyLen, int kind, boolean down, long by, boolean hasInitial, long initial,
            long ttlMs, boolean renewTtl, long out);

    public static native byte[] lease(long handle, long key, int keyLen, int waitMicros, long out);

    public static native long fill(long token, byte[] value, long ttlMs, int flags);

    public static native long invalidate(long handle, long key, int keyLen, long staleForMs);

    public static native byte[] getMeta(long handle, long key, int keyLen, long recacheBelowMs, long out);

    public static native void cacheFlush(long handle);

    public static native String advice(long handle);

    // Views

    public static native long view(long handle, long key, int keyLen, long out);

    public static native ByteBuffer viewBuffer(long view);

    public static native byte[] viewBytes(long view);

    public static native long viewMemory(long view);

    public static native int viewOpen(long view);

    // Events

    public static native long events(long handle);

    public static native byte[] nextEvent(long handle, int waitMicros);

    // Stores

    public static native long storeSetDurable(
            long handle, long key, int keyLen, byte[] value, int start, int valueLen, int durability);

    public static native void storeFlush(long handle);

    public static native void storeCheckpoint(long handle);

    public static native void storeSetShards(long handle, int shards);

    public static native byte[] storeRange(long handle, byte[] from, byte[] to, boolean backward, int limit);

    public static native String storeBackup(long handle, String dir);

    public static native String storeRestore(String from, String to, String name, boolean overwrite);

    public static native String storeVerify(String dir);

    public static native String storeRepair(String dir, boolean apply, String name);

    // Feeds

    public static native long feed(long store, int from, long positionOf, long flush, long index, byte[] prefix);

    public static native byte[] feedNext(long handle, int waitMicros);

    public static native byte[] feedPosition(long handle);

    // Transactions

    public static native long transaction(long store);

    public static native int transactionGet(long handle, long key, int keyLen, long out, int capacity);

    public static native byte[] transactionGetArray(long handle, long key, int keyLen);

    public static native void transactionPut(
            long handle, long key, int keyLen, long value, int valueLen, long ttlMs, int flags);

    public static native void transactionPutArray(long handle, long key, int keyLen, byte[] value, long ttlMs, int flags);

    public static native void transactionPutBuffer(
            long handle, long key, int keyLen, ByteBuffer value, int start, int valueLen, long ttlMs, int flags);

    public static native int transactionDelete(long handle, long key, int keyLen);

    public static native void transactionExpect(long handle, long key, int keyLen, boolean present, long version);

    public static native void transactionSetDurability(long handle, int durability);

    public static native void transactionCommit(long handle);

    public static native byte[] transactionRange(long handle, byte[] from, byte[] to, boolean backward, int limit);

    public static native long outbox(long channel);

    public static native void transactionCacheSet(
            long handle, long cache, byte[] key, byte[] value, long ttlMs, int flags);

    public static native void transactionCacheDelete(long handle, long cache, byte[] key);

    public static native void transactionPublish(long handle, long outbox, long message, int len);

    public static native void transactionPublishArray(long handle, long outbox, byte[] message);

    public static native void transactionPublishBuffer(long handle, long outbox, ByteBuffer message, int start, int len);

    // Snapshots

    public static native long snapshot(long store);

    public static native void storeLimitSnapshots(long store, long ageMs, int percent);

    public static native int snapshotGet(long handle, long key, int keyLen, long out, int capacity);

    public static native byte[] snapshotGetArray(long handle, long key, int keyLen);

    public static native byte[] snapshotScan(long handle, long cursor, int limit);

    public static native byte[] snapshotRange(long handle, byte[] from, byte[] to, boolean backward, int limit);

    // Logs

    public static native long fabricLog(
            long handle, String log, long bytes, long ageMillis, boolean keepsForReaders, String dir, int durability,
            int intervalMillis, long fileBytesMax, long fileBytes);

    public static native long appender(long log);

    public static native long append(long handle, long payload, int len);

    public static native long appendArray(long handle, byte[] payload, int start, int len);

    public static native long appendDurable(long handle, byte[] payload, int durability);

    public static native void logFlush(long log);

    public static native long logReader(long log, String name, int from, long position);

    public static native int logRecv(long handle, long out, int capacity, int waitMicros);

    public static native byte[] logHeld(long handle);

    public static native void logCommit(long handle);

    public static native void logSeek(long handle, int from, long position);

    public static native long logPosition(long handle);

    public static native long logLag(long handle);

    public static native boolean logForget(long log, String name);

    public static native String logStats(long log);

    // Channels

    public static native long publisher(long channel);

    public static native long subscriber(long channel, String name);

    public static native long send(long handle, long payload, int len, int waitMicros);

    public static native long sendArray(long handle, byte[] payload, int start, int len, int waitMicros);

    public static native int waitAny(long[] handles, int waitMicros);

    public static native long waitSet(long[] handles);

    public static native int waitSetWait(long set, int waitMicros);

    public static native long sendAll(long handle, byte[] payloads, int[] lengths, int waitMicros);

    public static native long sendBuffer(long handle, ByteBuffer payload, int start, int len, int waitMicros);

    public static native long shareLane(long publisher);

    public static native ByteBuffer lanePart(long lane, int part);

    public static native long laneFigure(long lane, int figure);

    public static native void wakeSubscribers(long lane);

    public static native long shareReading(long subscriber);

    public static native ByteBuffer readingPart(long reading, int part);

    public static native long readingFigure(long reading, int figure);

    public static native ByteBuffer readingLane(long subscriber, int number, int part);

    public static native int readingLaneIndex(long subscriber, int number);

    public static native void wakePublishers(long reading);

    public static native long poll(long handle, long out, int capacity, int limit);

    public static native byte[] rest(long handle);

    public static native int recv(long handle, long out, int capacity, int waitMicros);

    public static native byte[] held(long handle);

    public static native void unread(long handle);

    public static native void commit(long handle);

    public static native long lag(long handle);

    // Queues

    public static native long consumer(long channel);

    public static native long consumerPoll(long handle, long out, int capacity, int limit);

    public static native byte[] consumerRest(long handle);

    public static native int consumerRecv(long handle, long out, int capacity, int waitMicros);

    public static native byte[] consumerHeld(long handle);

    public static native void consumerAck(long handle, long owner, long number, long word);

    public static native long consumerAckAll(long handle);

    public static native void consumerNack(long handle, long owner, long number, long word, long delayMs);

    public static native void consumerExtend(
            long handle, long owner, long number, long word, long timeMs, long out);

    // Signals

    public static native long fabricSignal(long handle, String name, int kind, int permits);

    public static native long eventSequence(long handle);

    public static native long eventNotify(long handle, boolean one);

    public static native long eventWait(long handle, long seen, int waitMicros);

    public static native long counterGet(long handle);

    public static native long counterAdd(long handle, long delta);

    public static native long counterSet(long handle, long value);

    public static native long counterCompareAndSwap(long handle, long expected, long value);

    public static native int counterWait(long handle, long value, boolean changed, int waitMicros, long out);

    public static native int lockTake(long handle, int waitMicros);

    public static native void lockFree(long handle);

    public static native void lockMarkConsistent(long handle);

    public static native int permitsTake(long handle, int count, int waitMicros);

    public static native void permitsGive(long handle, int count);

    public static native long permitsCount(long handle);

    // Services

    public static native long fabricService(long handle, String name, int messageBytes, int calls);

    public static native long fabricOpenService(long handle, String name);

    public static native long client(long service);

    public static native long server(long service);

    public static native long callArray(long handle, byte[] request, int start, int len);

    public static native long callBuffer(long handle, ByteBuffer request, int start, int len);

    public static native byte[] callWait(long handle, long call, int waitMicros);

    public static native byte[] callEnd(long handle, long call);

    public static native byte[] callWaitAny(long handle, int waitMicros);

    public static native void callCancel(long handle, long call);

    public static native byte[] serverTake(long handle, int waitMicros);

    public static native int replyArray(long handle, long ticket, byte[] reply, int start, int len);

    public static native int replyBuffer(long handle, long ticket, ByteBuffer reply, int start, int len);

    public static native void refuse(long handle, long ticket);

    // Topics

    public static native long fabricTopic(long handle, String name, long limit);

    public static native long fabricOpenTopic(long handle, String name);

    public static native long topicPublish(long handle, byte[] key, byte[] value);

    public static native long topicSubscribe(long topic);

    public static native byte[] topicNext(long handle, int waitMicros);
}
