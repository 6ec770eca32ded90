package io.memora;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** A JVM in the storms of {@code core/tests/channel_storms.rs}: sends as fast as it can in two threads, and keeps the ledger of its producers. */
public final class LaneStorm {
    private static final VarHandle LONGS = MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.nativeOrder());
    // The ledger, as its other users know it: how many producers there were, then a line for each.
    private static final int PRODUCERS = 1 << 14;
    private static final int LINE = 64;
    private static final long MOST = 1 << 20;

    private LaneStorm() {}

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        ByteBuffer ledger;
        try (FileChannel file = FileChannel.open(home.resolve("ledger"), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            ledger = file.map(FileChannel.MapMode.READ_WRITE, 0, LINE + PRODUCERS * LINE).order(ByteOrder.nativeOrder());
        }
        Fabric fabric = Fabric.builder("storm").home(home.resolve("home")).open();
        Channel channel = fabric.openChannel(arguments[1]);
        for (int thread = 0; thread < 2; thread++) {
            new Thread(() -> {
                try {
                    send(channel, ledger);
                } catch (Throwable error) {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                }
            }).start();
        }
        System.out.println("\n@@ready");
        endWithParent();
    }

    private static void endWithParent() throws IOException {
        while (System.in.read() >= 0) {}
        Runtime.getRuntime().halt(2);
    }

    private static void send(Channel channel, ByteBuffer ledger) {
        Publisher publisher = channel.publisher();
        ByteBuffer message = ByteBuffer.allocateDirect(64).order(ByteOrder.LITTLE_ENDIAN);
        while (true) {
            long producer = (long) LONGS.getAndAdd(ledger, 0, 1L);
            if (producer >= PRODUCERS) {
                throw new IllegalStateException("too many incarnations");
            }
            int line = (int) (LINE + producer * LINE);
            for (long number = 0; number < MOST; number++) {
                int len = (int) (16 + number % 7 * 8);
                message.clear().putLong(producer).putLong(number);
                while (message.position() < len) {
                    message.put((byte) (number & 0x7f));
                }
                publisher.send(message.flip());
                // Who is killed before has sent one more than it says.
                LONGS.setRelease(ledger, line, number + 1);
            }
        }
    }
}
