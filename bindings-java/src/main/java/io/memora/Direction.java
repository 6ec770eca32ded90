package io.memora;

/** Which way a scan goes over keys that are in order. */
public enum Direction {
    /** From the least key to the greatest, as unsigned bytes. */
    FORWARD,
    /** From the greatest key to the least. */
    BACKWARD
}
