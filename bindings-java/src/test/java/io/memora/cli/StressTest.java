package io.memora.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.memora.Testing;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class StressTest {
    private Path directory;

    @BeforeEach
    void make() throws IOException {
        directory = Testing.newHome();
    }

    @AfterEach
    void remove() throws IOException {
        Testing.remove(directory);
    }

    private List<String> run(String... arguments) throws IOException {
        Path history = directory.resolve("history.jsonl");
        List<String> all = new java.util.ArrayList<>(List.of(arguments));
        all.addAll(List.of("--home", directory.resolve("home").toString(), "--fabric", "test", "--seed", "s",
                "--history", history.toString()));
        assertEquals(0, Stress.run(all));
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(history)));
        return Files.readAllLines(history);
    }

    @Test
    void generatorIsTheOneOfTheOtherLanguages() {
        // SplitMix64 from state 1234567: the values of its authors' reference program.
        Random random = new Random(1234567);
        assertEquals("6457827717110365317", Long.toUnsignedString(random.next()));
        assertEquals("3203168211198807973", Long.toUnsignedString(random.next()));
        assertEquals("af63dc4c8601ec8c", Long.toHexString(Random.hash(new byte[] {'a'})));
    }

    @Test
    void keyValueWorkerWritesAQuestionAndAnAnswerForEachOperation() throws IOException {
        List<String> lines = run("kv", "--ops", "400");
        assertEquals(800, lines.size());
        for (int i = 0; i < lines.size(); i += 2) {
            String question = lines.get(i);
            String answer = lines.get(i + 1);
            assertTrue(question.matches("\\{\"c\":\"s-\\d+-[0-9a-f]+\",\"op\":\"\\w+\",\"k\":\"[kn]\\d\".*\"t0\":\\d+}"), question);
            assertTrue(answer.startsWith(question.substring(0, question.length() - 1) + ",\"t1\":"), answer);
        }
        for (String op : List.of("get", "gets", "set", "add", "replace", "del", "casv", "cas", "append", "prepend", "incr", "decr")) {
            assertTrue(lines.stream().anyMatch(line -> line.contains("\"op\":\"" + op + "\"")), op);
        }
    }

    @Test
    void evictingWorkerReadsOnlyWholeValuesOfItsOwn() throws IOException {
        List<String> lines = run("evict", "--ops", "4000");
        assertEquals(8000, lines.size());
        java.util.Set<String> written = new java.util.HashSet<>();
        int read = 0;
        for (String line : lines) {
            java.util.regex.Matcher stored = java.util.regex.Pattern.compile("\"k\":\"(\\w+)\".*\"v\":\"([^\"]+)\"").matcher(line);
            if (stored.find()) {
                assertTrue(stored.group(2).startsWith(stored.group(1) + ":s-"), line);
                written.add(stored.group(2));
            }
            java.util.regex.Matcher seen = java.util.regex.Pattern.compile("\"out\":\"([^\"]+)\"").matcher(line);
            if (seen.find()) {
                assertTrue(written.contains(seen.group(1)), line);
                read++;
            }
        }
        assertTrue(read > 200, read + " values read");
        for (String letter : List.of("b", "e", "a")) {
            assertTrue(lines.stream().anyMatch(line -> line.contains("\"k\":\"" + letter)), letter);
        }
    }

    @Test
    void channelWorkerReceivesWhatItSent() throws IOException {
        List<String> lines = run("queue", "--ops", "400", "--subscription", "sub");
        assertTrue(lines.get(0).contains("\"op\":\"sub\",\"q\":\"stress-queue\",\"s\":\"sub\""), lines.get(0));
        long received = lines.stream().filter(line -> line.contains("\"op\":\"recv\"") && line.contains("\"sum\"")).count();
        long sent = lines.stream().filter(line -> line.contains("\"op\":\"send\"") && line.contains("\"ok\":true")).count();
        assertTrue(received > 10 && received <= sent, received + " of " + sent);
    }

    @Test
    void wrongArgumentsAreRefusedBeforeAnythingIsOpened() throws IOException {
        for (List<String> wrong : List.of(
                List.<String>of(), List.of("kv"), List.of("kv", "--fabric", "a", "--seed", "b"), List.of("other"),
                List.of("kv", "--fabric", "a", "--seed", "b", "--history", "c", "--ops", "0"),
                List.of("kv", "--fabric", "a", "--seed", "b", "--history", "c", "--ops", "1", "--seconds", "1"),
                List.of("queue", "--fabric", "a", "--seed", "b", "--history", "c", "--role", "boss"))) {
            assertThrows(Arguments.Wrong.class, () -> Stress.run(wrong), wrong.toString());
        }
        assertTrue(Files.notExists(Path.of("c")));
    }
}
