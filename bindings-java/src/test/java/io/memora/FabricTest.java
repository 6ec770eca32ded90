package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

class FabricTest extends WithFabric {
    @Test
    void secondOpeningSeesTheSameObjects() {
        try (Fabric other = Fabric.builder("test").home(home).create(Fabric.Create.OPEN_ONLY).open();
                Cache ours = fabric.cache("cache");
                Cache theirs = other.cache("cache")) {
            ours.set(bytes("a"), bytes("1"));
            assertEquals("1", string(theirs.get(bytes("a"))));
            assertEquals(fabric.path(), other.path());
            assertTrue(Files.exists(fabric.path()));
        }
    }

    @Test
    void fileIsForItsOwnerAloneUnlessAModeIsGiven() throws IOException {
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(fabric.path())));
        try (Fabric shared = Fabric.builder("group").home(home).limit(LIMIT).mode(0660).open()) {
            assertEquals("rw-rw----", PosixFilePermissions.toString(Files.getPosixFilePermissions(shared.path())));
        }
    }

    @Test
    void eachBackendHoldsEntries() {
        for (Fabric.Backend backend : Fabric.Backend.values()) {
            String name = "java-" + backend.name().toLowerCase(java.util.Locale.ROOT) + "-" + ProcessHandle.current().pid();
            Fabric.Builder builder = Fabric.builder(name).home(home).limit(LIMIT).backend(backend);
            try (Fabric made = builder.open(); Cache cache = made.cache("cache")) {
                cache.set(bytes("a"), bytes("1"));
                assertEquals("1", string(cache.get(bytes("a"))));
                assertEquals(List.of(), made.check());
                boolean named = backend != Fabric.Backend.MEMFD && backend != Fabric.Backend.HEAP;
                assertEquals(named, Files.exists(made.path()) && !made.path().toString().isEmpty(), backend + " " + made.path());
                // One with a name is found again, one without is another each time.
                try (Fabric other = builder.open(); Cache again = other.cache("cache")) {
                    assertEquals(named ? "1" : null, string(again.get(bytes("a"))), backend.name());
                }
                if (named) {
                    Fabric.remove(home, name);
                }
            }
        }
        assertThrows(NullPointerException.class, () -> Fabric.builder("none").backend(null));
    }

    @Test
    void groupIsThatOfTheBuilder() throws IOException {
        int own = (Integer) Files.getAttribute(directory, "unix:gid");
        try (Fabric shared = Fabric.builder("group").home(home).limit(LIMIT).mode(0660).group(own).open()) {
            assertEquals(own, Files.getAttribute(shared.path(), "unix:gid"));
        }
        fails(ErrorCode.INVALID_ARGUMENT, () -> Fabric.builder("group").group(-1));
        if (System.getProperty("user.name").equals("root")) {
            try (Fabric shared = Fabric.builder("other").home(home).limit(LIMIT).mode(0660).group(12345).open()) {
                assertEquals(12345, Files.getAttribute(shared.path(), "unix:gid"));
            }
        } else {
            fails(ErrorCode.PERMISSION_DENIED,
                    () -> Fabric.builder("other").home(home).limit(LIMIT).mode(0660).group(12345).open());
        }
    }

    @Test
    void creatingAndOpeningAreChecked() {
        fails(ErrorCode.ALREADY_EXISTS,
                () -> Fabric.builder("test").home(home).create(Fabric.Create.CREATE_NEW).open());
        fails(ErrorCode.NOT_FOUND, () -> Fabric.builder("none").home(home).create(Fabric.Create.OPEN_ONLY).open());
        fails(ErrorCode.NOT_FOUND, () -> Fabric.remove(home, "none"));
    }

    @Test
    void badArgumentsAreRefusedWithTheirRemedy() {
        for (String name : new String[] {"", "a/b", "..", "a b", "x".repeat(65), "\0", "ä", "a\0b", "\ud800", "\ud83d\ude00"}) {
            MemoraException error = fails(ErrorCode.INVALID_NAME, () -> Fabric.builder(name).home(home).open());
            assertTrue(error.getMessage().contains(error.remedy()), error.getMessage());
            fails(ErrorCode.INVALID_NAME, () -> fabric.cache(name));
        }
        fails(ErrorCode.LIMIT_TOO_SMALL, () -> Fabric.builder("small").home(home).limit(4096).open());
        fails(ErrorCode.LIMIT_TOO_SMALL, () -> Fabric.builder("small").home(home).limit(0));
        fails(ErrorCode.INVALID_ARGUMENT, () -> Fabric.builder("mode").home(home).mode(07777));
        assertThrows(NullPointerException.class, () -> Fabric.open(null));
        assertThrows(NullPointerException.class, () -> fabric.cache(null));
        assertThrows(NullPointerException.class, () -> fabric.store(null, StoreOptions.inMemory()));
        assertThrows(NullPointerException.class, () -> fabric.channel(null, ChannelOptions.stream()));
    }

    @Test
    void nameOfAnotherKindIsRefused() {
        fabric.cache("prices").close();
        MemoraException error = fails(ErrorCode.WRONG_KIND, () -> fabric.channel("prices", ChannelOptions.stream()));
        assertTrue(error.getMessage().contains("prices"), error.getMessage());
        fails(ErrorCode.WRONG_KIND, () -> fabric.openChannel("prices"));
        fails(ErrorCode.WRONG_KIND, () -> fabric.store("prices", StoreOptions.in(directory.resolve("files"))));
    }

    @Test
    void readOnlyAttachmentReadsAndRefusesToWrite() {
        try (Cache cache = fabric.cache("cache")) {
            cache.set(bytes("a"), bytes("1"));
        }
        try (Fabric reader = Fabric.builder("test").home(home).readOnly(true).open(); Cache cache = reader.cache("cache")) {
            assertEquals("1", string(cache.get(bytes("a"))));
            fails(ErrorCode.READ_ONLY, () -> cache.set(bytes("a"), bytes("2")));
            fails(ErrorCode.READ_ONLY, () -> reader.cache("another"));
        }
    }

    @Test
    void fileThatIsNoFabricIsNamed() throws IOException {
        Path file = home.resolve("foreign.fabric");
        Files.write(file, new byte[1 << 20], java.nio.file.StandardOpenOption.CREATE_NEW);
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rw-------"));
        fails(ErrorCode.NOT_A_FABRIC, () -> Fabric.builder("foreign").home(home).open());
    }

    @Test
    void directoryWithoutPermissionIsNamed() throws IOException {
        Assumptions.assumeFalse(System.getProperty("user.name").equals("root"), "root may enter every directory");
        Path locked = Files.createDirectory(directory.resolve("locked"),
                PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("---------")));
        try {
            fails(ErrorCode.PERMISSION_DENIED, () -> Fabric.builder("test").home(locked).open());
        } finally {
            Files.setPosixFilePermissions(locked, PosixFilePermissions.fromString("rwx------"));
        }
    }

    @Test
    void objectsAreListedAndTheFabricIsSound() {
        fabric.cache("a-cache").close();
        fabric.channel("a-channel", ChannelOptions.broadcast()).close();
        List<ObjectInfo> objects = fabric.objects();
        assertEquals(List.of("cache", "channel"),
                objects.stream().filter(object -> object.name().startsWith("a-")).map(ObjectInfo::kind).sorted().toList());
        assertFalse(fabric.info().isBlank());
        assertEquals(List.of(), fabric.check());
        fabric.reap();
    }

    @Test
    void closingAFabricClosesWhatWasOpenedFromIt() {
        Cache cache = fabric.cache("cache");
        Channel channel = fabric.channel("channel", ChannelOptions.broadcast());
        Publisher publisher = channel.publisher();
        Subscriber subscriber = channel.subscriber();
        fabric.close();
        assertThrows(MemoraException.Closed.class, () -> cache.get(bytes("a")));
        assertThrows(MemoraException.Closed.class, channel::publisher);
        assertThrows(MemoraException.Closed.class, () -> publisher.trySend(bytes("a")));
        assertThrows(MemoraException.Closed.class, subscriber::tryRecv);
        assertThrows(MemoraException.Closed.class, () -> fabric.cache("cache"));
        assertThrows(MemoraException.Closed.class, fabric::objects);
        assertThrows(MemoraException.Closed.class, fabric::path);
        cache.close();
        fabric.close();
    }
}
