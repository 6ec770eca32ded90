package io.memora.internal;

import io.memora.ErrorCode;
import io.memora.MemoraException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Properties;
import java.util.Set;

/**
 * Finds and loads the native library: the file that the property {@code memora.library.path} or the variable
 * {@code MEMORA_LIBRARY_PATH} names (a file, or a directory that holds it), else the copy inside the jar, which is
 * written to {@code memora.tmpdir} or {@code java.io.tmpdir} under a random name, loaded, and removed at once.
 */
final class NativeLibrary {
    private static final String VERSION = version();
    /** Why the library is not there, once it was tried; null when it is. */
    private static MemoraException failure;
    private static boolean tried;

    private NativeLibrary() {}

    /** Loads the library at the first call; throws {@link ErrorCode#LIBRARY_MISSING} at every call when that failed. */
    static synchronized void require() {
        if (!tried) {
            tried = true;
            try {
                load();
            } catch (MemoraException error) {
                failure = error;
            }
        }
        if (failure != null) {
            throw new MemoraException(failure.code(), failure.getMessage(), 0, failure.getCause());
        }
    }

    private static void load() {
        List<String> tried = new ArrayList<>();
        String named = named();
        boolean loaded = named != null ? loadNamed(named, tried) : loadFromJar(tried);
        if (!loaded) {
            throw missing(tried, null);
        }
        String found;
        try {
            found = Native.version();
        } catch (UnsatisfiedLinkError error) {
            tried.add("the library that was loaded is not Memora's: " + error.getMessage());
            throw missing(tried, error);
        }
        if (!found.equals(VERSION)) {
            tried.add("the library that was loaded has version " + found + ", the jar has version " + VERSION);
            throw missing(tried, null);
        }
    }

    private static String named() {
        String property = System.getProperty("memora.library.path");
        String named = property != null ? property : System.getenv("MEMORA_LIBRARY_PATH");
        return named == null || named.isEmpty() ? null : named;
    }

    private static boolean loadNamed(String named, List<String> tried) {
        Path path = Path.of(named).toAbsolutePath();
        if (!Files.isDirectory(path)) {
            return load(path, tried);
        }
        for (String name : new String[] {"libmemora_jni-" + VERSION + ".so", "libmemora_jni.so"}) {
            if (Files.exists(path.resolve(name))) {
                return load(path.resolve(name), tried);
            }
            tried.add(path.resolve(name) + ": no such file");
        }
        return false;
    }

    private static boolean loadFromJar(List<String> tried) {
        String resource = "/META-INF/native/" + os() + "-" + arch() + "/libmemora_jni-" + VERSION + ".so";
        byte[] library;
        try (InputStream in = NativeLibrary.class.getResourceAsStream(resource)) {
            if (in == null) {
                tried.add("the jar has no " + resource);
                return false;
            }
            library = in.readAllBytes();
        } catch (IOException error) {
            tried.add(resource + " in the jar: " + error);
            return false;
        }
        String folder = System.getProperty("memora.tmpdir", System.getProperty("java.io.tmpdir", "/tmp"));
        byte[] random = new byte[16];
        new SecureRandom().nextBytes(random);
        Path path = Path.of(folder).toAbsolutePath().resolve("memora-" + HexFormat.of().formatHex(random) + ".so");
        try {
            var mode = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));
            // Created here or not at all: a file or link that somebody put there is not followed.
            var how = Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
            try (var out = Files.newByteChannel(path, how, mode)) {
                var rest = java.nio.ByteBuffer.wrap(library);
                while (rest.hasRemaining()) {
                    out.write(rest);
                }
            }
            return load(path, tried);
        } catch (IOException error) {
            tried.add(path + ": " + error);
            return false;
        } finally {
            try {
                // The JVM has mapped it: the name is not needed any more.
                Files.deleteIfExists(path);
            } catch (IOException error) {
                tried.add(path + ": not removed: " + error);
            }
        }
    }

    private static boolean load(Path path, List<String> tried) {
        try {
            System.load(path.toString());
            return true;
        } catch (UnsatisfiedLinkError error) {
            tried.add(path + ": " + error.getMessage());
            return false;
        }
    }

    private static MemoraException missing(List<String> tried, Throwable cause) {
        StringBuilder text = new StringBuilder("The native library of Memora ").append(VERSION)
                .append(" could not be loaded on ").append(System.getProperty("os.name")).append(' ')
                .append(System.getProperty("os.arch")).append(" with ").append(libc()).append(". Tried: ")
                .append(String.join("; ", tried)).append(". ");
        String all = String.join(" ", tried);
        if (!os().equals("linux")) {
            text.append("Memora runs on Linux. ");
        } else if (all.contains("failed to map segment") || all.contains("Operation not permitted")) {
            text.append("The directory is mounted noexec: set the property memora.tmpdir to one that is not. ");
        } else if (all.contains("GLIBC_") || libc().equals("musl")) {
            text.append("The library needs glibc in a later version: build it on this host with `mvn package`. ");
        }
        text.append(ErrorCode.LIBRARY_MISSING.remedy());
        return new MemoraException(ErrorCode.LIBRARY_MISSING, text.toString(), 0, cause);
    }

    private static String os() {
        return System.getProperty("os.name", "unknown").toLowerCase(Locale.ROOT);
    }

    private static String arch() {
        String arch = System.getProperty("os.arch", "unknown");
        return arch.equals("amd64") ? "x86_64" : arch;
    }

    private static String libc() {
        try (var files = Files.list(Path.of("/lib"))) {
            return files.anyMatch(file -> file.getFileName().toString().startsWith("ld-musl-")) ? "musl" : "glibc";
        } catch (IOException error) {
            return "an unknown libc";
        }
    }

    /** The version of the jar. */
    static String version() {
        Properties properties = new Properties();
        try (InputStream in = NativeLibrary.class.getResourceAsStream("/META-INF/memora/version.properties")) {
            if (in != null) {
                properties.load(in);
            }
        } catch (IOException error) {
            // Answered below: a jar without a version finds no library of its version.
        }
        return properties.getProperty("version", "unknown");
    }
}
