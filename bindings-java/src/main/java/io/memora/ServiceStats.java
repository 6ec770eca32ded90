package io.memora;

/**
 * Figures of a service.
 *
 * @param clients clients that are there now
 * @param servers servers that are there now
 * @param rings clients for which there is memory: as many as were there at the same time
 * @param asked requests that wait for a server
 * @param taken requests that servers work on for clients who wait
 * @param left requests that servers still have though their callers are gone
 * @param calls calls ever made
 * @param timedOut calls whose time was over
 * @param died calls whose server died
 */
public record ServiceStats(long clients, long servers, long rings, long asked, long taken, long left, long calls,
        long timedOut, long died) {
    static ServiceStats read(Figures line) {
        return new ServiceStats(line.next(), line.next(), line.next(), line.next(), line.next(), line.next(), line.next(),
                line.next(), line.next());
    }
}
