/* Every call on a store, and that its entries come back when the fabric is gone. */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memora_fabric_t *fabric;
static memora_store_t *store;
static char dir[512];

static memora_store_options_t options(void) {
    memora_store_options_t made;
    OK(memora_store_options_init(&made, sizeof made));
    made.dir = dir;
    return made;
}

static int is(const char *key, const char *value) {
    char buffer[256];
    size_t len = 0;
    int result = memora_store_get(store, key, strlen(key), buffer, sizeof buffer, &len);
    if (!value) return result == MEMORA_NOT_FOUND;
    return result == MEMORA_OK && len == strlen(value) && memcmp(buffer, value, len) == 0;
}

static int set(const char *key, const char *value) {
    return memora_store_set(store, key, strlen(key), value, strlen(value), NULL, NULL);
}

static void calls_do_what_those_of_a_cache_do(void) {
    memora_entry_t entry;
    uint64_t first = 0, second = 0, seen = 0, number = 0, initial = 5;
    char buffer[8];
    size_t len = 0;
    CHECK(is("one", NULL));
    OK(set("one", "first"));
    CHECK(is("one", "first"));
    CODE(memora_store_add(store, "one", 3, "x", 1, NULL, NULL), MEMORA_ALREADY_EXISTS);
    OK(memora_store_replace(store, "one", 3, "second", 6, NULL, &first));
    OK(memora_store_compare_and_swap(store, "one", 3, "third", 5, first, NULL, &second));
    CODE(memora_store_compare_and_swap(store, "one", 3, "x", 1, first, NULL, &seen), MEMORA_STALE);
    CHECK(seen == second && is("one", "third"));
    OK(memora_store_get_entry(store, "one", 3, buffer, sizeof buffer, &len, &entry));
    CHECK(entry.version == second && len == 5);
    CODE(memora_store_get(store, "one", 3, buffer, 2, &len), MEMORA_BUFFER_TOO_SMALL);
    OK(memora_store_increment(store, "n", 1, 1, &initial, &number));
    OK(memora_store_increment(store, "n", 1, 2, NULL, &number));
    CHECK(number == 7);
    OK(memora_store_decrement(store, "n", 1, 1, NULL, &number));
    CHECK(number == 6);
    OK(set("gone", "x"));
    OK(memora_store_delete(store, "gone", 4));
    CODE(memora_store_delete(store, "gone", 4), MEMORA_NOT_FOUND);
    OK(memora_store_len(store, &number));
    CHECK(number == 2);
    OK(memora_store_set_durable(store, "sync", 4, "s", 1, MEMORA_DURABILITY_SYNC, NULL));
    CODE(memora_store_set_durable(store, "sync", 4, "s", 1, 99, NULL), MEMORA_INVALID_ARGUMENT);
}

static void add_len(void *context, size_t index, const void *value, size_t value_len) {
    size_t *lens = context;
    CHECK(index < 3 && (value != NULL) == (index != 1));
    lens[index] = value_len;
}

static void many_at_once_and_figures(void) {
    memora_bytes_t keys[3] = {{"one", 3}, {"missing", 7}, {"sync", 4}}, bad = {NULL, 5};
    size_t lens[3] = {9, 9, 9};
    memora_store_stats_t stats;
    OK(memora_store_get_many(store, keys, 3, add_len, lens));
    CHECK(lens[0] == 5 && lens[1] == 0 && lens[2] == 1);
    OK(memora_store_get_many(store, NULL, 0, add_len, lens));
    CODE(memora_store_get_many(store, keys, 3, NULL, lens), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_get_many(store, NULL, 1, add_len, lens), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_get_many(store, keys, (size_t)-1, add_len, lens), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_get_many(store, &bad, 1, add_len, lens), MEMORA_INVALID_ARGUMENT);
    OK(memora_store_flush(store));
    OK(memora_store_stats(store, &stats, sizeof stats));
    CHECK(stats.entries == 3 && stats.live_bytes > 0 && stats.flushes > 0 && stats.flushed_records >= 3);
    CHECK(stats.flushed_bytes > 0 && stats.journal_bytes > 0 && stats.checkpoints == 0 && stats.poisoned == 0);
    CODE(memora_store_stats(store, NULL, sizeof stats), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_stats(store, &stats, 0), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_stats(store, &stats, (size_t)-1), MEMORA_INVALID_ARGUMENT);
}

