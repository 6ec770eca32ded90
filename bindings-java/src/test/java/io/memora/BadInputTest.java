package io.memora;

import static io.memora.Testing.bytes;
import static io.memora.Testing.fails;
import static io.memora.Testing.string;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.EnumSet;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** Each kind of bad input has an error of its own, which says the values and the remedy, and changes nothing. */
class BadInputTest extends WithFabric {
    private final Set<ErrorCode> seen = EnumSet.noneOf(ErrorCode.class);

    private void refused(ErrorCode code, String value, Executable call) {
        MemoraException error = fails(code, call);
        assertTrue(error.getMessage().contains(value), error.getMessage() + " does not say " + value);
        assertTrue(error.getMessage().endsWith(code.remedy()), error.getMessage());
        assertTrue(seen.add(code), code + " is used twice");
    }

    @Test
    void eachHasAnErrorOfItsOwnAndTheOldEntryIsUntouched() {
        try (Cache cache = fabric.cache("cache", CacheOptions.rejecting())) {
            long version = cache.set(bytes("text"), bytes("old"));
            cache.set(bytes("most"), bytes("18446744073709551615"));
            refused(ErrorCode.KEY_TOO_LONG, "65537", () -> cache.set(new byte[65_537], bytes("new")));
            refused(ErrorCode.VALUE_TOO_LONG, "33554432", () -> cache.set(bytes("text"), new byte[32 << 20]));
            refused(ErrorCode.NOT_A_NUMBER, "old", () -> cache.increment(bytes("text"), 1));
            refused(ErrorCode.COUNTER_OVERFLOW, "18446744073709551615", () -> cache.increment(bytes("most"), 1));
            refused(ErrorCode.LIMIT_TOO_SMALL, "1048576",
                    () -> Fabric.builder("small").home(home).limit(1000).open());
            refused(ErrorCode.WRONG_OPTIONS, "Evict", () -> fabric.cache("cache", CacheOptions.evicting()));
            // A stale version is no exception in Java: the answer tells it.
            assertEquals(new CasResult(CasResult.Outcome.STALE, version),
                    cache.compareAndSwap(bytes("text"), bytes("new"), version + 1));
            assertEquals("old", string(cache.get(bytes("text"))));
            assertEquals(version, cache.getEntry(bytes("text")).version());
            assertEquals("18446744073709551615", string(cache.get(bytes("most"))));
            assertEquals(2, cache.size());
        }
    }
}
