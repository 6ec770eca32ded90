package io.memora.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.Fabric;
import io.memora.StoreOptions;
import io.memora.Testing;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class ShellTest {
    private Path directory;
    private Fabric fabric;

    @BeforeEach
    void open() throws IOException {
        directory = Testing.newHome();
        fabric = Fabric.builder("test").home(directory.resolve("home")).limit(16 << 20).open();
    }

    @AfterEach
    void close() throws IOException {
        fabric.close();
        Testing.remove(directory);
    }

    private String answers(String input) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (Shell shell = new Shell(fabric, StoreOptions.inMemory(), new BufferedReader(new StringReader(input)),
                new PrintStream(out, true, StandardCharsets.UTF_8))) {
            shell.loop(false);
        }
        return out.toString(StandardCharsets.UTF_8);
    }

    @Test
    void entriesAreSetReadCountedListedAndDeleted() throws IOException {
        assertEquals("""
                ok
                hello wörld
                no such key
                1
                6
                n = 6
                hello = hello wörld
                2 entries
                ok
                no such key
                """.lines().sorted().toList(),
                answers("""
                set hello hello wörld
                get hello
                get none
                incr n
                incr n 5
                keys
                del hello
                del hello
                quit
                get n
                """).lines().sorted().toList());
    }

    @Test
    void valueMayHaveATimeToLive() throws IOException {
        assertTrue(answers("set a b 60\nkeys\n").contains("a = b (for 60 s)"));
    }

    @Test
    void cacheCanBeExtendedTouchedCountedAndEmptied() throws IOException {
        String answers = answers("""
                set a 1
                append a 2 and 3
                get a
                touch a 60
                keys
                get none
                stats
                flush
                get a
                """);
        assertTrue(answers.contains("ok\nok\n12 and 3\nok\na = 12 and 3 (for 60 s)\n1 entries\nno such key\n"), answers);
        assertTrue(answers.contains("1 hits, 1 misses: 50.00 %\n3 sets, 0 deletes, 0 evicted, 0 expired, 0 flushed\n"), answers);
        assertTrue(answers.endsWith("ok\nno such key\n"), answers);
    }

    @Test
    void wrongCommandsAreAnsweredAndTheShellGoesOn() throws IOException {
        String answers = answers("bogus\nget\nset a\nincr a b\n\nsend\ntail x y\nset a word\nincr a\nset b 1\n");
        assertEquals(9, answers.lines().count(), answers);
        assertTrue(answers.contains("there is no command `bogus`") && answers.contains("the key is missing")
                && answers.contains("`b` is not a number") && answers.contains("no decimal number")
                && answers.endsWith("ok\n"), answers);
    }

    @Test
    void oneCommandTellsByItsAnswerWhetherItWorked() {
        try (Shell shell = new Shell(fabric, StoreOptions.inMemory(), null, new PrintStream(new ByteArrayOutputStream()))) {
            assertTrue(shell.execute("set a 1"));
            assertTrue(shell.execute("get a"));
            assertFalse(shell.execute("get b"));
            assertTrue(shell.execute("append a 2"));
            assertFalse(shell.execute("append b 2"));
            assertTrue(shell.execute("touch a 60"));
            assertTrue(shell.execute("touch a"));
            assertFalse(shell.execute("touch b"));
            assertTrue(shell.execute("stats"));
            assertTrue(shell.execute("flush"));
            assertFalse(shell.execute("get a"));
            assertTrue(shell.execute("check"));
            assertTrue(shell.execute("stat"));
            assertTrue(shell.execute("send news hello"));
        }
    }
}
