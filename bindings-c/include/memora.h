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

#ifndef MEMORA_H
#define MEMORA_H

#include <stddef.h>
#include <stdint.h>

/**
 * Version of the header: major. Compare with memora_version() to learn which library is running.
 */
#define MEMORA_VERSION_MAJOR 0

/**
 * Version of the header: minor.
 */
#define MEMORA_VERSION_MINOR 1

/**
 * Version of the header: patch.
 */
#define MEMORA_VERSION_PATCH 0

/**
 * Number of the binary interface that this header describes: the number in the soname of the library.
 */
#define MEMORA_ABI_VERSION 0

/**
 * The call did what it was asked to do.
 */
#define MEMORA_OK 0

/**
 * An argument is not acceptable.
 * Read the message: it names the argument, its value and what is allowed.
 */
#define MEMORA_INVALID_ARGUMENT -4097

/**
 * The name of a fabric or object is not acceptable.
 * Use 1 to 64 characters out of A-Z, a-z, 0-9, '.', '_' and '-', not starting with '.'.
 */
#define MEMORA_INVALID_NAME -4098

/**
 * There is no such fabric, object or entry.
 * Check the name with `memora ls`, or open with `Create::OpenOrCreate`.
 */
#define MEMORA_NOT_FOUND -4099

/**
 * It exists already.
 * Open it instead of creating it, or remove it first with `memora rm`.
 */
#define MEMORA_ALREADY_EXISTS -4100

/**
 * The operating system refuses access.
 * Ask the owner for a group and mode or mount it writable, or use a place of your own (MEMORA_HOME for fabrics, `dir` for stores).
 */
#define MEMORA_PERMISSION_DENIED -4101

/**
 * The file or directory is not a safe place for a fabric.
 * Use a directory that you own with mode 0700, without symbolic links.
 */
#define MEMORA_NOT_OURS -4102

/**
 * The file is not a Memora fabric, or it was truncated or overwritten.
 * Remove it with `memora rm` and let the next opener create it anew.
 */
#define MEMORA_NOT_A_FABRIC -4103

/**
 * The fabric was made with another layout.
 * Use the same version of Memora in all processes, or remove the fabric and create it anew.
 */
#define MEMORA_LAYOUT_MISMATCH -4104

/**
 * The limit is too small.
 * Give at least the limit that the message names.
 */
#define MEMORA_LIMIT_TOO_SMALL -4105

/**
 * The file system or memory of the host has no room for more pages.
 * Enlarge the tmpfs (--shm-size, sizeLimit, mount -o remount,size=...), free space there, or open with a smaller limit.
 */
#define MEMORA_NO_SPACE -4106

/**
 * The fabric or object has no room for more data.
 * Create it with a larger limit, delete entries, or enable eviction.
 */
#define MEMORA_FULL -4107

/**
 * All process entries of the fabric are taken by live processes.
 * Close attachments that are not needed, or create the fabric with a larger limit.
 */
#define MEMORA_TOO_MANY_PROCESSES -4108

/**
 * All thread entries of the fabric are taken by live threads.
 * Use fewer threads on the fabric, or create it with a larger limit.
 */
#define MEMORA_TOO_MANY_THREADS -4109

/**
 * The object directory of the fabric is full.
 * Use fewer objects, or create the fabric with a larger limit.
 */
#define MEMORA_TOO_MANY_OBJECTS -4110

/**
 * The object exists as another kind.
 * Use another name, or open it as the kind that the message names.
 */
#define MEMORA_WRONG_KIND -4111

/**
 * The object or fabric exists with other options.
 * Open it with the options that it was made with, which the message names, or without any.
 */
#define MEMORA_WRONG_OPTIONS -4112

/**
 * The key is longer than the limit, or empty.
 * Use keys of 1 byte to the limit that the message names; hash longer ones.
 */
#define MEMORA_KEY_TOO_LONG -4113

/**
 * The value or message is longer than the limit.
 * Split it, or create the fabric or channel with larger chunks or lanes, as the message says.
 */
#define MEMORA_VALUE_TOO_LONG -4114

/**
 * The caller's buffer is too small; nothing was taken.
 * Call again with a buffer of at least the length that the message names.
 */
#define MEMORA_BUFFER_TOO_SMALL -4115

/**
 * The entry is not a decimal number of 64 bits.
 * Increment only entries that were set as decimal text, or delete the entry first.
 */
#define MEMORA_NOT_A_NUMBER -4116

/**
 * The counter would leave 64 bits; it is unchanged.
 * Reset the counter, or count in smaller units.
 */
#define MEMORA_COUNTER_OVERFLOW -4117

/**
 * The handle was closed.
 * Open it again; do not use a handle after closing it.
 */
#define MEMORA_CLOSED -4118

/**
 * The handle belongs to the parent process of a fork.
 * Open the fabric anew in the child process.
 */
#define MEMORA_FORKED -4119

/**
 * The attachment is read-only.
 * Open without `read_only`.
 */
#define MEMORA_READ_ONLY -4120

/**
 * The content of the fabric breaks its own rules.
 * Run `memora check NAME`; remove the fabric and let a store recover from its files.
 */
#define MEMORA_CORRUPT -4121

/**
 * The time given for waiting is over.
 * Wait longer, or look with `memora stat` at who is slow.
 */
#define MEMORA_TIMED_OUT -4122

/**
 * The ring is full: a subscriber is behind.
 * Try again later, wait with `send`, use larger lanes, or the overrun policy.
 */
#define MEMORA_BACK_PRESSURE -4123

/**
 * The subscriber was too slow and messages were overwritten.
 * Poll more often, use larger lanes, or the blocking policy.
 */
#define MEMORA_OVERRUN -4124

/**
 * A live process holds the subscription of that name.
 * Use another name, or close the other subscriber.
 */
#define MEMORA_SUBSCRIPTION_IN_USE -4125

/**
 * All subscriber entries of the channel are taken.
 * Close subscribers that are not needed.
 */
#define MEMORA_TOO_MANY_SUBSCRIBERS -4126

/**
 * All lanes of the channel are taken by live producers.
 * Publish from fewer threads.
 */
#define MEMORA_TOO_MANY_PUBLISHERS -4127

/**
 * Another process is doing this just now.
 * Try again.
 */
#define MEMORA_BUSY -4128

/**
 * The directory holds something else, another store or another version.
 * Give the directory of this store, or an empty one.
 */
#define MEMORA_NOT_A_STORE -4129

/**
 * A journal or checkpoint file has a bad record that is not its torn end.
 * Restore from a backup; `memora repair DIR` says what would be lost without, and saves the rest.
 */
#define MEMORA_JOURNAL_CORRUPT -4130

/**
 * A sync of the store failed: it is read-only, because what reached the disk is not known.
 * Mend the disk, then remove the fabric and reopen the store: it recovers from its files.
 */
#define MEMORA_POISONED -4131

/**
 * The operating system reports an error.
 * Read the message: it names the call, the path and the system's reason.
 */
#define MEMORA_IO -4132

/**
 * This kernel, backend or build cannot do that.
 * Run `memora doctor`: it says what is missing.
 */
#define MEMORA_UNSUPPORTED -4133

/**
 * The native library could not be loaded.
 * Set the property memora.library.path to the library, or java.io.tmpdir to a directory without noexec.
 */
#define MEMORA_LIBRARY_MISSING -4134

/**
 * A bug in Memora was stopped at the border.
 * Please report it with the message.
 */
#define MEMORA_INTERNAL -4135

/**
 * The entry has another version by now; nothing was stored.
 * Read the entry again and decide anew.
 */
#define MEMORA_STALE -4136

/**
 * The consumer does not hold the message any more: its time was over and another has it, or it was acknowledged or given back.
 * Acknowledge in time, extend the time of long work, or make the queue with a longer visibility.
 */
#define MEMORA_NOT_HELD -4137

/**
 * The consumer holds as many messages as it can without acknowledging.
 * Acknowledge or give back messages before taking more, or make the queue with larger lanes.
 */
#define MEMORA_TOO_MANY_HELD -4138

/**
 * The calling thread would wait for itself: it holds the lock already, or permits without which there are never enough.
 * Let go first, or hand the guard on to the code that needs it: named locks are not recursive.
 */
#define MEMORA_WOULD_DEADLOCK -4139

/**
 * The calling thread does not hold the lock, or not so many permits.
 * Let go once, in the thread that took it.
 */
#define MEMORA_NOT_OWNER -4140

/**
 * What stands at the position was removed.
 * Read from the oldest position, or a store as it is and then its newest changes; keep more bytes, or a longer age.
 */
#define MEMORA_POSITION_TRIMMED -4143

/**
 * The log is full of messages that a named reader has still to read.
 * Let the reader that the message names read on, end it with `unsubscribe` or `eject`, or make the log with more bytes or the overrun policy.
 */
#define MEMORA_LOG_FULL -4144

/**
 * The position lies behind the end.
 * Read from the newest position or from the oldest: the log or store may have been made anew.
 */
#define MEMORA_POSITION_AHEAD -4145

/**
 * The server that took the call died.
 * Ask again if the request may be executed twice: it is not known how far the server came.
 */
#define MEMORA_PEER_DIED -4147

/**
 * All calls of the client are under way.
 * Collect replies before sending more, or make the service with more calls for each client.
 */
#define MEMORA_TOO_MANY_CALLS -4148

/**
 * The server let the call go without a reply.
 * Look at the server: it refused the request, or an error or panic kept it from answering.
 */
#define MEMORA_UNANSWERED -4149

/**
 * All client or server entries of the service are taken.
 * Close clients or servers that are not needed, or share one among threads.
 */
#define MEMORA_TOO_MANY_CLIENTS -4150

/**
 * The subscription was taken away: it stood still for too long, somebody ended it, or the thread that used it last has ended.
 * Subscribe again; read more often, or make the channel with larger lanes or a longer time.
 */
#define MEMORA_EJECTED -4152

/**
 * The files were written by another version of Memora.
 * Use the version that wrote them; to change versions, export with the one and import with the other.
 */
#define MEMORA_OTHER_VERSION -4155

/**
 * A checkpoint or backup ends before its end.
 * Take another copy of it or another backup; `memora repair DIR` says what can be saved of a store.
 */
#define MEMORA_TRUNCATED -4156

/**
 * The manifest that makes the store's checkpoint count is gone.
 * Put the file MANIFEST back or restore from a backup; `memora repair DIR` says what can be saved without it.
 */
#define MEMORA_MANIFEST_MISSING -4157

/**
 * That is no backup of a store, or one that was not finished.
 * Give the directory or the stream that `memora backup` wrote; make the backup again if it was interrupted.
 */
#define MEMORA_NOT_A_BACKUP -4158

/**
 * The store does not keep its keys in order.
 * Make it with `ordered`, or read it with `scan`.
 */
#define MEMORA_NOT_ORDERED -4159

/**
 * The transaction read what another has changed meanwhile, or was in its way: nothing of it was done.
 * Do it again from the start with what is there now; the form with a function does so by itself.
 */
#define MEMORA_CONFLICT -4161

/**
 * The transaction reads or writes more than one may.
 * Divide it into smaller ones; the message names the limit.
 */
#define MEMORA_TRANSACTION_TOO_LARGE -4162

/**
 * The snapshot was cancelled: it was open for too long, or the store needed the memory that was kept for it.
 * Take a new snapshot and begin again; read in smaller parts, or give the store more memory or its snapshots a longer time.
 */
#define MEMORA_SNAPSHOT_TOO_OLD -4163

/**
 * All snapshot entries of the store are taken.
 * Close snapshots that are not needed, or share one among threads.
 */
#define MEMORA_TOO_MANY_SNAPSHOTS -4164

/**
 * The position is one of another store, which may have had the same name.
 * Begin anew: read the store as it is and then its newest changes; keep positions with the store that gave them.
 */
#define MEMORA_POSITION_FOREIGN -4166

/**
 * Journal files that are kept for the change feed only are damaged; the data of the store is whole.
 * Remove the file that the message names and the older ones: readers of the feed that need them are told POSITION_TRIMMED, others go on.
 */
#define MEMORA_FEED_DAMAGED -4170

/**
 * Backend of a fabric: a file in the home directory (the default).
 */
#define MEMORA_BACKEND_FILE 0

/**
 * Backend of a fabric: POSIX shared memory (shm_open).
 */
#define MEMORA_BACKEND_POSIX 1

/**
 * Backend of a fabric: System V shared memory (shmget).
 */
#define MEMORA_BACKEND_SYSV 2

/**
 * Backend of a fabric: sealed anonymous memory, handed over as a descriptor (memfd_create).
 */
#define MEMORA_BACKEND_MEMFD 3

/**
 * Backend of a fabric: private memory of this process.
 */
#define MEMORA_BACKEND_HEAP 4

/**
 * Open the fabric, or create it if there is none (the default).
 */
#define MEMORA_OPEN_OR_CREATE 0

/**
 * Create the fabric; MEMORA_ALREADY_EXISTS if there is one.
 */
#define MEMORA_CREATE_NEW 1

/**
 * Open the fabric; MEMORA_NOT_FOUND if there is none.
 */
#define MEMORA_OPEN_ONLY 2

/**
 * A full cache takes new entries and gives up what is least likely to be asked for again (the default).
 */
#define MEMORA_WHEN_FULL_EVICT 0

/**
 * A full cache answers MEMORA_FULL: nothing is lost that was not deleted and has not expired.
 */
#define MEMORA_WHEN_FULL_REJECT 1

/**
 * Numbers of a counter: 0 to 2^64 - 1; counting beyond is MEMORA_COUNTER_OVERFLOW, counting down stops at 0 (the default).
 */
#define MEMORA_COUNTER_UNSIGNED 0

/**
 * Numbers of a counter: those of memcached: 0 to 2^64 - 1, counting up begins again at 0, counting down stops at 0.
 */
#define MEMORA_COUNTER_WRAPPING 1

/**
 * Numbers of a counter: those of Redis: -2^63 to 2^63 - 1; leaving them is MEMORA_COUNTER_OVERFLOW.
 */
#define MEMORA_COUNTER_SIGNED 2

/**
 * No group: the fabric belongs to the user alone.
 */
#define MEMORA_NO_GROUP 4294967295

/**
 * No change feed: old journal is not kept for one any more.
 */
#define MEMORA_NO_FEED 18446744073709551615ull

/**
 * Kind of a channel: many publishers, and each message goes to the subscriber (one at a time).
 */
#define MEMORA_CHANNEL_STREAM 0

/**
 * Kind of a channel: each message goes to every subscriber (the default).
 */
#define MEMORA_CHANNEL_BROADCAST 1

/**
 * Kind of a channel: each message goes to one of the consumers, see memora_consumer_open().
 */
#define MEMORA_CHANNEL_QUEUE 2

/**
 * A publisher whose ring is full waits, or is refused, until the subscribers have read (the default).
 */
#define MEMORA_OVERRUN_BLOCK 0

/**
 * A publisher never waits: a subscriber that is too slow loses messages, and is told how many.
 */
#define MEMORA_OVERRUN_LOSE 1

/**
 * What an answer of the store survives: the death of any process, not that of the host.
 */
#define MEMORA_DURABILITY_PROCESS 0

/**
 * What an answer of the store survives: as process, and that of the host but for the last `interval_ms` (the default).
 */
#define MEMORA_DURABILITY_ASYNC 1

/**
 * What an answer of the store survives: the death of the host; the answer waits for the disk.
 */
#define MEMORA_DURABILITY_SYNC 2

/**
 * The entry was invalidated: its value is out of date.
 */
#define MEMORA_ENTRY_STALE 1

/**
 * The caller is the one who makes the value anew, and nobody else is told so.
 */
#define MEMORA_ENTRY_WON 2

/**
 * Somebody else was told to make the value anew.
 */
#define MEMORA_ENTRY_TAKEN 4

/**
 * Wait without end.
 */
#define MEMORA_FOREVER -1

/**
 * A reader begins with the oldest message that is kept.
 */
#define MEMORA_FROM_OLDEST 0

/**
 * A reader begins with what is published from now on.
 */
#define MEMORA_FROM_NEWEST 1

/**
 * A reader begins with the message at a position.
 */
#define MEMORA_FROM_POSITION 2

/**
 * An entry was stored, or got another time to live; `version` is that of the entry from then on.
 */
#define MEMORA_EVENT_SET 1

/**
 * An entry was deleted.
 */
#define MEMORA_EVENT_DELETE 2

/**
 * An entry had expired and was removed; `version` is that of the entry.
 */
#define MEMORA_EVENT_EXPIRE 3

/**
 * An entry was evicted for want of room; `version` is that of the entry.
 */
#define MEMORA_EVENT_EVICT 4

/**
 * All entries were flushed: no key.
 */
#define MEMORA_EVENT_FLUSH 5

/**
 * From the greatest key to the least.
 */
#define MEMORA_RANGE_BACKWARD 1

/**
 * Without the key `from` itself.
 */
#define MEMORA_RANGE_FROM_EXCLUDED 2

/**
 * With the key `to` itself.
 */
