package io.memora.internal;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.ChildJvm;
import io.memora.Testing;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** Finding the native library, or saying why not: each case in a child JVM of its own. */
class NativeLibraryTest {
    private Path directory;

    @BeforeEach
    void make() throws IOException {
        directory = Testing.newHome();
    }

    @AfterEach
    void remove() throws IOException {
        Testing.remove(directory);
    }

    private Testing.Ended open(List<String> options, String environment) throws Exception {
        ProcessBuilder child = Testing.child(
                Testing.thisJava(), options, ChildJvm.class, "open", directory.resolve("home").toString());
        child.environment().remove("MEMORA_LIBRARY_PATH");
        if (environment != null) {
            child.environment().put("MEMORA_LIBRARY_PATH", environment);
        }
        return Testing.run(child, "");
    }

    private static void missing(Testing.Ended child, String... words) {
        assertEquals(3, child.code(), child.out() + child.err());
        assertTrue(child.out().startsWith("LIBRARY_MISSING: "), child.out());
        for (String word : words) {
            assertTrue(child.out().contains(word), "`" + word + "` is not in: " + child.out());
        }
    }

    @Test
    void copyInTheJarIsLoadedAndLeavesNoFile() throws Exception {
        Path temporary = Files.createDirectory(directory.resolve("tmp"));
        Testing.Ended child = open(List.of("-Dmemora.tmpdir=" + temporary), null);
        assertEquals(0, child.code(), child.out() + child.err());
        try (Stream<Path> left = Files.list(temporary)) {
            assertEquals(0, left.count());
        }
    }

    @Test
    void propertyNamesAFileOrADirectoryAndGoesBeforeTheEnvironment() throws Exception {
        Path library = directory.resolve("libmemora_jni.so");
        String resource = "/META-INF/native/linux-" + System.getProperty("os.arch").replace("amd64", "x86_64")
                + "/libmemora_jni-" + Native.jarVersion() + ".so";
        try (var in = NativeLibraryTest.class.getResourceAsStream(resource)) {
            Files.copy(in, library);
        }
        assertEquals(0, open(List.of("-Dmemora.library.path=" + library), "/nowhere").code());
        assertEquals(0, open(List.of("-Dmemora.library.path=" + directory), null).code());
        assertEquals(0, open(List.of(), directory.toString()).code());
    }

    @Test
    void missingLibraryIsNamedWithWhatWasTriedAndTheRemedy() throws Exception {
        Testing.Ended child = open(List.of("-Dmemora.library.path=/nowhere/lib.so"), null);
        missing(child, "/nowhere/lib.so", System.getProperty("os.arch"), "Linux", "libc", "memora.library.path");
        missing(open(List.of(), directory.toString()), directory + "/libmemora_jni.so: no such file");
    }

    @Test
    void damagedOrForeignLibraryIsRefused() throws Exception {
        Path damaged = Files.write(directory.resolve("damaged.so"), new byte[] {1, 2, 3});
        missing(open(List.of("-Dmemora.library.path=" + damaged), null), damaged.toString());
    }

    @Test
    void temporaryDirectoryThatCannotBeWrittenIsNamed() throws Exception {
        missing(open(List.of("-Dmemora.tmpdir=/nowhere/tmp"), null), "/nowhere/tmp");
    }

    @Test
    void platformWithoutALibraryInTheJarIsNamed() throws Exception {
        missing(open(List.of("-Dos.arch=s390x"), null), "s390x", "the jar has no");
        missing(open(List.of("-Dos.name=Plan9"), null), "Plan9", "Memora runs on Linux");
    }

    @Test
    void temporaryDirectoryWithoutExecutionIsExplained() throws Exception {
        Path mounted = Files.createDirectory(directory.resolve("noexec"));
        Process mount = new ProcessBuilder("mount", "-t", "tmpfs", "-o", "noexec,size=8m", "tmpfs", mounted.toString())
                .redirectErrorStream(true).start();
        mount.getInputStream().readAllBytes();
        if (mount.waitFor() != 0) {
            System.out.println("skipped: only root can mount a directory without execution");
            org.junit.jupiter.api.Assumptions.abort("only root can mount");
        }
        try {
            missing(open(List.of("-Dmemora.tmpdir=" + mounted), null), "noexec", "memora.tmpdir");
        } finally {
            new ProcessBuilder("umount", mounted.toString()).start().waitFor();
        }
    }

    /** As a container does that deploys an application anew: the classes come twice, and nothing of ours keeps the first alive. */
    @Test
    void classLoaderWithALibraryOfItsOwnMayGo() throws Exception {
        java.net.URL classes = Native.class.getProtectionDomain().getCodeSource().getLocation();
        java.lang.ref.WeakReference<ClassLoader> gone = useInALoaderOfItsOwn(classes);
        long start = System.nanoTime();
        while (gone.get() != null && System.nanoTime() - start < 30_000_000_000L) {
            System.gc();
            Thread.sleep(20);
        }
        assertEquals(null, gone.get(), "the class loader is kept alive");
        useInALoaderOfItsOwn(classes);
    }

    private java.lang.ref.WeakReference<ClassLoader> useInALoaderOfItsOwn(java.net.URL classes) throws Exception {
        try (var loader = new java.net.URLClassLoader(new java.net.URL[] {classes}, ClassLoader.getPlatformClassLoader())) {
            Throwable[] thrown = {null};
            Thread user = new Thread(() -> {
                try {
                    Class<?> fabrics = loader.loadClass("io.memora.Fabric");
                    Object builder = fabrics.getMethod("builder", String.class).invoke(null, "loaders");
                    builder.getClass().getMethod("home", Path.class).invoke(builder, directory.resolve("home"));
                    builder.getClass().getMethod("limit", long.class).invoke(builder, 16L << 20);
                    AutoCloseable fabric = (AutoCloseable) builder.getClass().getMethod("open").invoke(builder);
                    Object cache = fabrics.getMethod("cache", String.class).invoke(fabric, "cache");
                    cache.getClass().getMethod("set", byte[].class, byte[].class).invoke(cache, new byte[1], new byte[5]);
                    byte[] value = (byte[]) cache.getClass().getMethod("get", byte[].class).invoke(cache, new byte[1]);
                    assertEquals(5, value.length);
                    Class<?> options = loader.loadClass("io.memora.StoreOptions");
                    Object files = options.getMethod("in", Path.class).invoke(null, directory.resolve("files"));
                    fabrics.getMethod("store", String.class, options).invoke(fabric, "store", files);
                    fabric.close();
                } catch (Throwable error) {
                    thrown[0] = error;
                }
            });
            user.start();
            user.join();
            if (thrown[0] != null) {
                throw new AssertionError(thrown[0]);
            }
            return new java.lang.ref.WeakReference<>(loader);
        }
    }
}
