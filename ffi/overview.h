/*
 * memora.h: shared memory for the processes of one Linux host: caches, channels, stores and signals in a fabric.
 *
 * Generated from the sources of ffi/; do not edit. Apache-2.0.
 *
 *     #include <memora.h>
 *     #include <stdio.h>
 *
 *     int main(void) {
 *         memora_fabric_t *fabric = NULL;
 *         memora_cache_t *cache = NULL;
 *         char price[64];
 *         size_t len = 0;
 *         int result = memora_fabric_open("hello", &fabric);
 *         if (result < 0) goto end;
 *         result = memora_cache_open(fabric, "prices", NULL, &cache);
 *         if (result < 0) goto end;
 *         result = memora_cache_set(cache, "EURUSD", 6, "1.0871", 6, NULL, NULL);
 *         if (result < 0) goto end;
 *         result = memora_cache_get(cache, "EURUSD", 6, price, sizeof price, &len);
 *         if (result < 0) goto end;
 *         printf("EURUSD %.*s\n", (int)len, price);
 *     end:
 *         if (result < 0) fprintf(stderr, "%s\n", memora_last_error_message());
 *         memora_cache_close(cache);
 *         memora_fabric_close(fabric);
 *         return result < 0;
 *     }
 *
 * Build it with: cc hello.c $(pkg-config --cflags --libs memora)
 *
 * RESULTS. Functions that can fail return MEMORA_OK (0) or a negative code, one of MEMORA_<NAME>. The text of a code is
 * memora_strerror(); what happened in this very call, with the values and the remedy, is memora_last_error_message(). errno is
 * never used, the process is never ended, no signal is raised. An error changes nothing, unless its comment says otherwise.
 *
 * HANDLES. memora_fabric_t and its like are never read through: the pointer carries a number with a generation. A handle that
 * was closed, closed twice, or never given out is answered MEMORA_CLOSED; one of another kind, or NULL, MEMORA_INVALID_ARGUMENT.
 * A process has up to 65536 handles.
 *
 * THREADS. Fabrics, caches, channels, outboxes, stores and signals may be used by any number of threads at once. Publishers, subscribers,
 * consumers and transactions are for one thread at a time; a second one is answered MEMORA_BUSY. Any thread may close any handle at any time: calls under way finish,
 * those that wait end within 50 ms with MEMORA_CLOSED. What is behind a closed handle goes when the last call that uses it ends.
 * Callbacks may call the library; 16 calls of a thread may be inside each other, one more is MEMORA_BUSY. Do not call the library
 * from signal handlers, but for the functions that say they may be, and do not cancel a thread (pthread_cancel) inside a call.
 *
 * FORK. In a forked child every call on a handle of the parent is answered MEMORA_FORKED and changes nothing; open the fabric
 * anew there.
 *
 * MEMORY. Keys, values, messages and names are copied during the call: the library keeps no pointer of yours, and you get none
 * of its own but constant texts and what a view shows until it is released. A pointer may be NULL where its comment says so, and where its length is 0. Buffers that are
 * written must not overlap anything else that is given to the same call.
 *
 * CRASHES. Any process may be killed at any moment: what was answered stays, what was not is there whole or not at all, and
 * nobody waits for the dead.
 */
