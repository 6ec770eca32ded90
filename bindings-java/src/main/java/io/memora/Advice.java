package io.memora;

import java.util.List;

/**
 * What more or less memory would give a cache, estimated from a sample of what is read. It is the hit ratio of an LRU cache; what
 * counts is by how much it rises or falls.
 *
 * @param hitRatio the part of all reads so far that found their key
 * @param sampledReads reads in the sample: with thousands of them the estimates are good to two or three points
 * @param points what to expect, from the least memory to the most
 */
public record Advice(double hitRatio, long sampledReads, List<Point> points) {
    /**
     * What to expect of one size.
     *
     * @param factor how many times the memory that the cache may use now
     * @param bytes bytes of records
     * @param entries entries of the present mean size that it would hold
     * @param hitRatio the part of all reads that would find their key
     */
    public record Point(double factor, long bytes, long entries, double hitRatio) {}

    static Advice read(List<Figures> lines) {
        Figures first = lines.get(0);
        List<Point> points = lines.stream().skip(1)
                .map(line -> new Point(line.real(), line.next(), line.next(), line.real())).toList();
        return new Advice(first.real(), first.next(), points);
    }
}
