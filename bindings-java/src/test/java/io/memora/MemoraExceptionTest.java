package io.memora;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;

import org.junit.jupiter.api.Test;

class MemoraExceptionTest {
    @Test
    void codesWithAClassOfTheirOwnGetIt() {
        assertInstanceOf(MemoraException.Closed.class, MemoraException.of(ErrorCode.CLOSED, "gone", 0));
        MemoraException.Overrun overrun =
                assertInstanceOf(MemoraException.Overrun.class, MemoraException.of(ErrorCode.OVERRUN, "slow", 17));
        assertEquals(17, overrun.lost());
        assertSame(MemoraException.class, MemoraException.of(ErrorCode.FULL, "full", 0).getClass());
    }

    @Test
    void remedyIsThatOfTheCode() {
        MemoraException error = MemoraException.of(ErrorCode.FULL, "full", 3);
        assertEquals(ErrorCode.FULL.remedy(), error.remedy());
        assertEquals("full", error.getMessage());
        assertEquals(3, error.amount());
    }
}
