package io.memora;

import java.time.Instant;

/**
 * What a backup of a store holds.
 *
 * @param records one of each entry, and those of what changed while it was made
 * @param bytes bytes of its files
 * @param begun when it was begun
 */
public record BackupInfo(long records, long bytes, Instant begun) {
    static BackupInfo read(Figures figures) {
        return new BackupInfo(figures.next(), figures.next(), Instant.ofEpochMilli(figures.next()));
    }
}
