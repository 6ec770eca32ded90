package io.memora;

import static org.junit.jupiter.api.Assertions.assertThrows;

import io.memora.internal.Native;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.function.Executable;

/** What the tests share: homes of their own, child JVMs, the newest Java that is installed. */
public final class Testing {
    private static final long PATIENCE_SECONDS = 120;

    private Testing() {}

    /** Multiplies the length of tests that can be longer. */
    public static final int LENGTH = "1".equals(System.getenv("MEMORA_TORTURE")) ? 20 : 1;

    public static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    public static String string(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    /** A directory that only we may enter, on a tmpfs if there is one. */
    public static Path newHome() throws IOException {
        Path tmpfs = Path.of("/dev/shm");
        return Files.isDirectory(tmpfs) && Files.isWritable(tmpfs)
                ? Files.createTempDirectory(tmpfs, "memora-test-") : Files.createTempDirectory("memora-test-");
    }

    public static void remove(Path directory) throws IOException {
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(file);
            }
        }
    }

    /** Asserts that a call fails with this code, and gives the exception. */
    public static MemoraException fails(ErrorCode code, Executable call) {
        MemoraException error = assertThrows(MemoraException.class, call);
        if (error.code() != code) {
            throw new AssertionError("expected " + code + ", got " + error.code(), error);
        }
        return error;
    }

    /** The Java that runs this test. */
    public static Path thisJava() {
        return Path.of(System.getProperty("java.home"), "bin", "java");
    }

    /** A Java 25, from MEMORA_JAVA25 (a home or a program) or where distributions put it; the test is skipped without one. */
    public static Path java25() {
        return find25().orElseGet(() -> {
            String skipped = "skipped: no Java 25 here; MEMORA_JAVA25 may name one";
            System.out.println(skipped);
            return Assumptions.abort(skipped);
        });
    }

    private static Optional<Path> find25() {
        String named = System.getenv("MEMORA_JAVA25");
        if (named != null && !named.isEmpty()) {
            Path path = Path.of(named);
            return Optional.of(Files.isDirectory(path) ? path.resolve("bin/java") : path);
        }
        if (Runtime.version().feature() == 25) {
            return Optional.of(thisJava());
        }
        try (Stream<Path> homes = Files.list(Path.of("/usr/lib/jvm"))) {
            return homes.filter(Testing::is25).map(home -> home.resolve("bin/java")).filter(Files::isExecutable).findFirst();
        } catch (IOException error) {
            return Optional.empty();
        }
    }

    private static boolean is25(Path home) {
        try {
            return Files.readString(home.resolve("release")).contains("JAVA_VERSION=\"25");
        } catch (IOException error) {
            return false;
        }
    }

    /** The class path of the tests, for children. */
    public static String classPath() {
        return System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    }

    /** A child JVM that runs a class of the tests. */
    public static ProcessBuilder child(Path java, List<String> options, Class<?> main, String... arguments) {
        List<String> command = new ArrayList<>();
        command.add(java.toString());
        command.addAll(options);
        command.addAll(List.of("-cp", classPath(), main.getName()));
        command.addAll(List.of(arguments));
        return new ProcessBuilder(command);
    }

    /** What a process said and how it ended. */
    public record Ended(int code, String out, String err) {}

    /** Runs a process to its end. */
    public static Ended run(ProcessBuilder builder, String input) throws IOException, InterruptedException {
        File out = File.createTempFile("memora-out-", ".txt");
        File err = File.createTempFile("memora-err-", ".txt");
        try {
            Process process = builder.redirectOutput(out).redirectError(err).start();
            try (var stdin = process.getOutputStream()) {
                stdin.write(input.getBytes(StandardCharsets.UTF_8));
            } catch (IOException error) {
                // It ended without reading its input, which its answers will show.
            }
            if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly().waitFor();
                throw new AssertionError("still running after " + PATIENCE_SECONDS + " s: " + builder.command()
                        + "\n" + Files.readString(out.toPath()) + Files.readString(err.toPath()));
            }
            return new Ended(process.exitValue(), Files.readString(out.toPath()), Files.readString(err.toPath()));
        } finally {
            Files.deleteIfExists(out.toPath());
            Files.deleteIfExists(err.toPath());
        }
    }

    /** The handles that are open when the garbage of earlier tests is gone. */
    public static int openHandles() throws InterruptedException {
        int open = Native.openHandles();
        for (int same = 0; same < 5; same++) {
            System.gc();
            Thread.sleep(20);
            if (Native.openHandles() != open) {
                open = Native.openHandles();
                same = 0;
            }
        }
        return open;
    }
}