#define MEMORA_RANGE_TO_INCLUDED 4

/**
 * With memora_restore(): replace the store that is in the directory.
 */
#define MEMORA_RESTORE_OVERWRITE 1

/**
 * With memora_repair(): do it, not only say what it would do.
 */
#define MEMORA_REPAIR_APPLY 1

/**
 * One producer of a log. Open it with memora_appender_open(), close it with memora_appender_close(). For one thread at a time:
 * another one is answered MEMORA_BUSY.
 */
typedef struct memora_appender_t memora_appender_t;

/**
 * A cache: entries of key and value in a fabric, shared by all its processes. Open it with memora_cache_open(), close it
 * with memora_cache_close(). May be used by any number of threads at once.
 */
typedef struct memora_cache_t memora_cache_t;

/**
 * A channel: messages from publishers to subscribers. Open it with memora_channel_open(), close it with
 * memora_channel_close(). May be used by any number of threads at once.
 */
typedef struct memora_channel_t memora_channel_t;

/**
 * One caller of a service. Open it with memora_client_open(), close it with memora_client_close(). For one thread at a time:
 * another one is answered MEMORA_BUSY. It may go from one thread to another, but its calls end with the thread that used it last.
 */
typedef struct memora_client_t memora_client_t;

/**
 * One of the consumers of a queue (MEMORA_CHANNEL_QUEUE): each message goes to one of them. Open it with
 * memora_consumer_open(), close it with memora_consumer_close(). For one thread at a time: another one is answered MEMORA_BUSY.
 */
typedef struct memora_consumer_t memora_consumer_t;

/**
 * Hears what happens to the entries of a cache. Open it with memora_events_open(), close it with memora_events_close(). For one
 * thread at a time.
 */
typedef struct memora_events_t memora_events_t;

/**
 * A fabric: shared memory that the processes of a host open by the same name. Open it with memora_fabric_open(), close it
 * with memora_fabric_close(). May be used by any number of threads at once.
 */
typedef struct memora_fabric_t memora_fabric_t;

/**
 * A reader of the committed changes of a store. Open it with memora_store_feed(), close it with memora_feed_close(). For one thread at
 * a time: another one is answered MEMORA_BUSY.
 */
typedef struct memora_feed_t memora_feed_t;

/**
 * One reader of a log. Open it with memora_log_reader_open(), close it with memora_log_reader_close(). For one thread at a
 * time: another one is answered MEMORA_BUSY.
 */
typedef struct memora_log_reader_t memora_log_reader_t;

/**
 * A named 64-bit number. Open it with memora_named_counter_open(), close it with memora_named_counter_close(). May be used by
 * any number of threads at once.
 */
typedef struct memora_named_counter_t memora_named_counter_t;

/**
 * A named event: notifications for all who wait, or for one. Open it with memora_named_event_open(), close it with
 * memora_named_event_close(). May be used by any number of threads at once.
 */
typedef struct memora_named_event_t memora_named_event_t;

/**
 * A named lock: one thread owns it; when that dies, the next owner is told. Open it with memora_named_lock_open(), close it with
 * memora_named_lock_close(). May be used by any number of threads at once.
 */
typedef struct memora_named_lock_t memora_named_lock_t;

/**
 * A named semaphore: permits that threads hold; those of a thread that dies come back. Open it with
 * memora_named_semaphore_open(), close it with memora_named_semaphore_close(). May be used by any number of threads at once.
 */
typedef struct memora_named_semaphore_t memora_named_semaphore_t;

/**
 * A lane of a channel for the messages of transactions: memora_transaction_publish(). Open it with memora_channel_outbox(), close it
 * with memora_outbox_close(). May be used by any number of threads at once; while one commits, others that commit with the same outbox
 * wait for it. Threads that shall not have an outbox each.
 */
typedef struct memora_outbox_t memora_outbox_t;

/**
 * One producer of a channel, with a ring of its own. Open it with memora_publisher_open(), close it with
 * memora_publisher_close(). For one thread at a time: another one is answered MEMORA_BUSY.
 */
typedef struct memora_publisher_t memora_publisher_t;

/**
 * A descriptor for event loops. Open it with memora_readiness_open(), close it with memora_readiness_close(). For one thread at a time:
 * another one is answered MEMORA_BUSY.
 */
typedef struct memora_readiness_t memora_readiness_t;

/**
 * One server of a service. Open it with memora_server_open(), close it with memora_server_close(). One thread at a time takes
 * requests; any thread may answer them.
 */
typedef struct memora_server_t memora_server_t;

/**
 * A service: requests from clients, each answered by one of its servers. Open it with memora_service_open(), close it with
 * memora_service_close(). May be used by any number of threads at once.
 */
typedef struct memora_service_t memora_service_t;

/**
 * A store as it was when the snapshot was taken. Take it with memora_store_snapshot(), end it with memora_snapshot_close(). May be
 * used by any number of threads at once.
 */
typedef struct memora_snapshot_t memora_snapshot_t;

/**
 * A store: entries of key and value that also stand in files, and come back after all processes or the host died. Open it
 * with memora_store_open(), close it with memora_store_close(). May be used by any number of threads at once.
 */
typedef struct memora_store_t memora_store_t;

/**
 * One consumer of a channel. Open it with memora_subscriber_open(), close it with memora_subscriber_close(). For one
 * thread at a time: another one is answered MEMORA_BUSY. It may go from one thread to another, but an anonymous one ends with
 * the thread that used it last.
 */
typedef struct memora_subscriber_t memora_subscriber_t;

/**
 * The right to make the value of a key that is missing. Use it up with memora_token_fill() or memora_token_abandon(). It ends with
 * the thread that asked for it, and with its process: then the next who asks makes the value.
 */
typedef struct memora_token_t memora_token_t;

/**
 * Gets the newest values of a topic. Open it with memora_topic_subscribe(), close it with memora_topic_subscriber_close(). For one
 * thread at a time: another one is answered MEMORA_BUSY.
 */
typedef struct memora_topic_subscriber_t memora_topic_subscriber_t;

/**
 * A topic: publishers give keys new values, subscribers get the newest. Open it with memora_topic_open(), close it with
 * memora_topic_close(). May be used by any number of threads at once.
 */
typedef struct memora_topic_t memora_topic_t;

/**
 * A transaction of a store: several reads and changes that take effect as one, or not at all. Begin it with
 * memora_transaction_begin(), end it with memora_transaction_commit() or memora_transaction_abort(). For one thread at a time:
 * another one is answered MEMORA_BUSY.
 */
typedef struct memora_transaction_t memora_transaction_t;

/**
 * A value that can be looked at until the view is released with memora_view_release().
 *
 * A view of memora_cache_view() is no copy: it shows the value where it stands in shared memory. The bytes stay as they are,
 * whatever becomes of the entry, and nobody is blocked: others overwrite, delete and evict the entry meanwhile. But the room is
 * not used again before the view is released or its process ends, so keep views for moments. May be used by any number of
 * threads at once.
 */
typedef struct memora_view_t memora_view_t;

/**
 * Options of a fabric. Fill it with memora_fabric_options_init(), then change what you want.
 */
typedef struct memora_fabric_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * Bytes that the fabric may take at most, at creation. 0: 256 MiB.
     */
    uint64_t limit;
    /**
     * Directory of the fabric's file. NULL: $MEMORA_HOME, or else /dev/shm/memora-<uid>.
     */
    const char *home;
    /**
     * Permission bits at creation, such as 0660. 0: only the user.
     */
    uint32_t mode;
    /**
     * Group at creation, or MEMORA_NO_GROUP.
     */
    uint32_t group;
    /**
     * One of MEMORA_BACKEND_*.
     */
    uint32_t backend;
    /**
     * One of MEMORA_OPEN_OR_CREATE, MEMORA_CREATE_NEW, MEMORA_OPEN_ONLY.
     */
    uint32_t create;
    /**
     * Not 0: the fabric can be read only.
     */
    uint32_t read_only;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} memora_fabric_options_t;

/**
 * Options of a cache. Fill it with memora_cache_options_init().
 */
typedef struct memora_cache_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * Bytes that the cache may take at most, its index included. 0: what the fabric has and nobody else needs.
     */
    uint64_t limit;
    /**
     * The most entries. 0: any number.
     */
    uint64_t entries;
    /**
     * One of MEMORA_WHEN_FULL_*.
     */
    uint32_t when_full;
    /**
     * Not 0: what happens to entries is told to those who listen, see memora_events_open().
     */
    uint32_t events;
    /**
     * Not 0: transactions of stores may change it. Each entry takes 24 bytes more.
     */
    uint32_t transactions;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} memora_cache_options_t;

/**
 * How memora_cache_count() counts. Fill it with memora_counter_options_init().
 */
typedef struct memora_counter_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * What a missing entry is set to, if `create` is not 0; for a signed counter an int64_t cast to uint64_t.
     */
    uint64_t initial;
    /**
     * Milliseconds after which an entry that is made so expires. 0: never.
     */
    uint64_t ttl_ms;
    /**
     * One of MEMORA_COUNTER_*.
     */
    uint32_t kind;
    /**
     * Not 0: counts down.
     */
    uint32_t down;
    /**
     * Not 0: a missing entry is set to `initial`, to which nothing is added. 0: it is MEMORA_NOT_FOUND.
     */
    uint32_t create;
    /**
     * Not 0: an entry that is there gets `ttl_ms` as well, instead of keeping its own time.
     */
    uint32_t renew_ttl;
} memora_counter_options_t;

/**
 * Options of one write to a cache or store. Fill it with memora_set_options_init().
 */
typedef struct memora_set_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * Milliseconds after which the entry expires. 0: never.
     */
    uint64_t ttl_ms;
    /**
     * A number of yours that is kept with the entry.
     */
    uint32_t flags;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} memora_set_options_t;

/**
 * Options of a channel. Fill it with memora_channel_options_init().
 */
typedef struct memora_channel_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * One of MEMORA_CHANNEL_*.
     */
    uint32_t kind;
    /**
     * One of MEMORA_OVERRUN_*.
     */
    uint32_t overrun;
    /**
     * Bytes of the ring of each publisher. 0: the default.
     */
    uint32_t lane_bytes;
    /**
     * Not 0: a queue whose messages are acknowledged, so that each is delivered at least once. 0: at most once.
     */
    uint32_t acknowledge;
    /**
     * With `acknowledge`: milliseconds that a consumer may hold a message before others get it too. 0: until it dies or closes.
     */
    uint32_t visibility_ms;
    /**
     * With `acknowledge`: deliveries after which a message that was not acknowledged goes to `dead_letters`: 1 to 1000. 0: it is
     * delivered until somebody acknowledges it.
     */
    uint32_t deliveries_max;
    /**
     * With `deliveries_max`: the channel that such messages are sent to, made as a queue with acknowledgement if there is none.
     */
    const char *dead_letters;
    /**
     * Of a stream or broadcast that blocks: milliseconds that a subscription may stand still while a publisher waits for it; then it is
     * taken away, and its holder is answered MEMORA_EJECTED. 0: publishers wait for ever.
     */
    uint32_t eject_after_ms;
    /**
     * Not 0: each message bears the time at which it was sent, which takes 8 more bytes and the reading of a clock.
     */
    uint32_t timestamps;
} memora_channel_options_t;

/**
 * Options of a log. Fill it with memora_log_options_init().
 */
typedef struct memora_log_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * Bytes that the log takes at most: a power of two from 256 KiB to 1 GiB. 0: 16 MiB. Longer messages than a 128th part take
     * chunks of the fabric besides: as many bytes again are kept of them, or one.
     */
    uint64_t bytes;
    /**
     * Milliseconds after which a message is trimmed. 0: only for want of room.
     */
    uint64_t age_ms;
    /**
     * One of MEMORA_OVERRUN_*: with MEMORA_OVERRUN_BLOCK nothing is trimmed that a named reader has still to read. The default
     * is MEMORA_OVERRUN_LOSE.
     */
    uint32_t overrun;
    /**
     * What messages survive that are appended through this handle: one of MEMORA_DURABILITY_*; for a log with files. The default is
     * MEMORA_DURABILITY_ASYNC.
     */
    uint32_t durability;
    /**
     * Directory of files that hold the messages too, of this log alone. NULL: the log is in memory only.
     */
    const char *dir;
    /**
     * Bytes that the files may take: then the oldest one is removed. 0: only `age_ms` removes files.
     */
    uint64_t file_bytes_max;
    /**
     * Bytes of each file. 0: the default.
     */
    uint64_t file_bytes;
    /**
     * With MEMORA_DURABILITY_ASYNC: milliseconds between two syncs. 0: the default.
     */
    uint32_t interval_ms;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} memora_log_options_t;

/**
 * Options of a store. Fill it with memora_store_options_init().
 */
typedef struct memora_store_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * Directory of the store's files. NULL: the one that the store was made with; a new store needs one, unless its
     * durability is MEMORA_DURABILITY_PROCESS.
     */
    const char *dir;
    /**
     * Bytes of journal after which a checkpoint is made. 0: the default.
     */
    uint64_t checkpoint_bytes;
    /**
     * One of MEMORA_DURABILITY_*.
     */
    uint32_t durability;
    /**
     * With MEMORA_DURABILITY_ASYNC: milliseconds between two syncs. 0: the default.
     */
    uint32_t interval_ms;
    /**
     * 1: the store keeps its keys in order, for memora_store_range(). 0: as it was made; a new store then does not.
     */
    uint32_t ordered;
    /**
     * Shards that the files of a new store are divided into, 1 to 64. 0: 4. A store whose files say how many there are keeps that
     * number: memora_store_set_shards() changes it.
     */
    uint32_t shards;
    /**
     * Bytes of old journal that are kept for memora_store_feed(), which then has every committed change. 0: as the directory says,
     * which remembers it; a new one keeps none. MEMORA_NO_FEED: none any more.
     */
    uint64_t feed_bytes;
} memora_store_options_t;

/**
 * Takes one violation that a check has found: the layer it belongs to, what is wrong, and where. The texts are valid only
 * until the function returns.
 */
typedef void (*memora_problem_fn)(void *context, const char *layer, const char *what, const char *place);

/**
 * Takes one fabric of a list: its name, the bytes that it may take, how many processes are attached, and why it cannot be
 * opened (NULL: it can). The texts are valid only until the function returns.
 */
typedef void (*memora_fabric_fn)(void *context,
                                 const char *name,
                                 uint64_t limit,
                                 uint32_t processes,
                                 const char *problem);

/**
 * Takes one object of a fabric: its name, its kind ("cache", "channel", "store", "event", "counter", "lock", "semaphore", "service" or "topic"), and the bytes of its chunks. The texts are
 * valid only until the function returns.
 */
typedef void (*memora_object_fn)(void *context, const char *name, const char *kind, uint64_t bytes);

/**
 * Figures of a fabric.
 */
typedef struct memora_fabric_stat_t {
    /**
     * Bytes that the fabric may take at most.
     */
    uint64_t limit;
    /**
     * Bytes of the host's memory that it takes now.
     */
    uint64_t taken;
    /**
     * Bytes of a chunk.
     */
    uint64_t chunk_bytes;
    /**
     * Chunks that data can take.
     */
    uint64_t chunks;
    /**
     * Those of them that are free.
     */
    uint64_t free_chunks;
    /**
     * Threads of dead processes taken over so far.
     */
    uint64_t reaped;
    /**
     * Milliseconds since 1970 at its creation.
     */
    uint64_t created_ms;
    /**
     * Processes attached, dead ones that nobody took over yet included.
     */
    uint64_t processes;
} memora_fabric_stat_t;

/**
 * What is known of an entry beside its value.
 */
typedef struct memora_entry_t {
    /**
     * The version: another one for each write, never used again.
     */
    uint64_t version;
    /**
     * Milliseconds until the entry expires; UINT64_MAX: never.
     */
    uint64_t ttl_ms;
    /**
     * The number that the writer gave.
     */
    uint32_t flags;
    /**
     * After memora_cache_get_meta() those of MEMORA_ENTRY_* that apply; otherwise 0.
     */
    uint32_t marks;
} memora_entry_t;

/**
 * Bytes of the caller.
 */
typedef struct memora_bytes_t {
    /**
     * The first byte; may be NULL if `len` is 0.
     */
    const void *data;
    /**
     * How many.
     */
    size_t len;
} memora_bytes_t;

/**
 * Takes one answer of a get of many: `index` is that of the key; `value` is NULL for a miss, and is valid only until
 * the function returns.
 */
typedef void (*memora_value_fn)(void *context, size_t index, const void *value, size_t value_len);

/**
 * Takes one entry of a scan. `key`, `value` and `entry` are valid only until the function returns.
 */
typedef void (*memora_entry_fn)(void *context,
                                const void *key,
                                size_t key_len,
                                const void *value,
                                size_t value_len,
                                const struct memora_entry_t *entry);

/**
 * Where a message stood.
 */
