package io.memora;

/**
 * Entries in the shared memory of a fabric, for all of its processes. What one process stores, all others see at once; a process
 * may be killed at any moment, and what it had stored stays.
 *
 * <pre>{@code
 * try (Fabric fabric = Fabric.open("orders"); Cache prices = fabric.cache("prices")) {
 *     prices.set("EURUSD".getBytes(UTF_8), quote, SetOptions.ttl(Duration.ofSeconds(5)));
 * }
 * }</pre>
 */
public final class Cache extends Entries {
    Cache(Fabric fabric, String name, long number) {
        super(fabric, name, number);
    }
}
