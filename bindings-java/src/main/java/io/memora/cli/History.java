package io.memora.cli;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;

/** Writes the history of one client, as docs/stress.md describes it: each line is one write to a file opened for appending. */
final class History implements AutoCloseable {
    private final FileChannel file;
    private final String client;

    History(Path path, String client) {
        this.client = client;
        try {
            file = FileChannel.open(path,
                    Set.of(StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.APPEND),
                    PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        } catch (IOException error) {
            throw new UncheckedIOException(path + " cannot be written", error);
        }
    }

    /** One operation: its question and its answer share the first members. */
    final class Operation {
        private final StringBuilder line = new StringBuilder(256);
        private boolean asked;

        private Operation(String name) {
            line.append("{\"c\":\"").append(client).append("\",\"op\":\"").append(name).append('"');
        }

        Operation text(String member, String value) {
            line.append(",\"").append(member).append("\":\"");
            for (int i = 0; i < value.length(); i++) {
                char c = value.charAt(i);
                line.append(c < 0x20 || c > 0x7e || c == '"' || c == '\\' ? '?' : c);
            }
            line.append('"');
            return this;
        }

        Operation number(String member, long value) {
            line.append(",\"").append(member).append("\":").append(Long.toUnsignedString(value));
            return this;
        }

        Operation truth(String member, boolean value) {
            line.append(",\"").append(member).append("\":").append(value);
            return this;
        }

        /** Writes the question, with the time from before it. */
        Operation ask() {
            number("t0", System.nanoTime());
            asked = true;
            write(line.toString());
            return this;
        }

        /** The call returned: members of the answer follow, then {@link #done}. */
        Operation answered() {
            // What the call stored may still be on its way out of this core: the time must not be earlier than that.
            VarHandle.fullFence();
            return number("t1", System.nanoTime());
        }

        /** Writes the answer. */
        void done() {
            if (!asked) {
                throw new IllegalStateException("an answer without its question");
            }
            write(line.toString());
        }
    }

    /** An operation that begins. */
    Operation operation(String name) {
        return new Operation(name);
    }

    private void write(String line) {
        try {
            file.write(ByteBuffer.wrap((line + "}\n").getBytes(StandardCharsets.US_ASCII)));
        } catch (IOException error) {
            throw new UncheckedIOException("the history cannot be written", error);
        }
    }

    @Override
    public void close() {
        try {
            file.close();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