typedef struct memora_message_t {
    /**
     * Bytes of its lane up to the end of this message: larger for each message of one publisher, never 0, and the same when
     * the message is seen again.
     */
    uint64_t position;
    /**
     * Bytes of the message.
     */
    size_t len;
    /**
     * The ring it came through; each publisher has one.
     */
    uint32_t lane;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * When it was sent: nanoseconds of CLOCK_MONOTONIC; 0 on a channel without timestamps.
     */
    uint64_t sent_ns;
} memora_message_t;

/**
 * Takes one message of a poll. `message` and `data` are valid only until the function returns.
 */
typedef void (*memora_message_fn)(void *context,
                                  const struct memora_message_t *message,
                                  const void *data,
                                  size_t len);

/**
 * What a message of a queue with acknowledgement is acknowledged with, by the consumer that it was handed to. Copy it as you
 * like; what stands in it is nobody's business.
 */
typedef struct memora_receipt_t {
    /**
     * Three words of the library.
     */
    uint64_t words[3];
} memora_receipt_t;

/**
 * What came with a message of a queue.
 */
typedef struct memora_delivery_t {
    /**
     * Bytes of its lane up to the end of this message: lane and position name a message for ever, also when it is seen again.
     */
    uint64_t position;
    /**
     * Bytes of the message.
     */
    size_t len;
    /**
     * The ring it came through; each publisher has one.
     */
    uint32_t lane;
    /**
     * How often it was delivered, this time included.
     */
    uint32_t deliveries;
    /**
     * 1 if somebody may have had it before, else 0.
     */
    uint32_t redelivered;
    /**
     * 0.
     */
    uint32_t reserved;
    /**
     * When it was sent: nanoseconds of CLOCK_MONOTONIC; 0 on a channel without timestamps.
     */
    uint64_t sent_ns;
    /**
     * What it is acknowledged with; means nothing on a queue without acknowledgement.
     */
    struct memora_receipt_t receipt;
} memora_delivery_t;

/**
 * Takes one message of a poll. `delivery` and `data` are valid only until the function returns.
 */
typedef void (*memora_delivery_fn)(void *context,
                                   const struct memora_delivery_t *delivery,
                                   const void *data,
                                   size_t len);

/**
 * Where a message of a log stands.
 */
typedef struct memora_log_message_t {
    /**
     * Its position: the first message of the log has 0, each next one has one more.
     */
    uint64_t position;
    /**
     * Bytes of the message.
     */
    size_t len;
    /**
     * Milliseconds since the host started when it was published; 0 on a log without an age.
     */
    uint64_t time_ms;
} memora_log_message_t;

/**
 * Takes one message of a poll. `message` and `data` are valid only until the function returns.
 */
typedef void (*memora_log_message_fn)(void *context,
                                      const struct memora_log_message_t *message,
                                      const void *data,
                                      size_t len);

/**
 * Figures of a log.
 */
typedef struct memora_log_stats_t {
    /**
     * The oldest position that is kept: so many messages were trimmed in the log's life.
     */
    uint64_t oldest;
    /**
     * The position that the next message gets.
     */
    uint64_t end;
    /**
     * Bytes of the records in blocks that hold messages which are kept, and of the long messages that are kept in chunks.
     */
    uint64_t bytes;
    /**
     * Bytes that the log takes for records, and as much for long messages.
     */
    uint64_t bytes_max;
    /**
     * Appenders that hold a block now.
     */
    uint64_t appenders;
    /**
     * Named readers.
     */
    uint64_t readers;
    /**
     * Messages that the named reader which is farthest behind has still to read; 0 if there is none.
     */
    uint64_t lag_max;
    /**
     * Messages in front of this position are in files that are synced; 0 of a log without files.
     */
    uint64_t durable;
    /**
     * Bytes of its files.
     */
    uint64_t file_bytes;
    /**
     * 1 if a failed sync has ended all appending.
     */
    uint64_t poisoned;
} memora_log_stats_t;

/**
 * What is waited for: one of the two, the other NULL.
 */
typedef struct memora_source_t {
    struct memora_subscriber_t *subscriber;
    struct memora_consumer_t *consumer;
} memora_source_t;

/**
 * One change of an entry.
 */
typedef struct memora_event_t {
    /**
     * A version, as the kind says; otherwise 0.
     */
    uint64_t version;
    /**
     * Bytes of the key. More than the event brought for a key that is longer than an eighth of a ring.
     */
    size_t whole_key_len;
    /**
     * One of MEMORA_EVENT_*.
     */
    uint32_t kind;
    /**
     * 0.
     */
    uint32_t reserved;
} memora_event_t;

/**
 * Options of a service. Fill it with memora_service_options_init().
 */
typedef struct memora_service_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * Bytes of a request or reply that a cell holds, up to 64 MiB. Longer ones, up to half of the fabric and 128 MiB, take memory of the
     * fabric for as long as they are under way. 0: the default.
     */
    uint32_t message_bytes;
    /**
     * Calls that a client may have under way: a power of two. 0: the default.
     */
    uint32_t calls;
} memora_service_options_t;

/**
 * Figures of a service.
 */
typedef struct memora_service_stats_t {
    /**
     * Clients that are there now.
     */
    uint64_t clients;
    /**
     * Servers that are there now.
     */
    uint64_t servers;
    /**
     * Clients for which there is memory: as many as were there at the same time.
     */
    uint64_t rings;
    /**
     * Requests that wait for a server.
     */
    uint64_t asked;
    /**
     * Requests that servers work on for clients who wait.
     */
    uint64_t taken;
    /**
     * Requests that servers still have though their callers are gone.
     */
    uint64_t left;
    /**
     * Calls ever made.
     */
    uint64_t calls;
    /**
     * Calls whose time was over.
     */
    uint64_t timed_out;
    /**
     * Calls whose server died.
     */
    uint64_t died;
} memora_service_stats_t;

/**
 * A request that a server took.
 */
typedef struct memora_request_t {
    /**
     * What memora_server_reply() knows it by.
     */
    uint64_t ticket;
    /**
     * Number of the call, unique in the client's entry.
     */
    uint64_t number;
    /**
     * Bytes of the request.
     */
    size_t len;
    /**
     * The client's entry. Another client may have it later.
     */
    uint32_t client;
    /**
     * 0.
     */
    uint32_t reserved;
} memora_request_t;

/**
 * Options of a topic. Fill it with memora_topic_options_init().
 */
typedef struct memora_topic_options_t {
    /**
     * Bytes of this structure in the calling program; set by the init function.
     */
    size_t struct_size;
    /**
     * The most bytes of values and index together. 0: what the fabric has.
     */
    uint64_t limit;
} memora_topic_options_t;

/**
 * Figures of a topic.
 */
typedef struct memora_topic_stats_t {
    /**
     * Keys that were ever published, retracted ones included.
     */
    uint64_t keys;
    /**
     * Bytes of their values with keys and headers.
     */
    uint64_t bytes;
    /**
     * Updates ever published.
     */
    uint64_t updates;
} memora_topic_stats_t;

/**
 * What came with a value.
 */
typedef struct memora_update_t {
    /**
     * How often the key was published.
     */
    uint64_t number;
    /**
     * Updates of the key that were skipped because newer ones came.
     */
    uint64_t conflated;
    /**
     * Bytes of the key.
     */
    size_t key_len;
    /**
     * Bytes of the value.
     */
    size_t value_len;
    /**
     * Not 0: the key was retracted and has no value.
     */
    uint32_t retracted;
    /**
     * 0.
     */
    uint32_t reserved;
} memora_update_t;

/**
 * Hears how far a backup, restore, verification or repair is, in bytes; `total` may be an estimate. The function may call the
 * library, but not throw or jump out.
 */
typedef void (*memora_progress_fn)(void *context, uint64_t done, uint64_t total);

/**
 * What a backup holds.
 */
typedef struct memora_backup_info_t {
    /**
     * Records: one of each entry, and those of what changed while it was made.
     */
    uint64_t records;
    /**
     * Bytes of its files.
     */
    uint64_t bytes;
    /**
     * Milliseconds since 1970 at which it was begun.
     */
    uint64_t begun_ms;
} memora_backup_info_t;

/**
 * What is known of the files of a store or backup.
 */
typedef struct memora_verify_report_t {
    /**
     * Records in all files that count: several of one key, if it was changed since the checkpoint.
     */
    uint64_t records;
    /**
     * Bytes read.
     */
    uint64_t bytes;
    /**
     * Journal files whose last batch was cut off by a crash, which is legal.
     */
    uint64_t torn;
    /**
     * 1 for a backup, 0 for a store.
     */
    uint64_t backup;
    /**
     * Journal files of which all or a part is kept for the change feed only.
     */
    uint64_t feed_files;
} memora_verify_report_t;

/**
 * Bytes of a store's file that cannot be read any more.
 */
typedef struct memora_loss_t {
    /**
     * Name of the file in the store's directory.
     */
    const char *file;
    /**
     * What is wrong.
     */
    const char *what;
    /**
     * First byte.
     */
    uint64_t from;
    /**
     * Behind the last byte.
     */
    uint64_t to;
    /**
     * Records that stood there, each the state of one key; UINT64_MAX if that is not known.
     */
    uint64_t records;
} memora_loss_t;

/**
 * Takes one loss of a repair; it is valid only until the function returns.
 */
typedef void (*memora_loss_fn)(void *context, const struct memora_loss_t *loss);

/**
 * Does the reads and changes of a transaction, and gives MEMORA_OK for its commit, MEMORA_CONFLICT to be called again with a new
 * one, or any other code to give it up.
 */
typedef int (*memora_transaction_fn)(void *context, struct memora_transaction_t *transaction);

/**
 * A place in a feed, to be kept by whoever goes on there later. In text, on the command line and in Java it is `store` in 16 hexadecimal
 * digits and both other numbers in decimal, with dots between.
 */
typedef struct memora_feed_position_t {
    /**
     * Of the store whose place it is: another one refuses it, also one that was made later under the same name.
     */
    uint64_t store;
    /**
     * Where a flush begins in the journal.
     */
    uint64_t flush;
    /**
     * How many records are behind one, counted from there.
     */
    uint64_t index;
} memora_feed_position_t;

/**
 * A committed change of a key.
 */
typedef struct memora_change_t {
    /**
     * Bytes of the key.
     */
    size_t key_len;
    /**
     * Bytes of the value; 0 if it is deleted.
     */
    size_t value_len;
    /**
     * Where one goes on who has handled this change.
     */
    struct memora_feed_position_t position;
    /**
     * Grows from change to change of this key.
     */
    uint64_t order;
    /**
     * Wall clock in milliseconds from which the entry is gone; 0: never.
     */
    uint64_t expires_ms;
    /**
     * The number kept with the value.
     */
    uint32_t flags;
    /**
     * 1: the key was deleted, or its time was over; else 0.
     */
    uint32_t deleted;
} memora_change_t;

/**
 * Figures of a cache.
 */
typedef struct memora_cache_stats_t {
    /**
     * Entries, expired ones that nobody met since included.
     */
    uint64_t entries;
    /**
     * Bytes of the records of these entries, keys and headers included.
     */
    uint64_t live_bytes;
    /**
     * Bytes of replaced and deleted records that were not yet reclaimed.
     */
    uint64_t dead_bytes;
    /**
     * Bytes of records that the cache may hold now.
     */
    uint64_t capacity_bytes;
    /**
     * Chunks of records.
     */
    uint64_t record_chunks;
    /**
     * Chunks of the index.
     */
    uint64_t index_chunks;
    /**
     * Keys read that were there, since the cache was made, by all processes, also those that are gone; as all counts here.
     * Reading by processes that opened the fabric for reading only is not counted.
     */
    uint64_t hits;
    /**
     * Keys read that were not there, or had expired.
     */
    uint64_t misses;
    /**
     * Entries stored, by whatever call.
     */
    uint64_t sets;
    /**
     * Entries deleted.
     */
    uint64_t deletes;
    /**
     * Entries evicted from among the young, which were not read often enough.
     */
    uint64_t evicted_small;
    /**
     * Entries evicted from among the old, which were not read any more.
     */
    uint64_t evicted_main;
    /**
     * Expired entries that were removed to make room.
     */
    uint64_t expired;
    /**
     * Flushed entries that were removed to make room.
     */
    uint64_t flushed;
    /**
     * Milliseconds that entries evicted from among the young had been there, as a moving mean; UINT64_MAX before the first.
     */
    uint64_t evicted_small_age_ms;
    /**
     * The same for those evicted from among the old.
     */
    uint64_t evicted_main_age_ms;
    /**
     * Chunks of records that threads append to.
     */
    uint64_t open_chunks;
    /**
     * Chunks of records that are full.
     */
    uint64_t sealed_chunks;
    /**
     * Chunks of records that are being cleaned, or evicted from.
     */
    uint64_t cleaning_chunks;
    /**
     * Chunks that hold nothing any more and wait for views to end.
     */
    uint64_t quiet_chunks;
} memora_cache_stats_t;

/**
 * What to expect of a cache of one size, estimated from a sample of what is read. It is the hit ratio of an LRU cache; what counts is
 * by how much it rises or falls.
 */
typedef struct memora_advice_t {
    /**
     * How many times the memory that the cache may use now.
     */
    double factor;
    /**
     * Bytes of records.
     */
    uint64_t bytes;
    /**
     * Entries of the present mean size that it would hold.
     */
    uint64_t entries;
    /**
     * The part of all reads that would find their key.
     */
    double hit_ratio;
} memora_advice_t;

/**
 * Takes what to expect of one size; valid only until the function returns.
 */
typedef void (*memora_advice_fn)(void *context, const struct memora_advice_t *advice);

/**
 * What the threads of one process did to a cache since they attached; threads that have ended are not among them.
 */
typedef struct memora_process_counts_t {
    /**
     * Its pid in its own PID namespace.
     */
    uint32_t pid;
    /**
     * Threads attached.
     */
    uint32_t threads;
    /**
     * Milliseconds since it attached.
     */
    uint64_t attached_ms;
    /**
     * Keys read that were there.
     */
    uint64_t hits;
    /**
     * Keys read that were not there, or had expired.
     */
    uint64_t misses;
    /**
     * Entries stored.
     */
    uint64_t sets;
    /**
     * Entries deleted.
     */
    uint64_t deletes;
    /**
     * Entries evicted for want of room.
     */
    uint64_t evicted;
    /**
     * Expired entries that were removed to make room.
     */
    uint64_t expired;
} memora_process_counts_t;

/**
 * Takes what one process did to a cache, and the first bytes of its command. Both are valid only until the function returns.
 */
typedef void (*memora_process_fn)(void *context,
                                  const struct memora_process_counts_t *counts,
                                  const char *command);

/**
 * Figures of a channel.
 */
typedef struct memora_channel_stats_t {
    /**
     * Rings that a publisher holds now.
     */
    uint64_t publishers;
    /**
     * Rings, with those of publishers that are gone.
     */
    uint64_t lanes;
    /**
     * Bytes ever published, with headers and padding.
     */
    uint64_t published_bytes;
    /**
     * Subscriptions, named ones that nobody holds included.
     */
    uint64_t subscriptions;
    /**
     * Subscriptions that were taken away because they stood still for too long, or somebody ended them.
     */
    uint64_t ejected;
    /**
     * Of a queue: bytes that were published and not yet taken by anybody, with headers and padding.
     */
    uint64_t waiting_bytes;
    /**
     * Of a queue with acknowledgement: messages that consumers hold, or left and nobody has taken yet.
     */
    uint64_t unacknowledged;
    /**
     * Of a queue with acknowledgement: messages that were delivered again.
     */
    uint64_t redelivered;
    /**
     * Of a queue with acknowledgement: messages that became dead letters.
     */
    uint64_t dead_letters;
} memora_channel_stats_t;

/**
 * Takes one subscription of a channel: its name ("" for an anonymous one), whether somebody holds it now (1 or 0), and the
 * bytes that were published and not yet handled by it. The name is valid only until the function returns.
 */
typedef void (*memora_subscription_fn)(void *context, const char *name, int held, uint64_t lag_bytes);

/**
 * Takes one consumer of a queue with acknowledgement: its number, whether a thread holds it now (1 or 0), and the messages that
 * stand in its hand and were not acknowledged.
 */
typedef void (*memora_consumer_fn)(void *context, uint32_t consumer, int held, uint64_t unacknowledged);

/**
 * Figures of a store.
 */
