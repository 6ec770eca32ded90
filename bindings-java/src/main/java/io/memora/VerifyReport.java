package io.memora;

/**
 * What the files of a store or backup hold.
 *
 * @param backup whether it is a backup
 * @param records records in all files that count: several of one key, if it was changed since the checkpoint
 * @param bytes bytes read
 * @param torn journal files whose last batch was cut off by a crash, which is legal
 * @param feedFiles journal files of which all or a part is kept for the change feed only
 */
public record VerifyReport(boolean backup, long records, long bytes, long torn, long feedFiles) {
    static VerifyReport read(Figures figures) {
        return new VerifyReport(figures.next() != 0, figures.next(), figures.next(), figures.next(), figures.next());
    }
}
