package io.memora;

import java.util.List;
import java.util.OptionalLong;

/**
 * What repairing the files of a store loses and keeps.
 *
 * @param sound whether there was nothing to repair
 * @param records records that can be read
 * @param losses everything that cannot be read
 */
public record RepairReport(boolean sound, long records, List<Loss> losses) {
    /**
     * Bytes of a file that cannot be read any more.
     *
     * @param file name of the file in the directory
     * @param from first byte
     * @param to behind the last byte
     * @param records records that stood there, each the state of one key; empty if that is not known
     * @param what what is wrong
     */
    public record Loss(String file, long from, long to, OptionalLong records, String what) {
        static Loss read(String line) {
            String[] fields = line.split("\t", -1);
            OptionalLong records =
                    fields[3].equals("-") ? OptionalLong.empty() : OptionalLong.of(Long.parseLong(fields[3]));
            return new Loss(fields[0], Long.parseLong(fields[1]), Long.parseLong(fields[2]), records, fields[4]);
        }
    }

    static RepairReport read(String text) {
        List<String> lines = text.lines().toList();
        Figures figures = Figures.of(lines.get(0));
        return new RepairReport(
                figures.next() != 0, figures.next(), lines.stream().skip(1).map(Loss::read).toList());
    }
}