typedef struct memora_store_stats_t {
    /**
     * Entries.
     */
    uint64_t entries;
    /**
     * Bytes of live records in memory.
     */
    uint64_t live_bytes;
    /**
     * Flushes that wrote something, by all processes.
     */
    uint64_t flushes;
    /**
     * Records written by flushes.
     */
    uint64_t flushed_records;
    /**
     * Bytes written by flushes.
     */
    uint64_t flushed_bytes;
    /**
     * Bytes of journal since the last checkpoint of a shard.
     */
    uint64_t journal_bytes;
    /**
     * Bytes of the checkpoints that count, one of each shard.
     */
    uint64_t checkpoint_bytes;
    /**
     * Checkpoints of single shards so far, over the life of the files.
     */
    uint64_t checkpoints;
    /**
     * 1 if a failed sync made the store read-only, else 0.
     */
    uint64_t poisoned;
    /**
     * Snapshots that are open.
     */
    uint64_t snapshots;
    /**
     * Snapshots that were cancelled, over the life of the store in memory.
     */
    uint64_t snapshots_cancelled;
    /**
     * For how many milliseconds the oldest snapshot has been open; 0 without any.
     */
    uint64_t snapshot_oldest_ms;
    /**
     * Bytes of memory that would be free without snapshots.
     */
    uint64_t snapshot_bytes;
    /**
     * Shards that the files are divided into; 0 without files.
     */
    uint64_t shards;
} memora_store_stats_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the running library, as "major.minor.patch".
 *
 * The text is constant: never free it. Safe from any thread.
 */
const char *memora_version(void);

/**
 * The number of the running library's binary interface. A program that loads the library by itself (dlopen) compares
 * it with MEMORA_ABI_VERSION first; for linked programs the soname has done so.
 */
uint32_t memora_abi_version(void);

/**
 * One sentence that says what `code` means; constant, never NULL, also for a number that is no code. Safe from any
 * thread and in signal handlers.
 */
const char *memora_strerror(int code);

/**
 * One sentence that says what to do about `code`; constant, never NULL. Safe from any thread and in signal handlers.
 */
const char *memora_error_remedy(int code);

/**
 * The name of `code` as this header spells it, such as "MEMORA_CLOSED"; constant, never NULL. Safe from any thread and
 * in signal handlers.
 */
const char *memora_error_name(int code);

/**
 * What happened in the last call of this thread that failed, with the values, and the remedy. Never NULL; empty when no
 * call has failed. The text belongs to the library and stays as it is until the next failing call of the same thread;
 * a call that succeeds leaves it alone.
 */
const char *memora_last_error_message(void);

/**
 * The code of the last call of this thread that failed; MEMORA_OK when none has.
 */
int memora_last_error_code(void);

/**
 * The number that belongs to the last error of this thread: for MEMORA_BUFFER_TOO_SMALL the bytes needed, for
 * MEMORA_OVERRUN the messages lost, for MEMORA_STALE the version that the entry has; else 0.
 */
uint64_t memora_last_error_amount(void);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_fabric_options_init(struct memora_fabric_options_t *options, size_t struct_size);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_cache_options_init(struct memora_cache_options_t *options, size_t struct_size);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_counter_options_init(struct memora_counter_options_t *options, size_t struct_size);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_set_options_init(struct memora_set_options_t *options, size_t struct_size);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_channel_options_init(struct memora_channel_options_t *options, size_t struct_size);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_log_options_init(struct memora_log_options_t *options, size_t struct_size);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_store_options_init(struct memora_store_options_t *options, size_t struct_size);

/**
 * Opens the fabric `name`, or creates it with the default options.
 *
 * On success `*fabric` is a new handle, to be closed with memora_fabric_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS,
 * MEMORA_NOT_A_FABRIC, MEMORA_LAYOUT_MISMATCH, MEMORA_NO_SPACE, MEMORA_TOO_MANY_PROCESSES, MEMORA_CORRUPT, MEMORA_IO,
 * MEMORA_UNSUPPORTED.
 */
int memora_fabric_open(const char *name,
                       struct memora_fabric_t **fabric);

/**
 * As memora_fabric_open(), with options. NULL means the defaults.
 *
 * Returns what memora_fabric_open() does, or MEMORA_NOT_FOUND, MEMORA_ALREADY_EXISTS, MEMORA_WRONG_OPTIONS,
 * MEMORA_LIMIT_TOO_SMALL.
 */
int memora_fabric_open_with(const char *name,
                            const struct memora_fabric_options_t *options,
                            struct memora_fabric_t **fabric);

/**
 * Opens the fabric in a memory file that another process handed over, as memora_fabric_memfd() gives it. Of `options`, which
 * may be NULL, only `read_only` counts. The descriptor stays the caller's, who may close it afterwards.
 *
 * On success `*fabric` is a new handle, to be closed with memora_fabric_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_NOT_OURS, MEMORA_NOT_A_FABRIC, MEMORA_LAYOUT_MISMATCH,
 * MEMORA_TOO_MANY_PROCESSES, MEMORA_PERMISSION_DENIED, MEMORA_CORRUPT, MEMORA_IO, MEMORA_UNSUPPORTED.
 */
int memora_fabric_open_fd(int fd,
                          const struct memora_fabric_options_t *options,
                          struct memora_fabric_t **fabric);

/**
 * Gives a new descriptor of the memory file of a fabric with the backend MEMORA_BACKEND_MEMFD, to be handed to other processes
 * (over a unix socket, or by inheritance) and closed with close(). It is closed in programs that are executed.
 *
 * On success `*fd` is the descriptor; else it is -1.
 * Returns MEMORA_OK, MEMORA_UNSUPPORTED (another backend), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_IO.
 */
int memora_fabric_memfd(struct memora_fabric_t *fabric,
                        int *fd);

/**
 * Closes the handle. NULL is allowed and does nothing. The fabric and what is in it stay, for other processes and for the next
 * time. What was opened through it stays open; the process is attached until the last of it is closed, too.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_fabric_close(struct memora_fabric_t *fabric);

/**
 * Removes the fabric `name` with all that is in it. Processes that have it open keep what they have until they close it.
 * `home` may be NULL for the default directory.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_PERMISSION_DENIED,
 * MEMORA_NOT_OURS, MEMORA_IO.
 */
int memora_fabric_remove(const char *home,
                         const char *name);

/**
 * Verifies the rules of the whole fabric, live or dead, and calls `function` for each violation. `*count` (may be NULL)
 * becomes their number.
 *
 * Returns MEMORA_OK (no violation), MEMORA_CORRUPT (one or more), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_fabric_check(struct memora_fabric_t *fabric,
                        memora_problem_fn function,
                        void *context,
                        size_t *count);

/**
 * Calls `function` for each fabric of a directory, by name; `home` may be NULL for the default one.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO.
 */
int memora_fabric_list(const char *home, memora_fabric_fn function, void *context);

/**
 * Calls `function` for each object of the fabric.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_fabric_objects(struct memora_fabric_t *fabric, memora_object_fn function, void *context);

/**
 * Fills `stat` with figures of the fabric. `struct_size` is sizeof *stat.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_fabric_stat(struct memora_fabric_t *fabric, struct memora_fabric_stat_t *stat, size_t struct_size);

/**
 * Takes over what dead processes and threads held, now. Nobody has to call this: it happens when a fabric is opened and when
 * something is needed. `*threads` (may be NULL) becomes the number of threads that were reaped.
 *
 * Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_fabric_reap(struct memora_fabric_t *fabric,
                       uint64_t *threads);

/**
 * Opens the cache `name` of `fabric`, or creates it. With `options` NULL it is opened however it was made, or created with the
 * defaults.
 *
 * On success `*cache` is a new handle, to be closed with memora_cache_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND, MEMORA_WRONG_OPTIONS,
 * MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_open(struct memora_fabric_t *fabric,
                      const char *name,
                      const struct memora_cache_options_t *options,
                      struct memora_cache_t **cache);

/**
 * Closes the handle. NULL is allowed and does nothing. Calls of other threads that are under way finish.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_cache_close(struct memora_cache_t *cache);

/**
 * Copies the value of `key` into `buffer`, which has room for `capacity` bytes. Lock-free, never waits.
 *
 * `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The
 * value may be another one by the second call; so repeat it while it answers MEMORA_BUFFER_TOO_SMALL.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer's content is then
 * undefined), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_get(struct memora_cache_t *cache,
                     const void *key,
                     size_t key_len,
                     void *buffer,
                     size_t capacity,
                     size_t *len);

/**
 * As memora_cache_get(), and tells the version, the flags and the rest of the time to live in `*entry`.
 *
 * Returns what memora_cache_get() does.
 */
int memora_cache_get_entry(struct memora_cache_t *cache,
                           const void *key,
                           size_t key_len,
                           void *buffer,
                           size_t capacity,
                           size_t *len,
                           struct memora_entry_t *entry);

/**
 * Looks `count` keys up and calls `function` once for each: faster than one by one, because the waits for memory overlap.
 * Not one moment for all of them. The function may call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_get_many(struct memora_cache_t *cache,
                          const struct memora_bytes_t *keys,
                          size_t count,
                          memora_value_fn function,
                          void *context);

/**
 * Stores `value` under `key`, whatever is there. `options` (time to live, flags) may be NULL, `version` too.
 *
 * The bytes are copied. `*version` becomes the version of the new entry.
 * Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_set(struct memora_cache_t *cache,
                     const void *key,
                     size_t key_len,
                     const void *value,
                     size_t value_len,
                     const struct memora_set_options_t *options,
                     uint64_t *version);

/**
 * As memora_cache_set(), but only if there is no entry under `key`.
 *
 * Returns what memora_cache_set() does, or MEMORA_ALREADY_EXISTS.
 */
int memora_cache_add(struct memora_cache_t *cache,
                     const void *key,
                     size_t key_len,
                     const void *value,
                     size_t value_len,
                     const struct memora_set_options_t *options,
                     uint64_t *version);

/**
 * As memora_cache_set(), but only if there is an entry under `key`.
 *
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
 */
int memora_cache_replace(struct memora_cache_t *cache,
                         const void *key,
                         size_t key_len,
                         const void *value,
                         size_t value_len,
                         const struct memora_set_options_t *options,
                         uint64_t *version);

/**
 * Stores `value` under `key` only if the entry there still has version `expected`.
 *
 * `*version` (may be NULL) becomes the version of the new entry, or with MEMORA_STALE that of the one found.
 * Returns what memora_cache_set() does, or MEMORA_STALE, MEMORA_NOT_FOUND.
 */
int memora_cache_compare_and_swap(struct memora_cache_t *cache,
                                  const void *key,
                                  size_t key_len,
                                  const void *value,
                                  size_t value_len,
                                  uint64_t expected,
                                  const struct memora_set_options_t *options,
                                  uint64_t *version);

/**
 * Deletes the entry under `key`.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_KEY_TOO_LONG, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_delete(struct memora_cache_t *cache,
                        const void *key,
                        size_t key_len);

/**
 * Adds `by` to the number under `key`, which is kept as decimal text. If there is none: with `initial` it is created with
 * `*initial`, with NULL the answer is MEMORA_NOT_FOUND. `*number` (may be NULL) becomes the new number.
 *
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND, MEMORA_NOT_A_NUMBER, MEMORA_COUNTER_OVERFLOW.
 */
int memora_cache_increment(struct memora_cache_t *cache,
                           const void *key,
                           size_t key_len,
                           uint64_t by,
                           const uint64_t *initial,
                           uint64_t *number);

/**
 * Takes `by` from the number under `key`; it stops at 0. Otherwise as memora_cache_increment().
 *
 * Returns what memora_cache_increment() does, but never MEMORA_COUNTER_OVERFLOW.
 */
int memora_cache_decrement(struct memora_cache_t *cache,
                           const void *key,
                           size_t key_len,
                           uint64_t by,
                           const uint64_t *initial,
                           uint64_t *number);

/**
 * Tells the number of entries; those that have expired but were not met since still count.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_len(struct memora_cache_t *cache, uint64_t *len);

/**
 * Calls `function` for some entries, about `limit`, and moves `*cursor` on. Begin with a cursor of 0 and go on until it
 * is 0 again. An entry that is there during the whole scan comes at least once; one that comes or goes meanwhile may.
 * The function may call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_scan(struct memora_cache_t *cache,
                      uint64_t *cursor,
                      size_t limit,
                      memora_entry_fn function,
                      void *context);

/**
 * Looks at the value of `key` where it stands. On success `*view` is a new handle, to be released with memora_view_release();
 * else it is NULL. Lock-free, never waits.
 *
 * Views hold at most a quarter of the fabric's chunks. A view that would exceed this, one of an empty value, and one in a fabric
 * that was opened for reading only, holds a copy instead: memora_view_is_copy() tells.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_FULL (all handles of the process are open),
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_view(struct memora_cache_t *cache,
                      const void *key,
                      size_t key_len,
                      struct memora_view_t **view);

/**
 * Tells where the bytes of a view are, how many, and what is known of the entry at the time of the view. Each of `data`, `len`,
 * `entry` may be NULL.
 *
 * `*data` is never NULL, and may be read, not written, until the view is released or the process forks; closing the cache or the
 * fabric does not end it. In shared memory it is aligned to 8. Trust it as you trust the processes of the fabric: the library
 * never changes these bytes, but a process that writes into shared memory past the library could.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_view_bytes(struct memora_view_t *view,
                      const void **data,
                      size_t *len,
                      struct memora_entry_t *entry);

/**
 * Tells whether a view holds a copy (1) or shows the value in shared memory (0).
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_view_is_copy(struct memora_view_t *view, int *copy);

/**
 * Ends a view: its bytes must not be looked at any more. NULL is allowed and does nothing.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_view_release(struct memora_view_t *view);

/**
 * Puts bytes behind the value that is there; its flags and time to live stay. `*version` (may be NULL) becomes the new version.
 *
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
 */
int memora_cache_append(struct memora_cache_t *cache,
                        const void *key,
                        size_t key_len,
                        const void *value,
                        size_t value_len,
                        uint64_t *version);

/**
 * Puts bytes in front of the value that is there; its flags and time to live stay. `*version` (may be NULL) becomes the new
 * version.
 *
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
 */
int memora_cache_prepend(struct memora_cache_t *cache,
                         const void *key,
                         size_t key_len,
                         const void *value,
                         size_t value_len,
                         uint64_t *version);

/**
 * Deletes the entry under `key` only if it still has version `expected`. With MEMORA_STALE `*version` (may be NULL) becomes
 * that of the one found.
 *
 * Returns what memora_cache_delete() does, or MEMORA_STALE.
 */
int memora_cache_delete_if(struct memora_cache_t *cache,
                           const void *key,
                           size_t key_len,
                           uint64_t expected,
                           uint64_t *version);

/**
 * Gives the entry under `key` another time to live, `ttl_ms` milliseconds from now on; 0: for ever. Its version stays.
 *
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
 */
int memora_cache_touch(struct memora_cache_t *cache,
                       const void *key,
                       size_t key_len,
                       uint64_t ttl_ms);

/**
 * As memora_cache_touch(), and copies the value out as memora_cache_get_entry() does: the entry has its new time to live also
 * when the buffer was too small.
 *
 * Returns what both do.
 */
int memora_cache_get_and_touch(struct memora_cache_t *cache,
                               const void *key,
                               size_t key_len,
                               uint64_t ttl_ms,
                               void *buffer,
                               size_t capacity,
                               size_t *len,
                               struct memora_entry_t *entry);

/**
 * As memora_cache_set(), and gives the entry that was there: `*old` becomes a view of a copy, to be released, or NULL if there was
 * none. With MEMORA_FULL because all handles of the process are open the value is set all the same.
 *
 * Returns what memora_cache_set() does.
 */
int memora_cache_get_and_set(struct memora_cache_t *cache,
                             const void *key,
                             size_t key_len,
                             const void *value,
                             size_t value_len,
                             const struct memora_set_options_t *options,
                             struct memora_view_t **old);

/**
 * As memora_cache_delete(), and gives the entry that was there: `*old` becomes a view of a copy, to be released, or NULL. It is
 * also gone when the answer is MEMORA_FULL, because all handles of the process are open.
 *
 * Returns what memora_cache_delete() does, or MEMORA_FULL.
 */
int memora_cache_get_and_delete(struct memora_cache_t *cache,
                                const void *key,
                                size_t key_len,
                                struct memora_view_t **old);

/**
 * Counts the number under `key`, which is kept as decimal text, by `by`, with the rules of `options` (NULL: those of
 * memora_cache_increment() without an initial number). For a signed counter `by` and `*number` are an int64_t cast to uint64_t.
 * `*number` (may be NULL) becomes the new number.
 *
 * An error leaves the entry as it was.
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND, MEMORA_NOT_A_NUMBER, MEMORA_COUNTER_OVERFLOW.
 */
int memora_cache_count(struct memora_cache_t *cache,
                       const void *key,
                       size_t key_len,
                       uint64_t by,
                       const struct memora_counter_options_t *options,
                       uint64_t *number);

/**
 * Asks for the value of `key`, or for the right to make it: of all threads of all processes that ask, one gets the right, and the
 * others wait for its value, `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all.
 *
 * On success one of the two is a new handle, and the other one NULL: `*view`, with a copy of the entry, to be released with
 * memora_view_release(); or `*token`: make the value, then call memora_token_fill(). Who waits goes on at once when the key is set,
 * when the right is given up, and when the thread or process that has it ends. Of an entry that was invalidated the first who asks
 * gets the right, the others what is out of date.
 * Returns MEMORA_OK, MEMORA_TIMED_OUT (who makes the value lives and is not ready), MEMORA_BUSY (that is this very thread),
 * MEMORA_KEY_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_cache_lease(struct memora_cache_t *cache,
                       const void *key,
                       size_t key_len,
                       int64_t timeout_ms,
                       struct memora_view_t **view,
                       struct memora_token_t **token);

/**
 * Stores the value that a token is for, and uses the token up, also when this fails: then the next who asks makes the value.
 * `options` (time to live, flags) may be NULL, `version` too.
 *
 * Returns what memora_cache_set() does, or MEMORA_STALE: the right was lost, because the key was set, deleted or flushed meanwhile,
 * or the thread that asked ended and another one took over; nothing was stored.
 */
