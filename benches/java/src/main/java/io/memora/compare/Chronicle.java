package io.memora.compare;

import io.memora.compare.Channels.In;
import io.memora.compare.Channels.Link;
import io.memora.compare.Channels.Out;
import io.memora.compare.Channels.Taker;
import java.nio.file.Path;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.core.io.IOTools;
import net.openhft.chronicle.queue.ChronicleQueue;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.wire.DocumentContext;
import org.agrona.concurrent.UnsafeBuffer;

/** Chronicle Queue on tmpfs: it keeps all messages, which the others do not. Each sample has a queue of its own, removed after it. */
record Chronicle(Path folder) implements Link {
    private Path path(String direction, long number) {
        return folder.resolve("chronicle-" + direction + "-" + number);
    }

    private ChronicleQueue queue(String direction, long number) {
        return ChronicleQueue.singleBuilder(path(direction, number)).blockSize(64L << 20).build();
    }

    @Override
    public In receive(String direction, long number, int size) {
        ChronicleQueue queue = queue(direction, number);
        ExcerptTailer tailer = queue.createTailer();
        UnsafeBuffer wrapped = new UnsafeBuffer(0, 0);
        return new In() {
            @Override
            public int poll(Taker taker, int limit) {
                int taken = 0;
                while (taken < limit) {
                    try (DocumentContext document = tailer.readingDocument()) {
                        if (!document.isPresent()) {
                            break;
                        }
                        Bytes<?> bytes = document.wire().bytes();
                        int len = (int) bytes.readRemaining();
                        wrapped.wrap(bytes.addressForRead(bytes.readPosition()), len);
                        taker.take(wrapped, 0, len);
                        taken++;
                    }
                }
                return taken;
            }

            @Override
            public void await(Taker taker) {
                Channels.park(this, taker);
            }

            @Override
            public void close() {
                tailer.close();
                queue.close();
                IOTools.deleteDirWithFiles(path(direction, number).toFile());
            }
        };
    }

    @Override
    public Out send(String direction, long number, int size) {
        ChronicleQueue queue = queue(direction, number);
        ExcerptAppender appender = queue.createAppender();
        return new Out() {
            /** The memory of the message that is sent again and again. */
            private Bytes<?> bytes;

            @Override
            public void send(UnsafeBuffer message, int len) {
                if (bytes == null) {
                    bytes = Bytes.wrapForRead(message.byteBuffer());
                }
                try (DocumentContext document = appender.writingDocument()) {
                    document.wire().bytes().write(bytes, 0L, (long) len);
                }
            }

            @Override
            public void close() {
                appender.close();
                queue.close();
            }
        };
    }
}
