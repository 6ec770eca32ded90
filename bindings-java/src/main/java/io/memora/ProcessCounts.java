package io.memora;

import java.time.Duration;

/**
 * What the threads of one process did to a cache since they attached; threads that have ended are not among them.
 *
 * @param pid the process, in its own PID namespace
 * @param threads how many of its threads are attached
 * @param attached since when, as the time that has gone by
 * @param counts what its threads did
 * @param command the first bytes of its command
 */
public record ProcessCounts(long pid, long threads, Duration attached, CacheCounts counts, String command) {
    static ProcessCounts read(Figures figures) {
        return new ProcessCounts(
                figures.next(), figures.next(), Duration.ofMillis(figures.next()), CacheCounts.read(figures), figures.text());
    }
}