int memora_token_fill(struct memora_token_t *token,
                      const void *value,
                      size_t value_len,
                      const struct memora_set_options_t *options,
                      uint64_t *version);

/**
 * Gives the right up: the next who asks, or one who waits, gets it. NULL is allowed and does nothing.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_token_abandon(struct memora_token_t *token);

/**
 * Marks an entry as out of date: it may be shown for `stale_for_ms` milliseconds more (0: as long as it would have lived), and the
 * first who asks by memora_cache_get_meta() or memora_cache_lease() is told to make it anew. It gets a new version, so that what was
 * made from the old one cannot be stored by a swap. `*version` (may be NULL) becomes it.
 *
 * Returns what memora_cache_set() does, or MEMORA_NOT_FOUND.
 */
int memora_cache_invalidate(struct memora_cache_t *cache,
                            const void *key,
                            size_t key_len,
                            uint64_t stale_for_ms,
                            uint64_t *version);

/**
 * Gets the entry of `key`, and whether the caller is to make it anew: the first who sees it when it is out of date, or when it has
 * less than `recache_below_ms` milliseconds to live (0: that does not count). Everybody gets the value. Who makes it anew sets it,
 * best by memora_cache_compare_and_swap() with the version of the view.
 *
 * On success `*view` is a new handle with a copy, to be released; else it is NULL. The marks of its entry, see memora_view_bytes(),
 * are those of MEMORA_ENTRY_*.
 * Returns what memora_cache_view() does, or MEMORA_NO_SPACE.
 */
int memora_cache_get_meta(struct memora_cache_t *cache,
                          const void *key,
                          size_t key_len,
                          uint64_t recache_below_ms,
                          struct memora_view_t **view);

/**
 * Empties the cache at one moment, however many entries there are. Their room is taken back when it is needed.
 *
 * Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_flush(struct memora_cache_t *cache);

/**
 * Opens the channel `name` of `fabric`, or creates it with `options`. With `options` NULL it must be there, of any kind.
 *
 * On success `*channel` is a new handle, to be closed with memora_channel_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND,
 * MEMORA_WRONG_OPTIONS, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_channel_open(struct memora_fabric_t *fabric,
                        const char *name,
                        const struct memora_channel_options_t *options,
                        struct memora_channel_t **channel);

/**
 * Closes the handle. NULL is allowed and does nothing. Publishers and subscribers of the channel stay open.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_channel_close(struct memora_channel_t *channel);

/**
 * Becomes a publisher of the channel.
 *
 * On success `*publisher` is a new handle, to be closed with memora_publisher_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_PUBLISHERS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_publisher_open(struct memora_channel_t *channel,
                          struct memora_publisher_t **publisher);

/**
 * Closes the handle. NULL is allowed and does nothing. What was sent stays for the subscribers; a message that was claimed
 * and not committed is given up. A thread that is waiting inside a send is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_publisher_close(struct memora_publisher_t *publisher);

/**
 * Sends a message, waiting for room as long as it takes: MEMORA_BACK_PRESSURE never comes. `*position` (may be NULL) becomes
 * its place in the lane. The bytes are copied.
 *
 * Returns MEMORA_OK, MEMORA_VALUE_TOO_LONG, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_publisher_send(struct memora_publisher_t *publisher,
                          const void *data,
                          size_t len,
                          uint64_t *position);

/**
 * As memora_publisher_send(), but never waits.
 *
 * Returns what memora_publisher_send() does, or MEMORA_BACK_PRESSURE: a subscriber is behind and the ring is full.
 */
int memora_publisher_try_send(struct memora_publisher_t *publisher,
                              const void *data,
                              size_t len,
                              uint64_t *position);

/**
 * As memora_publisher_send(), but waits for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: as
 * memora_publisher_try_send().
 *
 * Returns what memora_publisher_send() does, or MEMORA_TIMED_OUT.
 */
int memora_publisher_send_timeout(struct memora_publisher_t *publisher,
                                  const void *data,
                                  size_t len,
                                  int64_t timeout_ms,
                                  uint64_t *position);

/**
 * Sends `count` messages that subscribers get all or none of, in this order, also if the process dies meanwhile. Together they may take
 * what one message may. Waits as memora_publisher_send_timeout() does. `*position` (may be NULL) becomes the place of the last.
 *
 * Returns what memora_publisher_send_timeout() does.
 */
int memora_publisher_send_all(struct memora_publisher_t *publisher,
                              const struct memora_bytes_t *messages,
                              size_t count,
                              int64_t timeout_ms,
                              uint64_t *position);

/**
 * Claims room for a message of `len` bytes, waiting for it for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end;
 * 0: not at all. Then write it with memora_publisher_write(), and commit or abort it. Bytes that are not written are 0.
 *
 * Returns MEMORA_OK, MEMORA_BACK_PRESSURE (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_VALUE_TOO_LONG, MEMORA_BUSY (also
 * when a message is claimed already), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_publisher_claim(struct memora_publisher_t *publisher,
                           size_t len,
                           int64_t timeout_ms);

/**
 * Writes `len` bytes at byte `at` of the message that is claimed. In any order, any number of times.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_INVALID_ARGUMENT (also when the bytes do not fit),
 * MEMORA_BUSY, MEMORA_CLOSED.
 */
int memora_publisher_write(struct memora_publisher_t *publisher,
                           size_t at,
                           const void *data,
                           size_t len);

/**
 * Makes the message that is claimed visible to the subscribers. `*position` (may be NULL) becomes its place in the lane.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT; MEMORA_BACK_PRESSURE only if the publisher went to another thread since the claim, which
 * stands then.
 */
int memora_publisher_commit(struct memora_publisher_t *publisher,
                            uint64_t *position);

/**
 * Gives the message that is claimed up. Nobody has seen anything of it.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED.
 */
int memora_publisher_abort(struct memora_publisher_t *publisher);

/**
 * Becomes a subscriber of the channel. With `name` NULL: anonymous, from now on. With a name: the subscription is kept
 * while nobody holds it, and goes on where its last holder stopped. A message is done with when its holder calls recv, poll
 * or commit again after it, or closes: after a kill the last ones come once more.
 *
 * On success `*subscriber` is a new handle, to be closed with memora_subscriber_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_SUBSCRIPTION_IN_USE, MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_INVALID_NAME, MEMORA_READ_ONLY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_subscriber_open(struct memora_channel_t *channel,
                           const char *name,
                           struct memora_subscriber_t **subscriber);

/**
 * Closes the handle. NULL is allowed and does nothing. What was received is done with; a named subscription stays. A thread
 * that is waiting inside a recv is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_subscriber_close(struct memora_subscriber_t *subscriber);

/**
 * Takes the next message into `buffer`, which has room for `capacity` bytes, if there is one. Never waits. `*message`
 * (may be NULL) tells its length and place.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (there is none now), MEMORA_BUFFER_TOO_SMALL (`message->len` and
 * memora_last_error_amount() tell the bytes needed; the message stays for the next call), MEMORA_OVERRUN (once for each
 * loss; memora_last_error_amount() tells the messages lost; the next call goes on), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_subscriber_try_recv(struct memora_subscriber_t *subscriber,
                               void *buffer,
                               size_t capacity,
                               struct memora_message_t *message);

/**
 * As memora_subscriber_try_recv(), but waits for a message for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without
 * end; 0: not at all.
 *
 * Returns what memora_subscriber_try_recv() does, and MEMORA_TIMED_OUT instead of MEMORA_NOT_FOUND unless `timeout_ms` is 0.
 */
int memora_subscriber_recv(struct memora_subscriber_t *subscriber,
                           void *buffer,
                           size_t capacity,
                           int64_t timeout_ms,
                           struct memora_message_t *message);

/**
 * Calls `function` for up to `limit` messages that are there now. Never waits. `*count` (may be NULL) becomes their number,
 * 0 when there was none. The function may call the library, but not use this subscriber (MEMORA_BUSY), throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_OVERRUN (as memora_subscriber_try_recv() does), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_subscriber_poll(struct memora_subscriber_t *subscriber,
                           size_t limit,
                           memora_message_fn function,
                           void *context,
                           size_t *count);

/**
 * As memora_subscriber_poll(), but `data` of the function is where the message stands in the fabric: nothing is copied. It is
 * valid until the function returns. The library does not change these bytes before the next call with this subscriber; but any
 * process that has the fabric mapped for writing may do so, by a mistake or by intent, at any moment. So do not check a byte and
 * then read it again: take lengths, offsets and what else your memory safety hangs on into variables first, or use
 * memora_subscriber_poll() where a process of the fabric is not trusted.
 *
 * A message longer than the ring of its publisher takes stands in several places and is put together for the function; on a
 * channel that overruns it gets a copy, too. When the subscription is ejected while the function is at work, its bytes may be
 * those of another message: then this, or the next call, returns MEMORA_EJECTED, and the message that was handed out last was not
 * received.
 *
 * Returns what memora_subscriber_poll() does, and MEMORA_EJECTED.
 */
int memora_subscriber_poll_in_place(struct memora_subscriber_t *subscriber,
                                    size_t limit,
                                    memora_message_fn function,
                                    void *context,
                                    size_t *count);

/**
 * Says that everything received so far is done with: after a kill it does not come again. Without this call that happens
 * with the next recv or poll.
 *
 * Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_subscriber_commit(struct memora_subscriber_t *subscriber);

/**
 * Tells the bytes that were published and not yet received, with headers and padding.
 *
 * Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_subscriber_lag(struct memora_subscriber_t *subscriber, uint64_t *bytes);

/**
 * Becomes a consumer of the queue.
 *
 * With acknowledgement it holds what it receives until that is acknowledged, given back, or its time is over; when it closes or
 * dies, others get it. On a queue without, what was received is gone.
 * On success `*consumer` is a new handle, to be closed with memora_consumer_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_WRONG_KIND (the channel is no queue), MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_FULL, MEMORA_NO_SPACE,
 * MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_consumer_open(struct memora_channel_t *channel,
                         struct memora_consumer_t **consumer);

/**
 * Closes the handle. NULL is allowed and does nothing. What it holds goes to others; on a queue without acknowledgement a
 * message that did not fit a buffer and was not received again is lost. A thread that is waiting inside a recv is answered
 * MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_consumer_close(struct memora_consumer_t *consumer);

/**
 * Takes the next message into `buffer`, which has room for `capacity` bytes, if there is one. Never waits. `*delivery`
 * (may be NULL) tells its length and place, how often it was delivered, and what it is acknowledged with.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (there is none now), MEMORA_BUFFER_TOO_SMALL (`delivery->len` and
 * memora_last_error_amount() tell the bytes needed; the message stays for the next call of this consumer), MEMORA_TOO_MANY_HELD,
 * MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_consumer_try_recv(struct memora_consumer_t *consumer,
                             void *buffer,
                             size_t capacity,
                             struct memora_delivery_t *delivery);

/**
 * As memora_consumer_try_recv(), but waits for a message for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end;
 * 0: not at all.
 *
 * Returns what memora_consumer_try_recv() does, and MEMORA_TIMED_OUT instead of MEMORA_NOT_FOUND unless `timeout_ms` is 0.
 */
int memora_consumer_recv(struct memora_consumer_t *consumer,
                         void *buffer,
                         size_t capacity,
                         int64_t timeout_ms,
                         struct memora_delivery_t *delivery);

/**
 * Calls `function` for up to `limit` messages that are there now. Never waits. `*count` (may be NULL) becomes their number,
 * 0 when there was none. The function may call the library, but not use this consumer (MEMORA_BUSY), throw or jump out:
 * acknowledge after the poll, with copies of the receipts or with memora_consumer_ack_all().
 *
 * Messages are taken in batches: on a queue without acknowledgement those of a batch that the function has not seen yet are lost
 * if the process dies.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_HELD, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_consumer_poll(struct memora_consumer_t *consumer,
                         size_t limit,
                         memora_delivery_fn function,
                         void *context,
                         size_t *count);

/**
 * Says that the message is handled: nobody gets it again.
 *
 * Returns MEMORA_OK, MEMORA_NOT_HELD (its time was over and another has it, or it was acknowledged or given back before),
 * MEMORA_BUSY, MEMORA_INVALID_ARGUMENT (also on a queue without acknowledgement), MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_consumer_ack(struct memora_consumer_t *consumer,
                        const struct memora_receipt_t *receipt);

/**
 * Acknowledges everything that this consumer holds. `*count` (may be NULL) becomes the number of messages.
 *
 * Returns MEMORA_OK, MEMORA_BUSY (also while a message that did not fit its buffer waits), MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_consumer_ack_all(struct memora_consumer_t *consumer,
                            uint64_t *count);

/**
 * Gives the message back: after `delay_ms` milliseconds it is delivered again, to this consumer or another.
 *
 * Returns what memora_consumer_ack() does.
 */
int memora_consumer_nack(struct memora_consumer_t *consumer,
                         const struct memora_receipt_t *receipt,
                         uint64_t delay_ms);

/**
 * Holds the message for `time_ms` milliseconds from now on, whatever was said before. `*receipt` is changed: the old one
 * means nothing any more.
 *
 * Returns what memora_consumer_ack() does.
 */
int memora_consumer_extend(struct memora_consumer_t *consumer,
                           struct memora_receipt_t *receipt,
                           uint64_t time_ms);

/**
 * Opens the log `name` of `fabric`, or creates it with `options`. NULL: the defaults. A log with files that is not there is made
 * from them: positions go on where they ended, and named readers stand where they stood.
 *
 * On success `*log` is a new handle, to be closed with memora_channel_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND (it is no log), MEMORA_WRONG_OPTIONS,
 * MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_IO (a file), MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_open(struct memora_fabric_t *fabric,
                    const char *name,
                    const struct memora_log_options_t *options,
                    struct memora_channel_t **log);

/**
 * Becomes an appender of the log.
 *
 * On success `*appender` is a new handle, to be closed with memora_appender_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_WRONG_KIND, MEMORA_TOO_MANY_PUBLISHERS, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_appender_open(struct memora_channel_t *log,
                         struct memora_appender_t **appender);

/**
 * Closes the handle. NULL is allowed and does nothing. What was appended stays.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_appender_close(struct memora_appender_t *appender);

/**
 * Appends a message. Never waits: what is in the way is trimmed. `*position` (may be NULL) becomes its position. The bytes are
 * copied.
 *
 * Returns MEMORA_OK, MEMORA_LOG_FULL (a named reader of a log with MEMORA_OVERRUN_BLOCK has still to read what is in the way;
 * memora_last_error_amount() tells where it stands), MEMORA_VALUE_TOO_LONG, MEMORA_TOO_MANY_PUBLISHERS, MEMORA_BUSY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_appender_append(struct memora_appender_t *appender,
                           const void *data,
                           size_t len,
                           uint64_t *position);

/**
 * As memora_appender_append(), with a durability of its own: one of MEMORA_DURABILITY_*. With MEMORA_DURABILITY_SYNC the message is on
 * the disk when the call returns; an error of the flush says that it is visible and not known to be durable.
 *
 * Returns as memora_appender_append(), and MEMORA_INVALID_ARGUMENT for anything but MEMORA_DURABILITY_PROCESS on a log without
 * files, MEMORA_NO_SPACE, MEMORA_POISONED (a sync failed, now or before), MEMORA_IO, MEMORA_TIMED_OUT (the disk hangs).
 */
int memora_appender_append_durable(struct memora_appender_t *appender,
                                   const void *data,
                                   size_t len,
                                   uint32_t durability,
                                   uint64_t *position);

/**
 * Claims room for a message of `len` bytes. Then write it with memora_appender_write(), and commit or abort it. It has no position
 * before the commit, and nobody waits for it. Bytes that are not written are 0.
 *
 * Returns as memora_appender_append(), and MEMORA_BUSY when a message is claimed already.
 */
int memora_appender_claim(struct memora_appender_t *appender,
                          size_t len);

/**
 * Writes `len` bytes at byte `at` of the message that is claimed. In any order, any number of times.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_INVALID_ARGUMENT (also when the bytes do not fit),
 * MEMORA_BUSY, MEMORA_CLOSED.
 */
int memora_appender_write(struct memora_appender_t *appender,
                          size_t at,
                          const void *data,
                          size_t len);

/**
 * Makes the message that is claimed visible to the readers. `*position` (may be NULL) becomes its position.
 *
 * Returns as memora_appender_append(), and MEMORA_NOT_FOUND (no message is claimed). After an error of MEMORA_LOG_FULL the claim stands.
 */
