package io.memora.cli;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Locale;

/** Prints what was measured, and appends it to a file: one line of JSON for each case, as all benches do. */
final class Results {
    private final Path file;
    private final String commit;
    private final String machine;

    /** Results go to {@code file} too, unless it is null. */
    Results(Path file) {
        this.file = file;
        this.commit = commit();
        this.machine = machine();
    }

    /** One case: the samples of its runs; the floor may be null. */
    void add(String bench, String name, int processes, String unit, double[] samples, String floor, double floorValue) {
        double[] sorted = samples.clone();
        Arrays.sort(sorted);
        double value = sorted[sorted.length / 2];
        double low = sorted[0];
        double high = sorted[sorted.length - 1];
        String java = "Java " + Runtime.version().feature();
        System.out.printf(Locale.ROOT, "%-8s %-44s %12.1f %-10s (%.1f to %.1f)%s%n", bench, name, value, unit, low, high,
                floor == null ? "" : String.format(Locale.ROOT, "   floor %s: %.1f", floor, floorValue));
        if (file == null) {
            return;
        }
        String line = String.format(Locale.ROOT,
                "{\"bench\":\"%s\",\"case\":\"%s (%s)\",\"lang\":\"java\",\"procs\":%d,\"value\":%.3f,\"unit\":\"%s\","
                        + "\"lo\":%.3f,\"hi\":%.3f,\"floor\":%s,\"peers\":[],\"commit\":\"%s\",\"machine\":\"%s\"}%n",
                bench, name, java, processes, value, unit, low, high,
                floor == null ? "null" : String.format(Locale.ROOT, "{\"name\":\"%s\",\"value\":%.3f}", floor, floorValue),
                commit, machine);
        try {
            if (file.toAbsolutePath().getParent() != null) {
                Files.createDirectories(file.toAbsolutePath().getParent());
            }
            Files.writeString(file, line, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (IOException error) {
            System.err.println("memora: results are not written to " + file + ": " + error.getMessage());
        }
    }

    private static String commit() {
        try {
            Process git = new ProcessBuilder("git", "rev-parse", "--short", "HEAD")
                    .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            return new String(git.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
        } catch (IOException error) {
            return "";
        }
    }

    /** Processor, number of cores and kernel. */
    private static String machine() {
        String model = "";
        try {
            model = Files.readAllLines(Path.of("/proc/cpuinfo")).stream().filter(line -> line.startsWith("model name"))
                    .map(line -> line.substring(line.indexOf(':') + 1).strip()).findFirst().orElse("");
        } catch (IOException error) {
            // The name of the processor is a courtesy.
        }
        return model.replaceAll("[\"\\\\]", "") + ", " + Runtime.getRuntime().availableProcessors() + " cores, Linux "
                + System.getProperty("os.version");
    }
}
