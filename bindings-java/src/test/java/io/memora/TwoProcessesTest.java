package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** Two JVMs share a fabric, and one of them is killed. */
class TwoProcessesTest extends WithFabric {
    private static final Duration LONG = Duration.ofSeconds(60);

    @Test
    void childSeesAndChangesTheSameCache() throws Exception {
        try (Cache cache = fabric.cache("cache")) {
            Testing.Ended child = Testing.run(
                    Testing.child(Testing.thisJava(), List.of(), ChildJvm.class, "open", home.toString()), "");
            assertEquals(0, child.code(), child.out() + child.err());
            assertEquals("here", string(cache.get(bytes("child"))));
        }
    }

    @Test
    void childOnJava25Works() throws Exception {
        Path java = Testing.java25();
        Testing.Ended child = Testing.run(Testing.child(java, List.of("--enable-native-access=ALL-UNNAMED"),
                ChildJvm.class, "open", home.toString()), "");
        assertEquals("opened by Java 25\n", child.out());
        assertEquals("", child.err());
    }

    @Test
    void virtualThreadsOnJava25Work() throws Exception {
        Path java = Testing.java25();
        Testing.Ended child = Testing.run(Testing.child(java, List.of("--enable-native-access=ALL-UNNAMED"),
                ChildJvm.class, "virtual", home.toString()), "");
        assertEquals("counted 2000, received hello\n", child.out(), child.err());
        assertEquals(List.of(), fabric.check());
    }

    @Test
    void nothingIsLostAndNothingCountsTwiceWhenAJvmIsKilled() throws Exception {
        int kills = 2 * Testing.LENGTH;
        int messages = 3_000 * Testing.LENGTH;
        Path files = directory.resolve("files");
        ChannelOptions options = ChannelOptions.broadcast().laneBytes(64 * 1024);
        try (Channel channel = fabric.channel("numbers", options);
                Cache cache = fabric.cache("cache");
                Store store = fabric.store("seen", StoreOptions.in(files));
                Publisher publisher = channel.publisher()) {
            channel.subscriber("worker").close();
            Process worker = start(files);
            for (int i = 0; i < messages; i++) {
                assertTrue(publisher.send(bytes("number " + i), LONG) >= 0);
                if (i % (messages / (kills + 1)) == messages / (kills + 1) - 1 && i < messages - 1) {
                    long before = store.size();
                    long start = System.nanoTime();
                    while (store.size() == before && before < i && System.nanoTime() - start < LONG.toNanos()) {
                        Thread.sleep(1);
                    }
                    // SIGKILL, while it works on what is in the ring.
                    worker.destroyForcibly();
                    assertEquals(137, worker.waitFor());
                    worker = start(files);
                }
            }
            assertTrue(publisher.send(bytes("end"), LONG) >= 0);
            assertTrue(worker.waitFor(60, TimeUnit.SECONDS), "the worker does not end");
            assertEquals(0, worker.exitValue());
            Set<String> expected = new TreeSet<>();
            for (int i = 0; i < messages; i++) {
                expected.add("number " + i);
            }
            Set<String> seen = new TreeSet<>();
            store.forEach((key, entry) -> seen.add(string(entry.value())));
            assertEquals(expected, seen);
            assertEquals(messages, store.size());
            assertTrue(Integer.parseInt(string(cache.get(bytes("starts")))) >= 1);
        }
        assertEquals(List.of(), fabric.check());
    }

    private Process start(Path files) throws Exception {
        return Testing.child(Testing.thisJava(), List.of("-Xshare:auto", "-XX:TieredStopAtLevel=1"), ChildJvm.class,
                "work", home.toString(), files.toString()).inheritIO().start();
    }
}