int memora_appender_commit(struct memora_appender_t *appender,
                           uint64_t *position);

/**
 * Gives the message that is claimed up. Nobody has seen anything of it.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (no message is claimed), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED.
 */
int memora_appender_abort(struct memora_appender_t *appender);

/**
 * Waits until everything that anybody appended before, and where the named readers stand, is in files that are synced.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (the log has no files), MEMORA_WRONG_KIND, MEMORA_NO_SPACE, MEMORA_POISONED,
 * MEMORA_IO, MEMORA_TIMED_OUT, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_flush(struct memora_channel_t *log);

/**
 * Becomes a reader of the log, which begins at `from`, one of MEMORA_FROM_*; `position` counts with MEMORA_FROM_POSITION. With
 * `name` NULL others do not know of it. With a name it goes on where its last holder stopped, if there was one, and `from` is
 * not used; a message is done with when its holder calls recv, poll or commit again after it, or closes.
 *
 * On success `*reader` is a new handle, to be closed with memora_log_reader_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_POSITION_TRIMMED (memora_last_error_amount() tells the oldest position), MEMORA_POSITION_AHEAD (it
 * tells the end), MEMORA_WRONG_KIND, MEMORA_SUBSCRIPTION_IN_USE, MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_INVALID_NAME,
 * MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_reader_open(struct memora_channel_t *log,
                           const char *name,
                           uint32_t from,
                           uint64_t position,
                           struct memora_log_reader_t **reader);

/**
 * Closes the handle. NULL is allowed and does nothing. What was read is done with; a name keeps its position. A thread that is
 * waiting inside a recv is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_log_reader_close(struct memora_log_reader_t *reader);

/**
 * Reads the next message into `buffer`, which has room for `capacity` bytes, waiting for it for `timeout_ms` milliseconds at
 * most; MEMORA_FOREVER: without end; 0: not at all. `*message` (may be NULL) tells its length and position.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0: there is none now), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL
 * (`message->len` and memora_last_error_amount() tell the bytes needed; the message stays for the next call), MEMORA_OVERRUN
 * (messages were trimmed before they were read; memora_last_error_amount() tells how many; the next call goes on behind them),
 * MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_reader_recv(struct memora_log_reader_t *reader,
                           void *buffer,
                           size_t capacity,
                           int64_t timeout_ms,
                           struct memora_log_message_t *message);

/**
 * Calls `function` for up to `limit` messages that are there now. Never waits. `*count` (may be NULL) becomes their number,
 * 0 when there was none. The function may call the library, but not use this reader (MEMORA_BUSY), throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_OVERRUN (as memora_log_reader_recv() does), MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_reader_poll(struct memora_log_reader_t *reader,
                           size_t limit,
                           memora_log_message_fn function,
                           void *context,
                           size_t *count);

/**
 * Says that everything read so far is done with: after a kill a named reader does not see it again.
 *
 * Returns MEMORA_OK, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_reader_commit(struct memora_log_reader_t *reader);

/**
 * Goes on elsewhere: `from` and `position` as with memora_log_reader_open(). What was read before is done with.
 *
 * Returns MEMORA_OK, MEMORA_POSITION_TRIMMED, MEMORA_POSITION_AHEAD, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_reader_seek(struct memora_log_reader_t *reader,
                           uint32_t from,
                           uint64_t position);

/**
 * Tells the position of the message that is read next, and how many messages there are from there to the end. Both may be NULL.
 *
 * Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_reader_position(struct memora_log_reader_t *reader,
                               uint64_t *position,
                               uint64_t *lag);

/**
 * Ends the named reader `name`, whose holder is away: it keeps nothing any more. `*ended` (may be NULL) becomes 1, or 0 if there
 * is none.
 *
 * Returns MEMORA_OK, MEMORA_SUBSCRIPTION_IN_USE, MEMORA_INVALID_NAME, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_forget(struct memora_channel_t *log,
                      const char *name,
                      int *ended);

/**
 * Gives figures of the log. `struct_size` is sizeof *stats.
 *
 * Returns MEMORA_OK, MEMORA_WRONG_KIND, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_log_stats(struct memora_channel_t *log,
                     struct memora_log_stats_t *stats,
                     size_t struct_size);

/**
 * Waits until one of `count` sources (1 to 127, of any fabrics) has a message, or an error to tell, `timeout_ms` milliseconds at most;
 * MEMORA_FOREVER: without end; 0: only looks. `*ready` (may be NULL) becomes the place of the first that has. What the sources handed out
 * last counts as handled. A consumer of a queue may find nothing then: others took it, or it was time to look after what others hold.
 * Any thread may close a source meanwhile: the call ends within 50 ms with MEMORA_CLOSED.
 *
 * Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_wait_any(const struct memora_source_t *sources,
                    size_t count,
                    int64_t timeout_ms,
                    size_t *ready);

/**
 * Makes a file descriptor (an eventfd) that becomes readable when one of several sources has something: for poll(), epoll and the event
 * loops above them.
 *
 * On success `*readiness` is a new handle, to be closed with memora_readiness_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_IO.
 */
int memora_readiness_open(struct memora_readiness_t **readiness);

/**
 * `*fd` becomes the descriptor, which stays that of the handle: do not close it, and do not use it after closing the handle. Reading
 * it is not needed.
 *
 * Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_readiness_fd(struct memora_readiness_t *readiness,
                        int *fd);

/**
 * From now on the descriptor is not readable until one of `count` sources (1 to 127, of any fabrics) has a message, or an error to tell; it
 * is at once if one has already. When it is, take the messages until there are none, and arm it again. What was armed before counts no
 * more; what the sources handed out last counts as handled. It may become readable although a consumer of a queue finds nothing. While
 * it is armed a thread of the library sleeps in place of the loop.
 *
 * Returns MEMORA_OK, MEMORA_EJECTED, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT, MEMORA_IO.
 */
int memora_readiness_arm(struct memora_readiness_t *readiness,
                         const struct memora_source_t *sources,
                         size_t count);

/**
 * Closes the handle and its descriptor. NULL is allowed and does nothing.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_readiness_close(struct memora_readiness_t *readiness);

/**
 * Listens to the events of a cache from now on. The cache must have been made with the option `events`.
 *
 * Nobody waits for one who listens: if it is too slow, events are lost, and it is told how many. Two things are not events: what a
 * process that was killed between a change and its event did last, and an expired entry that nobody has removed yet.
 * On success `*events` is a new handle, to be closed with memora_events_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_UNSUPPORTED (the cache has no events), MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_READ_ONLY, MEMORA_FULL,
 * MEMORA_NO_SPACE, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_events_open(struct memora_cache_t *cache,
                       struct memora_events_t **events);

/**
 * Takes the next event: `*event`, and its key in `key`, which has room for `capacity` bytes; `*key_len` (may be NULL, as `event`)
 * becomes the length of the key. Waits for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all.
 *
 * MEMORA_OVERRUN comes once for each loss: memora_last_error_amount() events were lost, and the next call goes on behind them.
 * With MEMORA_BUFFER_TOO_SMALL the event stays for the next call.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_OVERRUN, MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_events_next(struct memora_events_t *events,
                       int64_t timeout_ms,
                       void *key,
                       size_t capacity,
                       size_t *key_len,
                       struct memora_event_t *event);

/**
 * Closes the handle. NULL is allowed and does nothing. A call of another thread that waits ends with MEMORA_CLOSED.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_events_close(struct memora_events_t *events);

/**
 * Opens the event `name` of `fabric`, or makes it.
 *
 * On success `*event` is a new handle, to be closed with memora_named_event_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE,
 * MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_named_event_open(struct memora_fabric_t *fabric,
                            const char *name,
                            struct memora_named_event_t **event);

/**
 * Closes the handle. NULL is allowed and does nothing. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_event_close(struct memora_named_event_t *event);

/**
 * How often all were notified: what to give to the next memora_named_event_wait().
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_event_sequence(struct memora_named_event_t *event, uint64_t *sequence);

/**
 * Notifies all: every wait that knows an older sequence ends, those that begin later included. `*sequence` (may be NULL) becomes
 * the new sequence. No system call if nobody sleeps.
 *
 * Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_event_notify_all(struct memora_named_event_t *event,
                                  uint64_t *sequence);

/**
 * Notifies one: exactly one wait ends by this, one that lasts or else the next that begins. No system call if nobody sleeps.
 *
 * Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_event_notify_one(struct memora_named_event_t *event);

/**
 * Waits until the sequence is greater than `seen`, or there is a notification for one, which this wait then has taken.
 * `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only looks. `*sequence` (may be NULL) becomes the sequence to wait with
 * next, `*one` (may be NULL) 1 if the notification was for one, else 0.
 *
 * Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_event_wait(struct memora_named_event_t *event,
                            uint64_t seen,
                            int64_t timeout_ms,
                            uint64_t *sequence,
                            int *one);

/**
 * Opens the counter `name` of `fabric`, or makes it with the value 0.
 *
 * On success `*counter` is a new handle, to be closed with memora_named_counter_close(); else it is NULL.
 * Returns what memora_named_event_open() does.
 */
int memora_named_counter_open(struct memora_fabric_t *fabric,
                              const char *name,
                              struct memora_named_counter_t **counter);

/**
 * Closes the handle. NULL is allowed and does nothing. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_counter_close(struct memora_named_counter_t *counter);

/**
 * `*value` becomes the counter's value.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_counter_get(struct memora_named_counter_t *counter, int64_t *value);

/**
 * Adds `delta`, which may be negative; it wraps at 64 bits. `*value` (may be NULL) becomes the new value.
 *
 * Returns MEMORA_OK, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_counter_add(struct memora_named_counter_t *counter, int64_t delta, int64_t *value);

/**
 * Sets the value. `*before` (may be NULL) becomes the one before.
 *
 * Returns what memora_named_counter_add() does.
 */
int memora_named_counter_set(struct memora_named_counter_t *counter, int64_t value, int64_t *before);

/**
 * Sets the value to `value` if it is `expected`. `*before` (may be NULL) becomes what it was: it was set if and only if that is
 * `expected`.
 *
 * Returns what memora_named_counter_add() does.
 */
int memora_named_counter_compare_and_swap(struct memora_named_counter_t *counter,
                                          int64_t expected,
                                          int64_t value,
                                          int64_t *before);

/**
 * Waits until the value is `least` or more, for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only looks.
 * `*value` (may be NULL) becomes the value.
 *
 * Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_counter_wait_at_least(struct memora_named_counter_t *counter,
                                       int64_t least,
                                       int64_t timeout_ms,
                                       int64_t *value);

/**
 * Waits until the value is another than `seen`, for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only
 * looks. `*value` (may be NULL) becomes the value.
 *
 * Returns what memora_named_counter_wait_at_least() does.
 */
int memora_named_counter_wait_changed(struct memora_named_counter_t *counter,
                                      int64_t seen,
                                      int64_t timeout_ms,
                                      int64_t *value);

/**
 * Opens the lock `name` of `fabric`, or makes it.
 *
 * On success `*lock` is a new handle, to be closed with memora_named_lock_close(); else it is NULL.
 * Returns what memora_named_event_open() does.
 */
int memora_named_lock_open(struct memora_fabric_t *fabric,
                           const char *name,
                           struct memora_named_lock_t **lock);

/**
 * Closes the handle. NULL is allowed and does nothing. The lock stays as it is: a thread that owns it lets go through another
 * handle, or by ending, which is a death. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_lock_close(struct memora_named_lock_t *lock);

/**
 * Locks it for the calling thread, waiting `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: only looks.
 * `*owner_died` (may be NULL) becomes 1 if an owner died while it held the lock and nobody called
 * memora_named_lock_mark_consistent() since: what the lock guards may be half done; else 0. A stopped owner keeps the lock.
 *
 * Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_WOULD_DEADLOCK (the calling thread owns it already), MEMORA_TOO_MANY_THREADS,
 * MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_named_lock_lock(struct memora_named_lock_t *lock,
                           int64_t timeout_ms,
                           int *owner_died);

/**
 * Lets go of the lock, which the calling thread owns.
 *
 * Returns MEMORA_OK, MEMORA_NOT_OWNER, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_named_lock_unlock(struct memora_named_lock_t *lock);

/**
 * Says that what the lock guards, which the calling thread owns, is whole again after the death of an owner: the next owners are
 * not told any more.
 *
 * Returns what memora_named_lock_unlock() does.
 */
int memora_named_lock_mark_consistent(struct memora_named_lock_t *lock);

/**
 * Opens the semaphore `name` of `fabric`, or makes it with so many permits, 1 to 32767. With 0 it must be there, with any number.
 *
 * On success `*semaphore` is a new handle, to be closed with memora_named_semaphore_close(); else it is NULL.
 * Returns what memora_named_event_open() does, or MEMORA_NOT_FOUND, MEMORA_WRONG_OPTIONS.
 */
int memora_named_semaphore_open(struct memora_fabric_t *fabric,
                                const char *name,
                                uint32_t permits,
                                struct memora_named_semaphore_t **semaphore);

/**
 * Closes the handle. NULL is allowed and does nothing. Permits stay where they are: a thread that holds some gives them back
 * through another handle, or by ending, which is a death. A thread that is waiting inside is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_named_semaphore_close(struct memora_named_semaphore_t *semaphore);

/**
 * Takes `count` permits at once for the calling thread, waiting `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end;
 * 0: only looks. `*owner_died` (may be NULL) becomes 1 if permits of a thread that died came back and this is the first to take
 * permits since; else 0. Permits of a stopped thread stay its own.
 *
 * Returns MEMORA_OK, MEMORA_TIMED_OUT, MEMORA_WOULD_DEADLOCK (the calling thread holds too many itself),
 * MEMORA_TOO_MANY_THREADS, MEMORA_BUSY, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_named_semaphore_acquire(struct memora_named_semaphore_t *semaphore,
                                   uint32_t count,
                                   int64_t timeout_ms,
                                   int *owner_died);

/**
 * Gives back `count` permits that the calling thread holds.
 *
 * Returns MEMORA_OK, MEMORA_NOT_OWNER, MEMORA_BUSY, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_named_semaphore_release(struct memora_named_semaphore_t *semaphore,
                                   uint32_t count);

/**
 * `*permits` (may be NULL) becomes the number of all permits, `*free` (may be NULL) that of those that nobody holds now.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_named_semaphore_count(struct memora_named_semaphore_t *semaphore,
                                 uint32_t *permits,
                                 uint32_t *free);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_service_options_init(struct memora_service_options_t *options, size_t struct_size);

/**
 * Opens the service `name` of `fabric`, or creates it with `options`. With `options` NULL it must be there.
 *
 * On success `*service` is a new handle, to be closed with memora_service_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND,
 * MEMORA_WRONG_OPTIONS, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_service_open(struct memora_fabric_t *fabric,
                        const char *name,
                        const struct memora_service_options_t *options,
                        struct memora_service_t **service);

/**
 * Closes the handle. NULL is allowed and does nothing. Clients and servers of the service stay open.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_service_close(struct memora_service_t *service);

/**
 * Fills `stats` with figures of the service. `struct_size` is sizeof *stats.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_service_stats(struct memora_service_t *service,
                         struct memora_service_stats_t *stats,
                         size_t struct_size);

/**
 * Becomes a client of the service.
 *
 * On success `*client` is a new handle, to be closed with memora_client_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_CLIENTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_client_open(struct memora_service_t *service,
                       struct memora_client_t **client);

/**
 * Closes the handle. NULL is allowed and does nothing. Calls under way are given up; a thread that waits for one is answered
 * MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_client_close(struct memora_client_t *client);

/**
 * Sends a request and does not wait: `*id` becomes the number by which the other functions know the call.
 *
 * With MEMORA_FULL there is no memory for a request that is longer than `message_bytes`, and nothing was sent.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_CALLS, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED,
 * MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_client_send(struct memora_client_t *client,
                       const void *data,
                       size_t len,
                       uint64_t *id);

/**
 * Waits for the reply to a call, `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: looks, and the call goes on
 * if there is none. The reply goes to `reply`, which has room for `capacity` bytes; `*reply_len` (may be NULL) becomes its length.
 *
 * MEMORA_PEER_DIED comes at once when the server that took the call is dead. After MEMORA_TIMED_OUT a reply that comes is dropped.
 * With MEMORA_BUFFER_TOO_SMALL the reply stays for the next call of this function; memora_last_error_amount() is its length.
 * All other answers but MEMORA_OK, MEMORA_NOT_FOUND and MEMORA_BUSY are the end of the call, too.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_PEER_DIED, MEMORA_UNANSWERED,
 * MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_client_wait(struct memora_client_t *client,
                       uint64_t id,
                       int64_t timeout_ms,
                       void *reply,
                       size_t capacity,
                       size_t *reply_len);

/**
 * Sends a request and waits for the reply: memora_client_send() and memora_client_wait(). With `timeout_ms` 0 the call ends at
 * once, with MEMORA_TIMED_OUT.
 *
 * With MEMORA_BUFFER_TOO_SMALL the server has answered; memora_client_wait_any() gives the reply.
 * Returns what these two do, but for MEMORA_NOT_FOUND.
 */