static void count_entry(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                        const memora_entry_t *entry) {
    CHECK(key != NULL && key_len > 0 && value != NULL && value_len > 0 && entry->version != 0);
    ++*(int *)context;
}

static void entries_come_back_when_the_fabric_is_gone(void) {
    memora_store_options_t made = options();
    memora_store_stats_t stats;
    memora_store_t *other = NULL;
    uint64_t cursor = 0, number = 0;
    char key[16];
    int seen = 0, i;
    for (i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key %d", i);
        OK(set(key, key));
        if (i == 150) OK(memora_store_checkpoint(store));
        if (i == 200) OK(memora_store_set_shards(store, 7));
    }
    OK(memora_store_delete(store, "key 7", 5));
    OK(memora_store_flush(store));
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    OK(memora_fabric_remove(NULL, "test"));
    OK(memora_fabric_open("test", &fabric));
    made.shards = 3;
    OK(memora_store_open(fabric, "kept", &made, &store));
    for (i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key %d", i);
        CHECK(is(key, i == 7 ? NULL : key));
    }
    CHECK(is("one", "third") && is("n", "6") && is("gone", NULL) && is("sync", "s"));
    OK(memora_store_len(store, &number));
    CHECK(number == 302);
    /* The files alone have said how many shards there are, whatever the options say of a new store. */
    OK(memora_store_stats(store, &stats, sizeof stats));
    CHECK(stats.shards == 7 && made.shards == 3);
    CODE(memora_store_set_shards(store, 0), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_set_shards(store, 65), MEMORA_INVALID_ARGUMENT);
    OK(memora_store_set_shards(store, 1));
    OK(memora_store_stats(store, &stats, sizeof stats));
    CHECK(stats.shards == 1);
    made.shards = 65;
    CODE(memora_store_open(fabric, "kept", &made, &other), MEMORA_INVALID_ARGUMENT);
    do {
        if (memora_store_scan(store, &cursor, 100, count_entry, &seen) != MEMORA_OK) break;
    } while (cursor != 0);
    CHECK(seen == 302);
}

static char found[64];

static void add_key(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                    const memora_entry_t *entry) {
    CHECK(context == found && entry && entry->version != 0);
    CHECK(value_len == key_len && memcmp(key, value, key_len) == 0);
    strncat(found, key, key_len);
    strcat(found, " ");
}

/* The keys of a range, each with a space behind it. */
static const char *range(memora_store_t *of, const char *from, const char *to, uint32_t flags, size_t limit, int *more) {
    found[0] = 0;
    OK(memora_store_range(of, from, from ? strlen(from) : 0, to, to ? strlen(to) : 0, flags, limit, add_key, found, more));
    return found;
}

