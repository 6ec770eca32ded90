package io.memora;

import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;

/** A fabric of its own for each test. */
abstract class WithFabric {
    static final long LIMIT = 16L << 20;

    Path directory;
    Path home;
    Fabric fabric;

    @BeforeEach
    void open() throws IOException {
        directory = Testing.newHome();
        home = directory.resolve("home");
        fabric = Fabric.builder("test").home(home).limit(LIMIT).open();
    }

    @AfterEach
    void close() throws IOException {
        fabric.close();
        Testing.remove(directory);
    }
}
