/**
 * Memora: caches, channels and stores in shared memory, for the processes of one host.
 *
 * <p>What counts, in this order: no call ever crashes the JVM, whatever another thread closes or another process destroys; nothing
 * that was acknowledged is lost when a process is killed; a call costs little more than crossing into native code.
 *
 * <p>Begin with {@link io.memora.Fabric#open}.
 */
package io.memora;
