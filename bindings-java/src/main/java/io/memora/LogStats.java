package io.memora;

import java.util.List;

/**
 * Figures of a log.
 *
 * @param oldest the oldest position that is kept: so many messages were trimmed in the log's life
 * @param end the position that the next message gets
 * @param bytes bytes of the records in blocks that hold messages which are kept, and of the long messages that are kept in chunks
 * @param bytesMax bytes that the log takes for records, and as much for long messages
 * @param appenders appenders that hold a block now
 * @param durable messages in front of this position are in files that are synced; 0 of a log without files
 * @param fileBytes bytes of its files
 * @param poisoned whether a failed sync has ended all appending
 * @param readers the named readers
 */
public record LogStats(
        long oldest, long end, long bytes, long bytesMax, long appenders, long durable, long fileBytes, boolean poisoned,
        List<Reader> readers) {
    /**
     * A named reader.
     *
     * @param name its name
     * @param held whether somebody holds it now
     * @param position the position of the message that it reads next
     * @param lag messages from there to the end
     */
    public record Reader(String name, boolean held, long position, long lag) {}

    static LogStats read(List<Figures> lines) {
        Figures first = lines.get(0);
        List<Reader> readers = lines.stream().skip(1).map(line -> {
            boolean held = line.next() != 0;
            long position = line.next();
            long lag = line.next();
            return new Reader(line.text(), held, position, lag);
        }).toList();
        return new LogStats(
                first.next(), first.next(), first.next(), first.next(), first.next(), first.next(), first.next(),
                first.next() != 0, readers);
    }
}
