package io.memora;

import io.memora.internal.Native;
import java.nio.file.Path;

/** What can be done with the files of a store that no fabric has open. */
public final class StoreFiles {
    private StoreFiles() {}

    /**
     * Makes a store of the same name of a backup, in a directory that must be empty or not there. A bad backup leaves no store.
     *
     * @param from directory of the backup, or a file with its stream
     */
    public static BackupInfo restore(Path from, Path to) {
        return restore(from, to, null, false);
    }

    /**
     * Makes a store of a backup.
     *
     * @param from directory of the backup, or a file with its stream
     * @param name name of the new store, null for that of the old one
     * @param overwrite whether a store that is in the directory is replaced; it stays as it is if the backup is bad
     */
    public static BackupInfo restore(Path from, Path to, String name, boolean overwrite) {
        return BackupInfo.read(Figures.of(Native.storeRestore(from.toString(), to.toString(), name, overwrite)));
    }

    /**
     * Reads every byte of the files of a store or backup as recovery would, and changes nothing. What is wrong first is the
     * {@link MemoraException}, with file and offset.
     */
    public static VerifyReport verify(Path directory) {
        return VerifyReport.read(Figures.of(Native.storeVerify(directory.toString())));
    }

    /** Says what is damaged in the files of a store and exactly what repairing it would lose; changes nothing. */
    public static RepairReport examine(Path directory) {
        return RepairReport.read(Native.storeRepair(directory.toString(), false, null));
    }

    /** Saves what can be read of damaged files; the originals are kept beside under other names. See {@link #examine} first. */
    public static RepairReport repair(Path directory) {
        return RepairReport.read(Native.storeRepair(directory.toString(), true, null));
    }

    /** As {@link #repair(Path)}, for a store whose file {@code STORE} is damaged, so that its name must be given. */
    public static RepairReport repair(Path directory, String name) {
        return RepairReport.read(Native.storeRepair(directory.toString(), true, name));
    }
}