static void ranges_go_over_keys_in_their_order(void) {
    const char *keys[] = {"pear", "apple", "plum", "fig", "pea"};
    memora_store_options_t made = options();
    memora_store_t *ordered = NULL, *other = NULL;
    int more = 9, i;
    CHECK(made.ordered == 0);
    CODE(memora_store_range(store, NULL, 0, NULL, 0, 0, 1, add_key, found, NULL), MEMORA_NOT_ORDERED);
    CODE(memora_store_prefix(store, "k", 1, 0, 1, add_key, found, NULL), MEMORA_NOT_ORDERED);
    made.ordered = 1;
    CODE(memora_store_open(fabric, "kept", &made, &other), MEMORA_WRONG_OPTIONS);
    made.dir = NULL;
    made.durability = MEMORA_DURABILITY_PROCESS;
    OK(memora_store_open(fabric, "ordered", &made, &ordered));
    for (i = 0; i < 5; i++) {
        size_t len = strlen(keys[i]);
        OK(memora_store_set(ordered, keys[i], len, keys[i], len, NULL, NULL));
    }
    CHECK(strcmp(range(ordered, NULL, NULL, 0, 100, &more), "apple fig pea pear plum ") == 0 && more == 0);
    CHECK(strcmp(range(ordered, NULL, NULL, MEMORA_RANGE_BACKWARD, 100, NULL), "plum pear pea fig apple ") == 0);
    CHECK(strcmp(range(ordered, "fig", "pear", 0, 100, &more), "fig pea ") == 0 && more == 0);
    CHECK(strcmp(range(ordered, "fig", "pear", MEMORA_RANGE_FROM_EXCLUDED | MEMORA_RANGE_TO_INCLUDED, 100, NULL), "pea pear ") == 0);
    CHECK(strcmp(range(ordered, "pear", "fig", 0, 100, NULL), "") == 0);
    /* In pages, both ways. */
    CHECK(strcmp(range(ordered, NULL, NULL, 0, 2, &more), "apple fig ") == 0 && more == 1);
    CHECK(strcmp(range(ordered, "fig", NULL, MEMORA_RANGE_FROM_EXCLUDED, 2, &more), "pea pear ") == 0 && more == 1);
    CHECK(strcmp(range(ordered, "pear", NULL, MEMORA_RANGE_FROM_EXCLUDED, 2, &more), "plum ") == 0 && more == 0);
    CHECK(strcmp(range(ordered, NULL, NULL, MEMORA_RANGE_BACKWARD, 2, &more), "plum pear ") == 0 && more == 1);
    CHECK(strcmp(range(ordered, NULL, "pear", MEMORA_RANGE_BACKWARD, 9, &more), "pea fig apple ") == 0 && more == 0);
    found[0] = 0;
    OK(memora_store_prefix(ordered, "pea", 3, MEMORA_RANGE_BACKWARD, 9, add_key, found, &more));
    CHECK(strcmp(found, "pear pea ") == 0 && more == 0);
    found[0] = 0;
    OK(memora_store_prefix(ordered, "p", 1, 0, 2, add_key, found, &more));
    CHECK(strcmp(found, "pea pear ") == 0 && more == 1);
    CODE(memora_store_range(ordered, NULL, 0, NULL, 0, 8, 1, add_key, found, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_range(ordered, NULL, 0, NULL, 0, 0, 1, NULL, found, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_prefix(ordered, "p", 1, MEMORA_RANGE_TO_INCLUDED, 1, add_key, found, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_prefix(ordered, NULL, 1, 0, 1, add_key, found, NULL), MEMORA_INVALID_ARGUMENT);
    made.ordered = 0;
    OK(memora_store_open(fabric, "ordered", &made, &other));
    CHECK(strcmp(range(other, "plum", NULL, 0, 9, NULL), "plum ") == 0);
    OK(memora_store_close(other));
    made.ordered = 2;
    other = NULL;
    CODE(memora_store_open(fabric, "ordered", &made, &other), MEMORA_INVALID_ARGUMENT);
    OK(memora_store_close(ordered));
}

static memora_transaction_t *ranging;

/* Notes a key, which may be of the transaction itself. */
static void add_seen(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                     const memora_entry_t *entry) {
    CHECK(value_len == key_len && memcmp(key, value, key_len) == 0 && (entry->version == 0) == (key_len == 2));
    strncat(context, key, key_len);
    strcat(context, " ");
}

/* Notes a key, and deletes it in the transaction that goes over it. */
static void add_and_delete(void *context, const void *key, size_t key_len, const void *value, size_t value_len,
                           const memora_entry_t *entry) {
    add_seen(context, key, key_len, value, value_len, entry);
    OK(memora_transaction_delete(ranging, key, key_len));
}

/* The keys of a range as a transaction sees it. */
static const char *range_in(memora_transaction_t *of, const char *from, const char *to, uint32_t flags, size_t limit, int *more) {
    found[0] = 0;
    OK(memora_transaction_range(of, from, from ? strlen(from) : 0, to, to ? strlen(to) : 0, flags, limit, add_seen, found, more));
    return found;
}

static void transactions_go_over_keys_in_their_order(void) {
    const char *keys[] = {"d", "b", "a", "c"};
    memora_store_options_t made = options();
    memora_store_t *ordered = NULL;
    memora_transaction_t *transaction = NULL;
    int more = 9, i;
    made.ordered = 1;
    made.dir = NULL;
    made.durability = MEMORA_DURABILITY_PROCESS;
    OK(memora_store_open(fabric, "ranged", &made, &ordered));
    for (i = 0; i < 4; i++) OK(memora_store_set(ordered, keys[i], 1, keys[i], 1, NULL, NULL));
    OK(memora_transaction_begin(ordered, &transaction));
    OK(memora_transaction_put(transaction, "bb", 2, "bb", 2, NULL));
    OK(memora_transaction_delete(transaction, "c", 1));
    CHECK(strcmp(range_in(transaction, NULL, NULL, 0, 9, &more), "a b bb d ") == 0 && more == 0);
    CHECK(strcmp(range_in(transaction, "b", "d", MEMORA_RANGE_FROM_EXCLUDED | MEMORA_RANGE_TO_INCLUDED, 9, NULL), "bb d ") == 0);
    CHECK(strcmp(range_in(transaction, NULL, NULL, MEMORA_RANGE_BACKWARD, 2, &more), "d bb ") == 0 && more == 1);
    CODE(memora_transaction_range(transaction, NULL, 0, NULL, 0, 8, 1, add_key, found, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_transaction_range(transaction, NULL, 0, NULL, 0, 0, 1, NULL, found, NULL), MEMORA_INVALID_ARGUMENT);
    ranging = transaction;
    found[0] = 0;
    OK(memora_transaction_range(transaction, NULL, 0, "c", 1, 0, 9, add_and_delete, found, &more));
    CHECK(strcmp(found, "a b bb ") == 0 && strcmp(range_in(transaction, NULL, NULL, 0, 9, NULL), "d ") == 0);
    OK(memora_transaction_commit(transaction));
    CHECK(strcmp(range(ordered, NULL, NULL, 0, 9, NULL), "d ") == 0);
    CODE(memora_transaction_range(transaction, NULL, 0, NULL, 0, 0, 1, add_key, found, NULL), MEMORA_CLOSED);

    /* What came into the part that was visited is in its way, what came elsewhere is not. */
    for (i = 0; i < 2; i++) {
        OK(memora_transaction_begin(ordered, &transaction));
        CHECK(strcmp(range_in(transaction, "c", NULL, 0, 9, NULL), "d ") == 0);
        OK(memora_transaction_put(transaction, "seen", 4, "seen", 4, NULL));
        OK(memora_store_set(ordered, i ? "e" : "b", 1, i ? "e" : "b", 1, NULL, NULL));
        CODE(memora_transaction_commit(transaction), i ? MEMORA_CONFLICT : MEMORA_OK);
        if (!i) OK(memora_store_delete(ordered, "seen", 4));
    }
    CHECK(strcmp(range(ordered, NULL, NULL, 0, 9, NULL), "b d e ") == 0);
    OK(memora_store_close(ordered));
    OK(memora_transaction_begin(store, &transaction));
    CODE(memora_transaction_range(transaction, NULL, 0, NULL, 0, 0, 1, add_key, found, NULL), MEMORA_NOT_ORDERED);
    OK(memora_transaction_abort(transaction));
}

static void hear(void *context, uint64_t done, uint64_t total) {
    CHECK(done <= total);
    *(uint64_t *)context = done;
}

static void add_loss(void *context, const memora_loss_t *loss) {
    CHECK(strncmp(loss->file, "checkpoint", 10) == 0 && loss->what[0] != 0);
    CHECK(loss->from == 4096 && loss->to > loss->from && loss->records == 302);
    ++*(int *)context;
}

static void a_backup_is_verified_restored_and_repaired(void) {
    memora_store_options_t made = options();
    memora_store_t *copy = NULL;
    memora_backup_info_t info, again;
    memora_verify_report_t report;
    char backup[512], target[512], file[600];
    uint64_t done = 0, records = 0;
    int losses = 0, sound = 9, byte;
    FILE *rotten;
    snprintf(backup, sizeof backup, "%s", in_home("backup"));
    snprintf(target, sizeof target, "%s", in_home("restored"));
    OK(memora_store_backup(store, backup, hear, &done, &info, sizeof info));
    CHECK(info.records == 302 && info.bytes == done && info.begun_ms > 0);
    CODE(memora_store_backup(store, backup, NULL, NULL, NULL, 0), MEMORA_ALREADY_EXISTS);
    CODE(memora_store_backup(store, NULL, NULL, NULL, NULL, 0), MEMORA_INVALID_ARGUMENT);
    OK(memora_verify(backup, NULL, NULL, &report, sizeof report));
    CHECK(report.backup == 1 && report.records == 302 && report.torn == 0 && report.feed_files == 0);
    OK(memora_restore(backup, target, "copy", 0, NULL, NULL, &again, sizeof again));
    CHECK(again.records == 302 && again.begun_ms == info.begun_ms);
    CODE(memora_restore(backup, target, "copy", 0, NULL, NULL, NULL, 0), MEMORA_ALREADY_EXISTS);
    CODE(memora_restore(backup, target, "copy", 2, NULL, NULL, NULL, 0), MEMORA_INVALID_ARGUMENT);
    CODE(memora_restore(target, backup, NULL, 0, NULL, NULL, NULL, 0), MEMORA_NOT_A_BACKUP);
    OK(memora_restore(backup, target, "copy", MEMORA_RESTORE_OVERWRITE, NULL, NULL, NULL, 0));
    OK(memora_repair(target, NULL, 0, add_loss, &losses, &records, &sound));
    CHECK(sound == 1 && losses == 0 && records == 302);
    made.dir = target;
    OK(memora_store_open(fabric, "copy", &made, &copy));
    OK(memora_store_len(copy, &records));
    CHECK(records == 302);
    CODE(memora_repair(target, NULL, MEMORA_REPAIR_APPLY, NULL, NULL, NULL, NULL), MEMORA_BUSY);
    OK(memora_store_close(copy));
    /* The only batch of the backup rots: everything is lost, and that is said. */
    snprintf(target, sizeof target, "%s", in_home("third"));
    OK(memora_restore(backup, target, NULL, 0, NULL, NULL, NULL, 0));
    /* The first checkpoint of a directory that was empty. */
    snprintf(file, sizeof file, "%s/checkpoint.0000001.0000000", target);
    rotten = fopen(file, "r+b");
    CHECK(rotten != NULL);
    if (rotten == NULL) return;
    fseek(rotten, 4096 + 100, SEEK_SET);
    byte = fgetc(rotten);
    fseek(rotten, 4096 + 100, SEEK_SET);
    fputc(byte ^ 1, rotten);
    fclose(rotten);
    CODE(memora_verify(target, NULL, NULL, NULL, 0), MEMORA_JOURNAL_CORRUPT);
    CHECK(strstr(memora_last_error_message(), "checkpoint.0000001.0000000 at byte 4096") != NULL);
    OK(memora_repair(target, NULL, 0, add_loss, &losses, &records, &sound));
    CHECK(sound == 0 && losses == 1 && records == 0);
    OK(memora_repair(target, NULL, MEMORA_REPAIR_APPLY, NULL, NULL, NULL, &sound));
    OK(memora_verify(target, NULL, NULL, NULL, 0));
    CODE(memora_verify(in_home("nowhere"), NULL, NULL, NULL, 0), MEMORA_NOT_FOUND);
}

static void bad_input_is_refused(void) {
    memora_store_options_t made = options();
    memora_store_t *other = NULL;
    memora_cache_t *cache = NULL;
    char *big = calloc(1, 64u << 20);
    made.durability = 42;
    CODE(memora_store_open(fabric, "kept", &made, &other), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_open(fabric, "kept", NULL, &cache), MEMORA_WRONG_KIND);
    CHECK(other == NULL && cache == NULL);
    CODE(memora_store_set(store, big, 100000, "v", 1, NULL, NULL), MEMORA_KEY_TOO_LONG);
    CODE(memora_store_set(store, "k", 1, big, 64u << 20, NULL, NULL), MEMORA_VALUE_TOO_LONG);
    CODE(memora_store_set(store, NULL, 1, "v", 1, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_store_len(store, NULL), MEMORA_INVALID_ARGUMENT);
    free(big);
}

int main(int argc, char **argv) {
    memora_store_options_t made;
    begin("store", argc, argv);
    snprintf(dir, sizeof dir, "%s", in_home("files"));
    made = options();
    OK(memora_fabric_open("test", &fabric));
    OK(memora_store_open(fabric, "kept", &made, &store));
    TEST(calls_do_what_those_of_a_cache_do);
    TEST(many_at_once_and_figures);
    TEST(entries_come_back_when_the_fabric_is_gone);
    TEST(ranges_go_over_keys_in_their_order);
    TEST(transactions_go_over_keys_in_their_order);
    TEST(a_backup_is_verified_restored_and_repaired);
    TEST(bad_input_is_refused);
    OK(memora_store_close(store));
    OK(memora_fabric_close(fabric));
    return finish();
}
