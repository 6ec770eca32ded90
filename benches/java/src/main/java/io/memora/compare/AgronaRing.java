package io.memora.compare;

import io.memora.compare.Channels.In;
import io.memora.compare.Channels.Link;
import io.memora.compare.Channels.Out;
import io.memora.compare.Channels.Taker;
import java.io.File;
import java.nio.MappedByteBuffer;
import java.nio.file.Path;
import org.agrona.BufferUtil;
import org.agrona.IoUtil;
import org.agrona.concurrent.UnsafeBuffer;
import org.agrona.concurrent.ringbuffer.OneToOneRingBuffer;
import org.agrona.concurrent.ringbuffer.RingBufferDescriptor;

/** Agrona's ring for one producer and one consumer, in a mapped file on tmpfs. */
record AgronaRing(Path folder) implements Link {
    private static final int MESSAGE = 1;
    private static final int CAPACITY = 1 << 20;

    private File file(String direction, long number) {
        return folder.resolve("agrona-" + direction + "-" + number).toFile();
    }

    private static OneToOneRingBuffer ring(MappedByteBuffer mapped) {
        return new OneToOneRingBuffer(new UnsafeBuffer(mapped));
    }

    @Override
    public In receive(String direction, long number, int size) {
        File file = file(direction, number);
        MappedByteBuffer mapped = IoUtil.mapNewFile(file, CAPACITY + RingBufferDescriptor.TRAILER_LENGTH);
        OneToOneRingBuffer ring = ring(mapped);
        return new In() {
            @Override
            public int poll(Taker taker, int limit) {
                return ring.read((type, buffer, at, len) -> taker.take(buffer, at, len), limit);
            }

            @Override
            public void await(Taker taker) {
                Channels.park(this, taker);
            }

            @Override
            public void close() {
                BufferUtil.free(mapped);
                file.delete();
            }
        };
    }

    @Override
    public Out send(String direction, long number, int size) {
        MappedByteBuffer mapped = IoUtil.mapExistingFile(file(direction, number), "the ring");
        OneToOneRingBuffer ring = ring(mapped);
        return new Out() {
            @Override
            public void send(UnsafeBuffer message, int len) {
                while (!ring.write(MESSAGE, message, 0, len)) {
                    Thread.onSpinWait();
                }
            }

            @Override
            public void close() {
                BufferUtil.free(mapped);
            }
        };
    }
}
