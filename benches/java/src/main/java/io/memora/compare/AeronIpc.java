package io.memora.compare;

import io.aeron.Aeron;
import io.aeron.Publication;
import io.aeron.Subscription;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.memora.compare.Channels.In;
import io.memora.compare.Channels.Link;
import io.memora.compare.Channels.Out;
import io.memora.compare.Channels.Taker;
import java.nio.file.Path;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.IdleStrategy;
import org.agrona.concurrent.UnsafeBuffer;

/**
 * Aeron over IPC, with an exclusive publication and a polled subscription, both spinning. The media driver shares its one thread and backs off:
 * with two cores its three spinning threads would take the cores from those that are measured, and over IPC it carries no message itself.
 */
final class AeronIpc implements Link {
    /** Fragments of one poll at least, as Aeron's samples have it. */
    private static final int FRAGMENTS = 10;
    private static final String IPC = "aeron:ipc?term-length=64m";

    private final Aeron aeron;

    AeronIpc(Path folder, boolean drives) {
        if (drives) {
            // Lives as long as this JVM.
            MediaDriver.launch(new MediaDriver.Context()
                    .aeronDirectoryName(folder.toString())
                    .threadingMode(ThreadingMode.SHARED)
                    .sharedIdleStrategy(new BackoffIdleStrategy())
                    .dirDeleteOnStart(true)
                    .dirDeleteOnShutdown(true));
        }
        aeron = Aeron.connect(new Aeron.Context().aeronDirectoryName(folder.toString()));
    }

    private static int stream(String direction, long number) {
        return (int) number * 2 + (direction.equals("back") ? 1 : 0);
    }

    @Override
    public In receive(String direction, long number, int size) {
        Subscription subscription = aeron.addSubscription(IPC, stream(direction, number));
        return new In() {
            private Taker taker;
            private int taken;
            // A message longer than a frame comes in fragments, which the assembler puts together.
            private final io.aeron.FragmentAssembler assembler = new io.aeron.FragmentAssembler((buffer, at, len, header) -> {
                taken++;
                taker.take(buffer, at, len);
            });

            @Override
            public int poll(Taker newTaker, int limit) {
                taker = newTaker;
                taken = 0;
                subscription.poll(assembler, Math.max(limit, FRAGMENTS));
                return taken;
            }

            @Override
            public void await(Taker newTaker) {
                taker = newTaker;
                taken = 0;
                IdleStrategy idle = new BackoffIdleStrategy();
                while (taken == 0) {
                    // A fragment is work, too.
                    idle.idle(subscription.poll(assembler, FRAGMENTS));
                }
            }

            @Override
            public void close() {
                subscription.close();
            }
        };
    }

    @Override
    public Out send(String direction, long number, int size) {
        Publication publication = aeron.addExclusivePublication(IPC, stream(direction, number));
        while (!publication.isConnected()) {
            Thread.onSpinWait();
        }
        return new Out() {
            @Override
            public void send(UnsafeBuffer message, int len) {
                while (publication.offer(message, 0, len) < 0) {
                    Thread.onSpinWait();
                }
            }

            @Override
            public void close() {
                publication.close();
            }
        };
    }
}