int memora_client_call(struct memora_client_t *client,
                       const void *data,
                       size_t len,
                       int64_t timeout_ms,
                       void *reply,
                       size_t capacity,
                       size_t *reply_len);

/**
 * Waits for the end of any call of the client, as memora_client_wait() does for one: `*id` becomes the call, and the answer is how
 * it ended. Calls go on when the time is over. MEMORA_NOT_FOUND: none is under way, or, with `timeout_ms` 0, none is at its end.
 *
 * `*id` becomes 0 when the answer belongs to no call.
 * Returns what memora_client_wait() does.
 */
int memora_client_wait_any(struct memora_client_t *client,
                           int64_t timeout_ms,
                           uint64_t *id,
                           void *reply,
                           size_t capacity,
                           size_t *reply_len);

/**
 * Gives a call up: a request that no server took is never served, a reply that comes later is dropped.
 *
 * Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT (its end was told before), MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_client_cancel(struct memora_client_t *client,
                         uint64_t id);

/**
 * Becomes a server of the service.
 *
 * On success `*server` is a new handle, to be closed with memora_server_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_CLIENTS, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_server_open(struct memora_service_t *service,
                       struct memora_server_t **server);

/**
 * Closes the handle. NULL is allowed and does nothing. Requests that were taken and not answered are let go: their clients are
 * told MEMORA_UNANSWERED. A thread that waits is answered MEMORA_CLOSED within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_server_close(struct memora_server_t *server);

/**
 * Takes the next request into `data`, which has room for `capacity` bytes; `*request` becomes what is said of it. Waits for
 * `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all. Each request is taken by one server, once. It must
 * be answered by memora_server_reply() or memora_server_refuse().
 *
 * With MEMORA_BUFFER_TOO_SMALL the request stays for the next call; memora_last_error_amount() is its length.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_server_take(struct memora_server_t *server,
                       int64_t timeout_ms,
                       void *data,
                       size_t capacity,
                       struct memora_request_t *request);

/**
 * Answers a request, from any thread. `*waited_for` (may be NULL) becomes 1 if its client was waiting for the reply, 0 if it had
 * given up or was gone: then the reply was dropped, unless the client gave up in this very moment, and had seen it.
 *
 * With MEMORA_VALUE_TOO_LONG, and with MEMORA_FULL (there is no memory for a reply that is longer than `message_bytes`), the request is
 * still to be answered.
 * Returns MEMORA_OK, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_INVALID_ARGUMENT (it was answered before), MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_server_reply(struct memora_server_t *server,
                        const struct memora_request_t *request,
                        const void *data,
                        size_t len,
                        int *waited_for);

/**
 * Lets a request go without a reply: its client is told MEMORA_UNANSWERED, unless it had given up.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (it was answered before), MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_server_refuse(struct memora_server_t *server,
                         const struct memora_request_t *request);

/**
 * Fills `options` with the defaults. `struct_size` is sizeof *options.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT.
 */
int memora_topic_options_init(struct memora_topic_options_t *options, size_t struct_size);

/**
 * Opens the topic `name` of `fabric`, or creates it with `options`. With `options` NULL it must be there.
 *
 * On success `*topic` is a new handle, to be closed with memora_topic_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND,
 * MEMORA_WRONG_OPTIONS, MEMORA_LIMIT_TOO_SMALL, MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_topic_open(struct memora_fabric_t *fabric,
                      const char *name,
                      const struct memora_topic_options_t *options,
                      struct memora_topic_t **topic);

/**
 * Closes the handle. NULL is allowed and does nothing. Subscribers stay open.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_topic_close(struct memora_topic_t *topic);

/**
 * Gives a key a new value. `*number` (may be NULL) becomes how often the key was published. Waits for nobody.
 *
 * Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_BUSY, MEMORA_READ_ONLY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_topic_publish(struct memora_topic_t *topic,
                         const void *key,
                         size_t key_len,
                         const void *value,
                         size_t value_len,
                         uint64_t *number);

/**
 * Publishes that a key has no value any more. `*number` (may be NULL) becomes how often the key was published.
 *
 * Returns what memora_topic_publish() does.
 */
int memora_topic_retract(struct memora_topic_t *topic,
                         const void *key,
                         size_t key_len,
                         uint64_t *number);

/**
 * Fills `stats` with figures of the topic. `struct_size` is sizeof *stats.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_topic_stats(struct memora_topic_t *topic, struct memora_topic_stats_t *stats, size_t struct_size);

/**
 * Becomes a subscriber of the topic: it gets the newest value of each key first, then those that are published.
 *
 * On success `*subscriber` is a new handle, to be closed with memora_topic_subscriber_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_SUBSCRIBERS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_topic_subscribe(struct memora_topic_t *topic,
                           struct memora_topic_subscriber_t **subscriber);

/**
 * Takes the newest value of some key that has one which this subscriber has not got: the key goes to `key`, the value to `value`, and
 * `*update` (may be NULL) becomes what came with it. Waits for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at
 * all.
 *
 * With MEMORA_BUFFER_TOO_SMALL the update stays for the next call, and `*update` says how long key and value are.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL, MEMORA_BUSY, MEMORA_EJECTED,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_topic_next(struct memora_topic_subscriber_t *subscriber,
                      int64_t timeout_ms,
                      void *key,
                      size_t key_capacity,
                      void *value,
                      size_t value_capacity,
                      struct memora_update_t *update);

/**
 * Closes the handle. NULL is allowed and does nothing. A call of another thread that waits ends with MEMORA_CLOSED.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_topic_subscriber_close(struct memora_topic_subscriber_t *subscriber);

/**
 * Opens the store `name` of `fabric`, or creates it; if its files have more than the fabric, it is recovered from them.
 * `options` may be NULL for the defaults.
 *
 * On success `*store` is a new handle, to be closed with memora_store_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME, MEMORA_WRONG_KIND, MEMORA_WRONG_OPTIONS,
 * MEMORA_TOO_MANY_OBJECTS, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_NOT_A_STORE, MEMORA_JOURNAL_CORRUPT,
 * MEMORA_PERMISSION_DENIED, MEMORA_IO, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_open(struct memora_fabric_t *fabric,
                      const char *name,
                      const struct memora_store_options_t *options,
                      struct memora_store_t **store);

/**
 * Flushes, unless the durability is process, and closes the handle, also when that failed. NULL is allowed and does nothing.
 * Calls of other threads that are under way finish.
 *
 * Returns MEMORA_OK, MEMORA_POISONED, MEMORA_IO, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_store_close(struct memora_store_t *store);

/**
 * Copies the value of `key` into `buffer`, which has room for `capacity` bytes. Lock-free; never waits for the disk.
 *
 * `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The
 * value may be another one by the second call; so repeat it while it answers MEMORA_BUFFER_TOO_SMALL.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer's content is then
 * undefined), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_get(struct memora_store_t *store,
                     const void *key,
                     size_t key_len,
                     void *buffer,
                     size_t capacity,
                     size_t *len);

/**
 * As memora_store_get(), and tells the version, the flags and the rest of the time to live in `*entry`.
 *
 * Returns what memora_store_get() does.
 */
int memora_store_get_entry(struct memora_store_t *store,
                           const void *key,
                           size_t key_len,
                           void *buffer,
                           size_t capacity,
                           size_t *len,
                           struct memora_entry_t *entry);

/**
 * Looks `count` keys up and calls `function` once for each, as memora_cache_get_many() does.
 *
 * Returns what that does.
 */
int memora_store_get_many(struct memora_store_t *store,
                          const struct memora_bytes_t *keys,
                          size_t count,
                          memora_value_fn function,
                          void *context);

/**
 * Stores `value` under `key`, whatever is there; the answer survives what the durability of the store says. `options` (time to live, flags) may be NULL, `version` too.
 *
 * The bytes are copied. `*version` becomes the version of the new entry.
 * Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_FULL, MEMORA_NO_SPACE, MEMORA_READ_ONLY,
 * MEMORA_POISONED, MEMORA_IO, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_set(struct memora_store_t *store,
                     const void *key,
                     size_t key_len,
                     const void *value,
                     size_t value_len,
                     const struct memora_set_options_t *options,
                     uint64_t *version);

/**
 * As memora_store_set(), but only if there is no entry under `key`.
 *
 * Returns what memora_store_set() does, or MEMORA_ALREADY_EXISTS.
 */
int memora_store_add(struct memora_store_t *store,
                     const void *key,
                     size_t key_len,
                     const void *value,
                     size_t value_len,
                     const struct memora_set_options_t *options,
                     uint64_t *version);

/**
 * As memora_store_set(), but only if there is an entry under `key`.
 *
 * Returns what memora_store_set() does, or MEMORA_NOT_FOUND.
 */
int memora_store_replace(struct memora_store_t *store,
                         const void *key,
                         size_t key_len,
                         const void *value,
                         size_t value_len,
                         const struct memora_set_options_t *options,
                         uint64_t *version);

/**
 * Stores `value` under `key` only if the entry there still has version `expected`.
 *
 * `*version` (may be NULL) becomes the version of the new entry, or with MEMORA_STALE that of the one found.
 * Returns what memora_store_set() does, or MEMORA_STALE, MEMORA_NOT_FOUND.
 */
int memora_store_compare_and_swap(struct memora_store_t *store,
                                  const void *key,
                                  size_t key_len,
                                  const void *value,
                                  size_t value_len,
                                  uint64_t expected,
                                  const struct memora_set_options_t *options,
                                  uint64_t *version);

/**
 * Deletes the entry under `key`.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND, MEMORA_KEY_TOO_LONG, MEMORA_READ_ONLY, MEMORA_POISONED, MEMORA_IO,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_delete(struct memora_store_t *store, const void *key, size_t key_len);

/**
 * Adds `by` to the number under `key`, which is kept as decimal text. If there is none: with `initial` it is created with
 * `*initial`, with NULL the answer is MEMORA_NOT_FOUND. `*number` (may be NULL) becomes the new number.
 *
 * Returns what memora_store_set() does, or MEMORA_NOT_FOUND, MEMORA_NOT_A_NUMBER, MEMORA_COUNTER_OVERFLOW.
 */
int memora_store_increment(struct memora_store_t *store,
                           const void *key,
                           size_t key_len,
                           uint64_t by,
                           const uint64_t *initial,
                           uint64_t *number);

/**
 * Takes `by` from the number under `key`; it stops at 0. Otherwise as memora_store_increment().
 *
 * Returns what memora_store_increment() does, but never MEMORA_COUNTER_OVERFLOW.
 */
int memora_store_decrement(struct memora_store_t *store,
                           const void *key,
                           size_t key_len,
                           uint64_t by,
                           const uint64_t *initial,
                           uint64_t *number);

/**
 * Tells the number of entries; those that have expired but were not met since still count.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_len(struct memora_store_t *store, uint64_t *len);

/**
 * Calls `function` for some entries, about `limit`, and moves `*cursor` on. Begin with a cursor of 0 and go on until it
 * is 0 again. An entry that is there during the whole scan comes at least once; one that comes or goes meanwhile may.
 * The function may call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_scan(struct memora_store_t *store,
                      uint64_t *cursor,
                      size_t limit,
                      memora_entry_fn function,
                      void *context);

/**
 * Calls `function` for the entries whose keys lie between `from` and `to`, in the order of their bytes, at most `limit` of
 * them. NULL: no bound. `flags` are those of MEMORA_RANGE_*; without any the scan goes forwards, with `from`, without `to`.
 * An entry that is there during the whole scan comes once; one that comes or goes meanwhile may. `more`, which may be NULL,
 * tells whether there may be more: then go on behind the last key that came, with MEMORA_RANGE_FROM_EXCLUDED, or
 * backwards before it, without MEMORA_RANGE_TO_INCLUDED.
 * The function may call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_NOT_ORDERED, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_range(struct memora_store_t *store,
                       const void *from,
                       size_t from_len,
                       const void *to,
                       size_t to_len,
                       uint32_t flags,
                       size_t limit,
                       memora_entry_fn function,
                       void *context,
                       int *more);

/**
 * As memora_store_range(), of the keys that begin with `prefix`; of the flags only MEMORA_RANGE_BACKWARD. Where there is more, go
 * on with memora_store_range().
 *
 * Returns what memora_store_range() does.
 */
int memora_store_prefix(struct memora_store_t *store,
                        const void *prefix,
                        size_t prefix_len,
                        uint32_t flags,
                        size_t limit,
                        memora_entry_fn function,
                        void *context,
                        int *more);

/**
 * As memora_store_set() without options, with another durability for this one write: one of MEMORA_DURABILITY_*.
 *
 * Returns what memora_store_set() does.
 */
int memora_store_set_durable(struct memora_store_t *store,
                             const void *key,
                             size_t key_len,
                             const void *value,
                             size_t value_len,
                             uint32_t durability,
                             uint64_t *version);

/**
 * Waits until everything that was answered so far, to any process, stands on the disk.
 *
 * Returns MEMORA_OK, MEMORA_POISONED, MEMORA_IO, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_flush(struct memora_store_t *store);

/**
 * Writes all entries to a checkpoint and lets the journal before it go.
 *
 * Returns MEMORA_OK, MEMORA_BUSY (another process is doing it), MEMORA_POISONED, MEMORA_IO, MEMORA_NO_SPACE,
 * MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_checkpoint(struct memora_store_t *store);

/**
 * Changes how many shards the files of the store are divided into, 1 to 64, while everybody goes on reading and writing. Returns when they are
 * divided so: a checkpoint of each new shard is written. memora_store_stats() says how many there are.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (no such number, or a store without files), MEMORA_BUSY (others change it all the time),
 * MEMORA_TIMED_OUT, MEMORA_POISONED, MEMORA_IO, MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_set_shards(struct memora_store_t *store,
                            uint32_t shards);

/**
 * Makes an outbox of a stream, a broadcast or a queue, with a lane as memora_publisher_open() has it.
 *
 * On success `*outbox` is a new handle, to be closed with memora_outbox_close(); else it is NULL.
 * Returns what memora_publisher_open() does, and MEMORA_WRONG_KIND for a log.
 */
int memora_channel_outbox(struct memora_channel_t *channel, struct memora_outbox_t **outbox);

/**
 * Closes the handle. NULL is allowed and does nothing. What was sent stays for the subscribers, and transactions that have published
 * through it can still commit.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_outbox_close(struct memora_outbox_t *outbox);

/**
 * Writes a backup of a store into the directory `dir`, which must be empty or not there, while everybody goes on writing.
 *
 * It holds everything that was answered before the call, and is the state of one moment after it, with whole transactions; of a
 * store without files it is that of each key by itself. `function` may be NULL, `info` too;
 * `info_size` is its size.
 * Returns MEMORA_OK, MEMORA_ALREADY_EXISTS, MEMORA_NO_SPACE, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_backup(struct memora_store_t *store,
                        const char *dir,
                        memora_progress_fn function,
                        void *context,
                        struct memora_backup_info_t *info,
                        size_t info_size);

/**
 * Makes a store of the backup in `from`, a directory or a file with a stream, in the directory `to`, which must be empty or not
 * there. Open it with memora_store_open() and that directory.
 *
 * `name` is that of the new store, NULL for that of the old one. `flags` is 0 or MEMORA_RESTORE_OVERWRITE. A bad backup leaves no
 * store, and one that was there untouched. `function` and `info` may be NULL.
 * Returns MEMORA_OK, MEMORA_ALREADY_EXISTS, MEMORA_NOT_A_BACKUP, MEMORA_NOT_A_STORE (`to` holds something else),
 * MEMORA_JOURNAL_CORRUPT, MEMORA_TRUNCATED, MEMORA_MANIFEST_MISSING, MEMORA_OTHER_VERSION, MEMORA_BUSY, MEMORA_NO_SPACE,
 * MEMORA_NOT_FOUND, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO, MEMORA_INVALID_ARGUMENT,
 * MEMORA_INVALID_NAME.
 */
int memora_restore(const char *from,
                   const char *to,
                   const char *name,
                   uint32_t flags,
                   memora_progress_fn function,
                   void *context,
                   struct memora_backup_info_t *info,
                   size_t info_size);

/**
 * Reads every byte of the files of a store or backup in `dir` as recovery would; changes nothing and needs no fabric.
 *
 * What is wrong first is the answer; memora_last_error_message() names file and offset. `function` and `report` may be NULL.
 * Returns MEMORA_OK, MEMORA_JOURNAL_CORRUPT, MEMORA_TRUNCATED, MEMORA_MANIFEST_MISSING, MEMORA_FEED_DAMAGED (only readers of the
 * change feed lose something), MEMORA_OTHER_VERSION,
 * MEMORA_NOT_A_STORE, MEMORA_NOT_FOUND, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO, MEMORA_INVALID_ARGUMENT.
 */
int memora_verify(const char *dir,
                  memora_progress_fn function,
                  void *context,
                  struct memora_verify_report_t *report,
                  size_t report_size);

