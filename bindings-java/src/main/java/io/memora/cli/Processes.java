package io.memora.cli;

import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** Child JVMs that run the same jar. */
final class Processes {
    private Processes() {}

    /** The command line of a child that runs a command of {@link Main}. */
    static List<String> command(List<String> arguments) {
        String java = System.getProperty("java.home") + File.separator + "bin" + File.separator + "java";
        String path = System.getProperty("java.class.path");
        List<String> command = new ArrayList<>(List.of(java));
        if (path.endsWith(".jar") && !path.contains(File.pathSeparator)) {
            command.addAll(List.of("-jar", path));
        } else {
            if (Runtime.version().feature() >= 22) {
                command.add("--enable-native-access=ALL-UNNAMED");
            }
            command.addAll(List.of("-cp", path, Main.class.getName()));
        }
        command.addAll(arguments);
        return command;
    }

    /** Starts a child whose errors appear among ours. */
    static Process start(List<String> arguments) {
        try {
            return new ProcessBuilder(command(arguments)).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        } catch (IOException error) {
            throw new java.io.UncheckedIOException("A child JVM could not be started.", error);
        }
    }
}
