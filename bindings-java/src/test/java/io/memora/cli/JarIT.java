package io.memora.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.Testing;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarFile;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The finished jar, as users start it. */
class JarIT {
    private Path directory;

    @BeforeEach
    void make() throws IOException {
        directory = Testing.newHome();
    }

    @AfterEach
    void remove() throws IOException {
        Testing.remove(directory);
    }

    private Testing.Ended jar(Path java, String input, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(List.of(java.toString(), "-jar", System.getProperty("memora.jar")));
        command.addAll(List.of(arguments));
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().put("MEMORA_HOME", directory.resolve("home").toString());
        builder.environment().remove("MEMORA_LIBRARY_PATH");
        return Testing.run(builder, input);
    }

    /** The shell without arguments, and a second process that sees what it did. */
    private void shell(Path java) throws Exception {
        Testing.Ended first = jar(java, "set a 1\nincr a\nsend news hello\nstore set b 2\nquit\n");
        assertEquals("", first.err());
        assertEquals(0, first.code());
        assertTrue(first.out().startsWith("Fabric default is open: "), first.out());
        assertTrue(first.out().contains("in a second terminal") && first.out().contains("java -jar memora.jar shell -c"),
                first.out());
        assertTrue(first.out().endsWith("ok\n2\nsent\nok\n"), first.out());
        Testing.Ended second = jar(java, "", "shell", "-c", "get a");
        assertEquals(new Testing.Ended(0, "2\n", ""), second);
        assertEquals(new Testing.Ended(0, "2\n", ""), jar(java, "", "shell", "-c", "store get b"));
        assertEquals(1, jar(java, "", "shell", "-c", "get none").code());
    }

    @Test
    void shellOnThisJava() throws Exception {
        shell(Testing.thisJava());
    }

    @Test
    void shellOnJava25PrintsNoWarning() throws Exception {
        shell(Testing.java25());
    }

    @Test
    void jarIsAModule() throws Exception {
        Path java = Testing.java25();
        Testing.Ended version = Testing.run(new ProcessBuilder(java.toString(), "--enable-native-access=io.memora",
                "-p", System.getProperty("memora.jar"), "-m", "io.memora/io.memora.cli.Main", "version"), "");
        assertEquals("", version.err());
        assertTrue(version.out().contains("Java 25"), version.out());
    }

    @Test
    void versionAndWrongCommands() throws Exception {
        Testing.Ended version = jar(Testing.thisJava(), "", "version");
        assertTrue(version.out().matches("memora \\d+\\.\\d+\\.\\d+ .*\n"), version.out());
        Testing.Ended wrong = jar(Testing.thisJava(), "", "bogus");
        assertEquals(2, wrong.code());
        assertTrue(wrong.err().contains("bogus") && wrong.err().contains("help"), wrong.err());
        assertEquals(2, jar(Testing.thisJava(), "", "shell", "--bogus", "1").code());
    }

    @Test
    void demoKillsAJvmAndIsExact() throws Exception {
        Testing.Ended demo = jar(Testing.thisJava(), "", "demo");
        assertEquals(0, demo.code(), demo.out() + demo.err());
        assertTrue(demo.out().contains("is killed with") && demo.out().contains("nothing is lost"), demo.out());
    }

    @Test
    void jarHoldsTheLibraryTheModuleAndTheManifest() throws Exception {
        try (JarFile jar = new JarFile(System.getProperty("memora.jar"))) {
            var manifest = jar.getManifest().getMainAttributes();
            assertEquals("ALL-UNNAMED", manifest.getValue("Enable-Native-Access"));
            assertEquals("io.memora.cli.Main", manifest.getValue("Main-Class"));
            assertTrue(jar.getEntry("module-info.class") != null);
            assertEquals(1, jar.stream().filter(entry -> entry.getName().matches("META-INF/native/linux-.*/libmemora_jni-.*\\.so")).count());
        }
    }
}
