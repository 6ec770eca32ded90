package io.memora;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.memora.internal.Native;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

class ErrorCodeTest {
    @Test
    void listEqualsTheTableOfTheLibrary() {
        Native.require();
        List<String> ours = Stream.of(ErrorCode.values())
                .map(code -> code.number() + "\t" + code.name() + "\t" + code.text() + "\t" + code.remedy()).toList();
        assertEquals(Native.errorTable().lines().toList(), ours);
    }

    @Test
    void numberFindsTheCodeAndAnUnknownOneIsInternal() {
        for (ErrorCode code : ErrorCode.values()) {
            assertEquals(code, ErrorCode.of(code.number()));
        }
        for (int unknown : new int[] {0, -1, 127, 128, 100_000}) {
            assertEquals(ErrorCode.INTERNAL, ErrorCode.of(unknown));
        }
    }
}