/**
 * Says what is damaged in the files of a store in `dir` and exactly what that loses: `function` gets each loss. With
 * MEMORA_REPAIR_APPLY in `flags` the rest is saved, and the originals are kept beside under other names.
 *
 * `*sound` becomes 1 if there was nothing to repair, else 0; `*records` the number of records that can be read. Each may be NULL, and
 * `function`. `name` is needed only where the file STORE is damaged, else NULL.
 * Returns MEMORA_OK, MEMORA_NOT_A_STORE, MEMORA_OTHER_VERSION, MEMORA_JOURNAL_CORRUPT (nothing of it can be read, or a name is
 * needed), MEMORA_BUSY, MEMORA_NO_SPACE, MEMORA_NOT_FOUND, MEMORA_PERMISSION_DENIED, MEMORA_NOT_OURS, MEMORA_IO,
 * MEMORA_INVALID_ARGUMENT, MEMORA_INVALID_NAME.
 */
int memora_repair(const char *dir,
                  const char *name,
                  uint32_t flags,
                  memora_loss_fn function,
                  void *context,
                  uint64_t *records,
                  int *sound);

/**
 * Begins a transaction of `store`, with the durability of that handle. It holds nothing that others wait for.
 *
 * What it reads is proved when it commits: until then it may see one key before and another one after the change of somebody
 * else. It cannot commit then.
 * On success `*transaction` is a new handle, to be ended with memora_transaction_commit() or memora_transaction_abort(); else it is
 * NULL. When the store is closed its calls are answered MEMORA_CLOSED, and it is still to be ended.
 * Returns MEMORA_OK, MEMORA_FULL (all handles of the process are open), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_transaction_begin(struct memora_store_t *store,
                             struct memora_transaction_t **transaction);

/**
 * Copies the value of `key` into `buffer`, which has room for `capacity` bytes: what the transaction itself has put, or what the
 * store has.
 *
 * `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The second
 * call finds the same value, or answers MEMORA_CONFLICT.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer is unchanged),
 * MEMORA_CONFLICT (the key was read before and has changed since), MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_transaction_get(struct memora_transaction_t *transaction,
                           const void *key,
                           size_t key_len,
                           void *buffer,
                           size_t capacity,
                           size_t *len);

/**
 * As memora_transaction_get(), and tells the version, the flags and the rest of the time to live in `*entry`. The version of what
 * the transaction itself has put is 0.
 *
 * Returns what memora_transaction_get() does.
 */
int memora_transaction_get_entry(struct memora_transaction_t *transaction,
                                 const void *key,
                                 size_t key_len,
                                 void *buffer,
                                 size_t capacity,
                                 size_t *len,
                                 struct memora_entry_t *entry);

/**
 * Calls `function` for the entries whose keys lie between `from` and `to`, as memora_store_range() does, but as this transaction sees
 * them, with its own changes among them. When it commits it is proved that no entry came into the part that was visited, or left it.
 *
 * All entries are read before the first call of the function, which may also use this transaction.
 * Returns MEMORA_OK, MEMORA_NOT_ORDERED, MEMORA_CONFLICT (a key was read before and has changed since),
 * MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_transaction_range(struct memora_transaction_t *transaction,
                             const void *from,
                             size_t from_len,
                             const void *to,
                             size_t to_len,
                             uint32_t flags,
                             size_t limit,
                             memora_entry_fn function,
                             void *context,
                             int *more);

/**
 * Puts `value` under `key` when the transaction commits; from now on its own reads see it. `options` (time to live, which begins
 * with the commit, and flags) may be NULL. The bytes are copied.
 *
 * An error leaves the transaction as it was.
 * Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY,
 * MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_transaction_put(struct memora_transaction_t *transaction,
                           const void *key,
                           size_t key_len,
                           const void *value,
                           size_t value_len,
                           const struct memora_set_options_t *options);

/**
 * Deletes the entry under `key` when the transaction commits. This reads the key.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (there is nothing to delete, as the transaction sees it), MEMORA_TRANSACTION_TOO_LARGE,
 * MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_transaction_delete(struct memora_transaction_t *transaction,
                              const void *key,
                              size_t key_len);

/**
 * Refuses to go on unless the entry under `key` has this version in the store now, and to commit unless it still has. `version`
 * points to what memora_store_get_entry() or a write gave; NULL: there must be no entry.
 *
 * Returns MEMORA_OK, MEMORA_CONFLICT (it is another one), MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT,
 * MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_transaction_expect(struct memora_transaction_t *transaction,
                              const void *key,
                              size_t key_len,
                              const uint64_t *version);

/**
 * Sends `message` with the commit: subscribers get it when the transaction commits, and never if it does not. The messages of one
 * outbox come in the order in which they were published, all or none, also if the process dies meanwhile; together they may take
 * what one message may. The bytes are copied.
 *
 * An error leaves the transaction as it was.
 * Returns MEMORA_OK, MEMORA_VALUE_TOO_LONG (also of all messages of the outbox together), MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY,
 * MEMORA_INVALID_ARGUMENT (also if the channel is of another fabric than the store, or of another opening of it), MEMORA_CLOSED
 * (the transaction or the outbox), MEMORA_FORKED.
 */
int memora_transaction_publish(struct memora_transaction_t *transaction,
                               struct memora_outbox_t *outbox,
                               const void *message,
                               size_t message_len);

/**
 * Sets the entry under `key` of a cache of the same fabric, which was made with `transactions`, when the transaction commits. The
 * transaction does not read caches: what is there is replaced. `options` may be NULL. The bytes are copied.
 *
 * An error leaves the transaction as it was.
 * Returns MEMORA_OK, MEMORA_KEY_TOO_LONG, MEMORA_VALUE_TOO_LONG, MEMORA_TRANSACTION_TOO_LARGE, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT
 * (also for a cache of another fabric, or that was made without `transactions`), MEMORA_CLOSED (the transaction or the cache),
 * MEMORA_FORKED.
 */
int memora_transaction_cache_set(struct memora_transaction_t *transaction,
                                 struct memora_cache_t *cache,
                                 const void *key,
                                 size_t key_len,
                                 const void *value,
                                 size_t value_len,
                                 const struct memora_set_options_t *options);

/**
 * Deletes the entry under `key` of a cache when the transaction commits, whether it is there or not: what others put there meanwhile
 * goes as well, and leases end, because it may be made of what this transaction changes.
 *
 * Returns what memora_transaction_cache_set() does.
 */
int memora_transaction_cache_delete(struct memora_transaction_t *transaction,
                                    struct memora_cache_t *cache,
                                    const void *key,
                                    size_t key_len);

/**
 * Makes the commit as durable as `durability`, one of MEMORA_DURABILITY_*, whatever the handle of the store says.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (also for a store without files that cannot be so), MEMORA_BUSY, MEMORA_CLOSED,
 * MEMORA_FORKED.
 */
int memora_transaction_set_durability(struct memora_transaction_t *transaction,
                                      uint32_t durability);

/**
 * Makes all changes take effect at one moment, or none of them, and ends the transaction: whatever this answers but MEMORA_BUSY, the
 * handle is closed, and memora_transaction_abort() with it does nothing more than to answer MEMORA_CLOSED. With durability sync the
 * changes are on the disk when it answers MEMORA_OK. It never waits for subscribers.
 *
 * Returns MEMORA_OK, MEMORA_CONFLICT (another has changed what was read, or was in the way: begin a new transaction with what is there
 * now), MEMORA_BACK_PRESSURE (a subscriber is behind and there is no room for a message: nothing was done), MEMORA_FULL,
 * MEMORA_NO_SPACE, MEMORA_READ_ONLY, MEMORA_POISONED, MEMORA_IO, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_transaction_commit(struct memora_transaction_t *transaction);

/**
 * Gives the transaction up and closes the handle; nothing of it was done. NULL is allowed and does nothing.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED (also after a commit), MEMORA_FORKED.
 */
int memora_transaction_abort(struct memora_transaction_t *transaction);

/**
 * Calls `function` with a transaction of `store` and commits it if the function gives MEMORA_OK; does both again, from the start
 * with a new transaction, as long as the function or the commit answers MEMORA_CONFLICT, and lets the others go first each time. So
 * the function should do nothing else than to read and change the store through the transaction. Any other code of the function gives
 * the transaction up and is the answer.
 *
 * The transaction ends with the call: the function neither commits nor keeps it. If it aborts it, nothing is done and the answer
 * is MEMORA_CLOSED. The function may call the library, but not throw or jump out.
 * Returns what memora_transaction_begin() and memora_transaction_commit() do, and what the function gives. MEMORA_CONFLICT: the others
 * were in the way each of 1000 times.
 */
int memora_store_transact(struct memora_store_t *store,
                          memora_transaction_fn function,
                          void *context);

/**
 * Opens a reader of the committed changes of keys that begin with the `prefix_len` bytes of `prefix` (0: of all), which begins at
 * `from`, one of MEMORA_FROM_*: with the oldest change that the files hold, with what is flushed from now on, or behind a change that
 * was handled; `position` is read with MEMORA_FROM_POSITION only and may be NULL else. The store must keep a feed: `feed_bytes` of
 * memora_store_options_t.
 *
 * On success `*feed` is a new handle, to be closed with memora_feed_close(); else it is NULL.
 * Returns MEMORA_OK, MEMORA_POSITION_TRIMMED (the files that come next were removed: read the store as it is, and go on with
 * a feed from MEMORA_FROM_NEWEST that was opened before), MEMORA_POSITION_FOREIGN, MEMORA_POSITION_AHEAD, MEMORA_INVALID_ARGUMENT
 * (also: the store keeps no feed), MEMORA_JOURNAL_CORRUPT, MEMORA_IO, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_feed(struct memora_store_t *store,
                      uint32_t from,
                      const struct memora_feed_position_t *position,
                      const void *prefix,
                      size_t prefix_len,
                      struct memora_feed_t **feed);

/**
 * Closes the handle. NULL is allowed and does nothing. A thread that is waiting inside memora_feed_next() is answered MEMORA_CLOSED
 * within 50 ms.
 *
 * Returns MEMORA_OK, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_feed_close(struct memora_feed_t *feed);

/**
 * Reads the next change: its key into `key`, which has room for `key_capacity` bytes, its value into `value`, which has room for
 * `value_capacity`, waiting for it for `timeout_ms` milliseconds at most; MEMORA_FOREVER: without end; 0: not at all. `*change` (may be
 * NULL) tells their lengths and the rest.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (with `timeout_ms` 0: there is none now), MEMORA_TIMED_OUT, MEMORA_BUFFER_TOO_SMALL (`*change` is
 * filled and tells the bytes needed; the change stays for the next call), MEMORA_POSITION_TRIMMED (it was so far behind that the files
 * that come next were removed; each further call answers the same), MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_JOURNAL_CORRUPT,
 * MEMORA_IO, MEMORA_CLOSED (also: the store was closed), MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_feed_next(struct memora_feed_t *feed,
                     void *key,
                     size_t key_capacity,
                     void *value,
                     size_t value_capacity,
                     int64_t timeout_ms,
                     struct memora_change_t *change);

/**
 * `*position` becomes the place where one goes on who has handled every change that memora_feed_next() gave: MEMORA_FROM_POSITION. With
 * a prefix it may stand behind the last of them.
 *
 * Returns MEMORA_OK, MEMORA_BUSY, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_feed_position(struct memora_feed_t *feed,
                         struct memora_feed_position_t *position);

/**
 * Takes a snapshot of `store`: from now on it shows the same, whatever is done to the store. What it needs stays in memory until it
 * is closed, or cancelled because that is too much or takes too long: then its calls are answered MEMORA_SNAPSHOT_TOO_OLD.
 *
 * On success `*snapshot` is a new handle, to be closed with memora_snapshot_close(); else it is NULL. When the store is closed its calls
 * are answered MEMORA_CLOSED, and it is still to be closed.
 * Returns MEMORA_OK, MEMORA_TOO_MANY_SNAPSHOTS (64 of the store are open), MEMORA_READ_ONLY, MEMORA_FULL (all handles of the process
 * are open), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_snapshot(struct memora_store_t *store,
                          struct memora_snapshot_t **snapshot);

/**
 * Sets for all processes after how many milliseconds a snapshot of the store may be cancelled, and how many percent of the fabric's
 * memory may be kept for them. Without it: 60,000 and 25.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT (0, or more than 100 percent), MEMORA_READ_ONLY, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_store_limit_snapshots(struct memora_store_t *store,
                                 uint64_t age_ms,
                                 uint32_t percent);

/**
 * Ends a snapshot and gives back what is kept for it. NULL is allowed and does nothing. Calls of other threads that are under way finish.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED.
 */
int memora_snapshot_close(struct memora_snapshot_t *snapshot);

/**
 * Copies the value that `key` had into `buffer`, which has room for `capacity` bytes.
 *
 * `*len` becomes the length of the value, also when the buffer was too small: call once with capacity 0 to learn it. The second
 * call finds the same value.
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (also for a key that is too long), MEMORA_BUFFER_TOO_SMALL (the buffer's content is then
 * undefined), MEMORA_SNAPSHOT_TOO_OLD, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_snapshot_get(struct memora_snapshot_t *snapshot,
                        const void *key,
                        size_t key_len,
                        void *buffer,
                        size_t capacity,
                        size_t *len);

/**
 * As memora_snapshot_get(), and tells the version, the flags and the rest of the time to live, as they were, in `*entry`.
 *
 * Returns what memora_snapshot_get() does.
 */
int memora_snapshot_get_entry(struct memora_snapshot_t *snapshot,
                              const void *key,
                              size_t key_len,
                              void *buffer,
                              size_t capacity,
                              size_t *len,
                              struct memora_entry_t *entry);

/**
 * Calls `function` for some entries, about `limit`, and moves `*cursor` on. Begin with a cursor of 0 and go on until it
 * is 0 again. Each entry that was there comes exactly once.
 * The function may call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_SNAPSHOT_TOO_OLD, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_snapshot_scan(struct memora_snapshot_t *snapshot,
                         uint64_t *cursor,
                         size_t limit,
                         memora_entry_fn function,
                         void *context);

/**
 * As memora_store_range(), of the entries as they were: each comes exactly once.
 *
 * Returns MEMORA_OK, MEMORA_NOT_ORDERED, MEMORA_SNAPSHOT_TOO_OLD, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_snapshot_range(struct memora_snapshot_t *snapshot,
                          const void *from,
                          size_t from_len,
                          const void *to,
                          size_t to_len,
                          uint32_t flags,
                          size_t limit,
                          memora_entry_fn function,
                          void *context,
                          int *more);

/**
 * As memora_snapshot_range(), of the keys that begin with `prefix`; of the flags only MEMORA_RANGE_BACKWARD. Where there is more, go
 * on with memora_snapshot_range().
 *
 * Returns what memora_snapshot_range() does.
 */
int memora_snapshot_prefix(struct memora_snapshot_t *snapshot,
                           const void *prefix,
                           size_t prefix_len,
                           uint32_t flags,
                           size_t limit,
                           memora_entry_fn function,
                           void *context,
                           int *more);

/**
 * Fills `stats` with figures of the cache. `struct_size` is sizeof *stats.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_stats(struct memora_cache_t *cache, struct memora_cache_stats_t *stats, size_t struct_size);

/**
 * Calls `function` for an eighth of the memory that the cache may use, a quarter, and so on up to eight times as much. With thousands
 * of reads in the sample (`*sampled_reads`, may be NULL) the estimates are good to two or three points. The function may call the
 * library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_NOT_FOUND (not enough was read), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_advice(struct memora_cache_t *cache,
                        memora_advice_fn function,
                        void *context,
                        uint64_t *sampled_reads);

/**
 * Calls `function` for each attached process, with what it did to the cache. The function may call the library, but not throw or
 * jump out.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_cache_process_counts(struct memora_cache_t *cache,
                                memora_process_fn function,
                                void *context);

/**
 * Fills `stats` with figures of the channel. `struct_size` is sizeof *stats.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_channel_stats(struct memora_channel_t *channel,
                         struct memora_channel_stats_t *stats,
                         size_t struct_size);

/**
 * Calls `function` for each subscription of the channel. The function may call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_channel_subscriptions(struct memora_channel_t *channel,
                                 memora_subscription_fn function,
                                 void *context);

/**
 * Calls `function` for each consumer of a queue with acknowledgement; those of other queues leave no trace. The function may
 * call the library, but not throw or jump out.
 *
 * Returns MEMORA_OK, MEMORA_WRONG_KIND (the channel is no queue), MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED,
 * MEMORA_CORRUPT.
 */
int memora_channel_consumers(struct memora_channel_t *channel,
                             memora_consumer_fn function,
                             void *context);

/**
 * Fills `stats` with figures of the store. `struct_size` is sizeof *stats.
 *
 * Returns MEMORA_OK, MEMORA_INVALID_ARGUMENT, MEMORA_CLOSED, MEMORA_FORKED, MEMORA_CORRUPT.
 */
int memora_store_stats(struct memora_store_t *store, struct memora_store_stats_t *stats, size_t struct_size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MEMORA_H */
