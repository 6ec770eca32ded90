/* Logs, their appenders and readers. */
#include "testing.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memora_fabric_t *fabric;

static memora_channel_t *small(const char *name, unsigned overrun) {
    memora_log_options_t options;
    memora_channel_t *made = NULL;
    OK(memora_log_options_init(&options, sizeof options));
    CHECK(options.overrun == MEMORA_OVERRUN_LOSE);
    options.bytes = 256 * 1024;
    options.overrun = overrun;
    OK(memora_log_open(fabric, name, &options, &made));
    return made;
}

static int reads(memora_log_reader_t *reader, uint64_t position, const char *expected) {
    char buffer[64];
    memora_log_message_t message;
    return memora_log_reader_recv(reader, buffer, sizeof buffer, 5000, &message) == MEMORA_OK
        && message.position == position && message.len == strlen(expected)
        && memcmp(buffer, expected, message.len) == 0 && message.time_ms == 0;
}

static void messages_of_all_appenders_are_read_again_in_one_order(void) {
    memora_channel_t *log = small("order", MEMORA_OVERRUN_LOSE), *same = NULL;
    memora_appender_t *first = NULL, *second = NULL;
    memora_log_reader_t *reader = NULL, *later = NULL;
    uint64_t position = 9, lag = 9;
    char buffer[8];
    memora_log_message_t message;
    OK(memora_channel_open(fabric, "order", NULL, &same));
    OK(memora_appender_open(log, &first));
    OK(memora_appender_open(same, &second));
    OK(memora_log_reader_open(log, NULL, MEMORA_FROM_NEWEST, 0, &reader));
    CODE(memora_log_reader_recv(reader, buffer, sizeof buffer, 0, NULL), MEMORA_NOT_FOUND);
    CODE(memora_log_reader_recv(reader, buffer, sizeof buffer, 5, NULL), MEMORA_TIMED_OUT);
    OK(memora_appender_append(first, "zero", 4, &position));
    CHECK(position == 0);
    OK(memora_appender_append(second, "one", 3, &position));
    CHECK(position == 1);
    OK(memora_appender_append(first, "", 0, NULL));
    CHECK(reads(reader, 0, "zero") && reads(reader, 1, "one") && reads(reader, 2, ""));
    OK(memora_log_reader_open(same, NULL, MEMORA_FROM_POSITION, 1, &later));
    OK(memora_log_reader_position(later, &position, &lag));
    CHECK(position == 1 && lag == 2);
    CHECK(reads(later, 1, "one"));
    OK(memora_log_reader_seek(later, MEMORA_FROM_OLDEST, 0));
    CODE(memora_log_reader_recv(later, buffer, 3, 0, &message), MEMORA_BUFFER_TOO_SMALL);
    CHECK(message.len == 4 && memora_last_error_amount() == 4);
    CHECK(reads(later, 0, "zero"));
    CODE(memora_log_reader_seek(later, 77, 0), MEMORA_INVALID_ARGUMENT);
    OK(memora_appender_close(first));
    OK(memora_appender_close(second));
    OK(memora_log_reader_close(reader));
    OK(memora_log_reader_close(later));
    CODE(memora_log_reader_commit(later), MEMORA_CLOSED);
    CODE(memora_appender_append(first, "x", 1, NULL), MEMORA_CLOSED);
    OK(memora_channel_close(log));
    OK(memora_channel_close(same));
}

struct seen {
    uint64_t next;
    int wrong;
};

static void count(void *context, const memora_log_message_t *message, const void *data, size_t len) {
    struct seen *seen = context;
    seen->wrong += message->position != seen->next || len != message->len || (len > 0 && data == NULL);
    seen->next++;
}

static void a_named_reader_goes_on_and_trims_are_counted(void) {
    memora_channel_t *log = small("named", MEMORA_OVERRUN_LOSE);
    memora_appender_t *appender = NULL;
    memora_log_reader_t *reader = NULL, *other = NULL;
    memora_log_stats_t stats;
    struct seen seen = {0, 0};
    size_t taken = 0;
    int i, ended = 0;
    char payload[1000] = {0};
    OK(memora_appender_open(log, &appender));
    for (i = 0; i < 10; i++) OK(memora_appender_append(appender, payload, 100, NULL));
    OK(memora_log_reader_open(log, "audit", MEMORA_FROM_OLDEST, 0, &reader));
    CODE(memora_log_reader_open(log, "audit", MEMORA_FROM_OLDEST, 0, &other), MEMORA_SUBSCRIPTION_IN_USE);
    OK(memora_log_reader_poll(reader, 4, count, &seen, &taken));
    CHECK(taken == 4 && seen.next == 4 && seen.wrong == 0);
    OK(memora_log_reader_commit(reader));
    OK(memora_log_reader_close(reader));
    OK(memora_log_reader_open(log, "audit", MEMORA_FROM_NEWEST, 0, &reader));
    for (i = 10; i < 1000; i++) OK(memora_appender_append(appender, payload, sizeof payload, NULL));
    OK(memora_log_stats(log, &stats, sizeof stats));
    CHECK(stats.oldest > 4 && stats.end == 1000 && stats.readers == 1 && stats.lag_max == 996);
    CHECK(stats.bytes_max == 256 * 1024 && stats.bytes <= stats.bytes_max && stats.appenders == 1);
    CODE(memora_log_reader_poll(reader, 1, count, &seen, &taken), MEMORA_OVERRUN);
    CHECK(taken == 0 && memora_last_error_amount() == stats.oldest - 4);
    seen.next = stats.oldest;
    OK(memora_log_reader_poll(reader, 5000, count, &seen, &taken));
    CHECK(seen.next == 1000 && seen.wrong == 0 && taken == 1000 - stats.oldest);
    CODE(memora_log_reader_open(log, NULL, MEMORA_FROM_POSITION, 0, &other), MEMORA_POSITION_TRIMMED);
    CHECK(other == NULL && memora_last_error_amount() == stats.oldest);
    CODE(memora_log_reader_open(log, NULL, MEMORA_FROM_POSITION, 1001, &other), MEMORA_POSITION_AHEAD);
    CHECK(memora_last_error_amount() == 1000);
    OK(memora_log_reader_close(reader));
    OK(memora_log_forget(log, "audit", &ended));
    CHECK(ended == 1);
    OK(memora_log_forget(log, "audit", &ended));
    CHECK(ended == 0);
    OK(memora_appender_close(appender));
    OK(memora_channel_close(log));
}

static void check_long(void *context, const memora_log_message_t *message, const void *data, size_t len) {
    struct seen *seen = context;
    const unsigned char *bytes = data;
    size_t at;
    seen->wrong += message->position != seen->next || len != message->len;
    for (at = 0; at < len; at++) seen->wrong += bytes[at] != (unsigned char)(at * 7 + message->position);
    seen->next++;
}

static void long_messages_stand_in_chunks_of_the_fabric(void) {
    static const size_t lens[] = {10, 3000, 100000, 0, 150000};
    memora_channel_t *log = small("long", MEMORA_OVERRUN_LOSE);
    memora_appender_t *appender = NULL;
    memora_log_reader_t *reader = NULL;
    memora_log_message_t message;
    struct seen seen = {0, 0};
    unsigned char *bytes = malloc(150000), *huge = calloc(1, (128u << 20) + 1);
    size_t taken = 0, at, number;
    uint64_t position = 9;
    OK(memora_appender_open(log, &appender));
    OK(memora_log_reader_open(log, NULL, MEMORA_FROM_NEWEST, 0, &reader));
    for (number = 0; number < 5; number++) {
        for (at = 0; at < lens[number]; at++) bytes[at] = (unsigned char)(at * 7 + number);
        OK(memora_appender_append(appender, bytes, lens[number], &position));
        CHECK(position == number);
        if (number == 2) {
            OK(memora_log_reader_seek(reader, MEMORA_FROM_POSITION, 2));
            CODE(memora_log_reader_recv(reader, bytes, 99999, 0, &message), MEMORA_BUFFER_TOO_SMALL);
            OK(memora_log_reader_recv(reader, huge, 100000, 0, &message));
            CHECK(message.position == 2 && message.len == 100000 && huge[99999] == (unsigned char)(99999 * 7 + 2));
            OK(memora_log_reader_seek(reader, MEMORA_FROM_OLDEST, 0));
        }
    }
    seen.next = 0;
    while (seen.next < 5 && memora_log_reader_poll(reader, 2, check_long, &seen, &taken) == MEMORA_OK && taken > 0) continue;
    CHECK(seen.next == 5 && seen.wrong == 0);
    CODE(memora_appender_append(appender, huge, (128u << 20) + 1, NULL), MEMORA_VALUE_TOO_LONG);
    CODE(memora_appender_claim(appender, 3000), MEMORA_VALUE_TOO_LONG);
    free(bytes);
    free(huge);
    OK(memora_log_reader_close(reader));
    OK(memora_appender_close(appender));
    OK(memora_channel_close(log));
}

static void what_a_reader_has_to_read_is_kept_on_a_log_that_blocks(void) {
    memora_channel_t *log = small("kept", MEMORA_OVERRUN_BLOCK);
    memora_appender_t *appender = NULL;
    memora_log_reader_t *reader = NULL;
    struct seen seen = {0, 0};
    char payload[1000] = {0};
    int sent = 0;
    OK(memora_appender_open(log, &appender));
    OK(memora_log_reader_open(log, "keeper", MEMORA_FROM_OLDEST, 0, &reader));
    while (sent < 1000 && memora_appender_append(appender, payload, sizeof payload, NULL) == MEMORA_OK) sent++;
    CHECK(sent > 50 && sent < 1000 && memora_last_error_code() == MEMORA_LOG_FULL);
    CHECK(strstr(memora_last_error_message(), "keeper") != NULL);
    OK(memora_log_reader_poll(reader, 1000, count, &seen, NULL));
    OK(memora_log_reader_commit(reader));
    OK(memora_appender_append(appender, payload, sizeof payload, NULL));
    CHECK((int) seen.next == sent && seen.wrong == 0);
    OK(memora_appender_close(appender));
    OK(memora_log_reader_close(reader));
    OK(memora_channel_close(log));
}

static void kinds_and_options_that_do_not_fit_are_refused(void) {
    memora_channel_t *log = small("kind", MEMORA_OVERRUN_LOSE), *made = NULL;
    memora_log_options_t options;
    memora_channel_options_t broadcast;
    memora_publisher_t *publisher = NULL;
    memora_appender_t *appender = NULL;
    memora_log_stats_t stats;
    OK(memora_channel_options_init(&broadcast, sizeof broadcast));
    CODE(memora_channel_open(fabric, "kind", &broadcast, &made), MEMORA_WRONG_KIND);
    CODE(memora_publisher_open(log, &publisher), MEMORA_WRONG_KIND);
    OK(memora_channel_open(fabric, "lanes", &broadcast, &made));
    CODE(memora_appender_open(made, &appender), MEMORA_WRONG_KIND);
    CODE(memora_log_stats(made, &stats, sizeof stats), MEMORA_WRONG_KIND);
    OK(memora_channel_close(made));
    CODE(memora_log_open(fabric, "lanes", NULL, &made), MEMORA_WRONG_KIND);
    OK(memora_log_options_init(&options, sizeof options));
    options.bytes = 512 * 1024;
    CODE(memora_log_open(fabric, "kind", &options, &made), MEMORA_WRONG_OPTIONS);
    options.bytes = 1000;
    CODE(memora_log_open(fabric, "bad", &options, &made), MEMORA_INVALID_ARGUMENT);
    options.bytes = 256 * 1024;
    options.overrun = 9;
    CODE(memora_log_open(fabric, "bad", &options, &made), MEMORA_INVALID_ARGUMENT);
    CODE(memora_appender_append(NULL, "x", 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_log_reader_poll(NULL, 1, count, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_appender_close(NULL));
    OK(memora_log_reader_close(NULL));
    OK(memora_channel_close(log));
}

static void a_claim_is_a_message_when_it_is_committed_and_nothing_before(void) {
    memora_channel_t *log = small("claimed", MEMORA_OVERRUN_LOSE);
    memora_appender_t *appender = NULL, *other = NULL;
    memora_log_reader_t *reader = NULL;
    uint64_t position = 9;
    OK(memora_appender_open(log, &appender));
    OK(memora_appender_open(log, &other));
    OK(memora_log_reader_open(log, NULL, MEMORA_FROM_OLDEST, 0, &reader));
    CODE(memora_appender_commit(appender, &position), MEMORA_NOT_FOUND);
    OK(memora_appender_claim(appender, 5));
    CODE(memora_appender_claim(appender, 5), MEMORA_BUSY);
    CODE(memora_appender_append(appender, "x", 1, NULL), MEMORA_BUSY);
    OK(memora_appender_write(appender, 2, "aim", 3));
    CODE(memora_appender_write(appender, 3, "aim", 3), MEMORA_INVALID_ARGUMENT);
    CODE(memora_log_reader_recv(reader, &position, sizeof position, 0, NULL), MEMORA_NOT_FOUND);
    OK(memora_appender_append(other, "between", 7, NULL));
    OK(memora_appender_write(appender, 0, "cl", 2));
    OK(memora_appender_commit(appender, &position));
    CHECK(position == 1);
    OK(memora_appender_claim(appender, 100));
    OK(memora_appender_abort(appender));
    CODE(memora_appender_abort(appender), MEMORA_NOT_FOUND);
    CODE(memora_appender_claim(appender, 1 << 20), MEMORA_VALUE_TOO_LONG);
    OK(memora_appender_append(appender, "after", 5, NULL));
    CHECK(reads(reader, 0, "between") && reads(reader, 1, "claim") && reads(reader, 2, "after"));
    OK(memora_appender_close(appender));
    OK(memora_appender_close(other));
    OK(memora_log_reader_close(reader));
    OK(memora_channel_close(log));
}

static memora_channel_t *in_files(const char *home, memora_fabric_t **made) {
    memora_fabric_options_t place;
    memora_log_options_t options;
    memora_channel_t *log = NULL;
    OK(memora_fabric_options_init(&place, sizeof place));
    place.home = home;
    place.limit = 8u << 20;
    OK(memora_fabric_open_with("files", &place, made));
    OK(memora_log_options_init(&options, sizeof options));
    CHECK(options.durability == MEMORA_DURABILITY_ASYNC && options.dir == NULL);
    options.bytes = 256 * 1024;
    options.dir = in_home("orders");
    options.durability = MEMORA_DURABILITY_SYNC;
    options.file_bytes = 64 * 1024;
    options.file_bytes_max = 1 << 20;
    OK(memora_log_open(*made, "orders", &options, &log));
    return log;
}

/* Appends, reads a part, and is killed with everything open. */
static int writer(void) {
    static char home[512];
    memora_fabric_t *own = NULL;
    memora_appender_t *appender = NULL;
    memora_log_reader_t *reader = NULL;
    memora_log_stats_t stats;
    uint64_t position = 9;
    snprintf(home, sizeof home, "%s", in_home("first"));
    memora_channel_t *log = in_files(home, &own);
    OK(memora_appender_open(log, &appender));
    OK(memora_appender_append(appender, "paid", 4, &position));
    CHECK(position == 0);
    OK(memora_appender_append_durable(appender, "seen", 4, MEMORA_DURABILITY_PROCESS, &position));
    OK(memora_log_reader_open(log, "audit", MEMORA_FROM_OLDEST, 0, &reader));
    CHECK(reads(reader, 0, "paid"));
    OK(memora_log_reader_commit(reader));
    OK(memora_log_flush(log));
    OK(memora_log_stats(log, &stats, sizeof stats));
    CHECK(stats.durable == 2 && stats.file_bytes > 0 && stats.poisoned == 0);
    raise(SIGKILL);
    return 1;
}

static void a_log_in_files_goes_on_when_everything_was_killed_and_the_fabric_is_gone(void) {
    static char home[512];
    memora_fabric_t *own = NULL;
    memora_appender_t *appender = NULL;
    memora_log_reader_t *reader = NULL, *audit = NULL;
    memora_channel_t *log, *memory;
    uint64_t position = 9;
    CHECK(wait_for(start(writer)) == -SIGKILL);
    snprintf(home, sizeof home, "%s", in_home("second"));
    log = in_files(home, &own);
    OK(memora_appender_open(log, &appender));
    OK(memora_appender_append(appender, "shipped", 7, &position));
    CHECK(position == 2);
    OK(memora_log_reader_open(log, NULL, MEMORA_FROM_OLDEST, 0, &reader));
    OK(memora_log_reader_open(log, "audit", MEMORA_FROM_OLDEST, 0, &audit));
    CHECK(reads(reader, 0, "paid") && reads(reader, 1, "seen") && reads(reader, 2, "shipped"));
    CHECK(reads(audit, 1, "seen"));
    OK(memora_appender_close(appender));
    OK(memora_log_reader_close(reader));
    OK(memora_log_reader_close(audit));
    OK(memora_channel_close(log));
    OK(memora_fabric_close(own));
    memory = small("memory", MEMORA_OVERRUN_LOSE);
    CODE(memora_log_flush(memory), MEMORA_INVALID_ARGUMENT);
    OK(memora_appender_open(memory, &appender));
    CODE(memora_appender_append_durable(appender, "x", 1, MEMORA_DURABILITY_SYNC, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_appender_append_durable(appender, "x", 1, 9, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_appender_close(appender));
    OK(memora_channel_close(memory));
}

static void options_of_files_need_a_directory(void) {
    memora_log_options_t options;
    memora_channel_t *made = NULL;
    OK(memora_log_options_init(&options, sizeof options));
    options.file_bytes_max = 1 << 20;
    CODE(memora_log_open(fabric, "bad", &options, &made), MEMORA_INVALID_ARGUMENT);
    CHECK(strstr(memora_last_error_message(), "dir") != NULL);
}

int main(int argc, char **argv) {
    begin("log", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    TEST(messages_of_all_appenders_are_read_again_in_one_order);
    TEST(a_named_reader_goes_on_and_trims_are_counted);
    TEST(long_messages_stand_in_chunks_of_the_fabric);
    TEST(what_a_reader_has_to_read_is_kept_on_a_log_that_blocks);
    TEST(kinds_and_options_that_do_not_fit_are_refused);
    TEST(a_claim_is_a_message_when_it_is_committed_and_nothing_before);
    TEST(a_log_in_files_goes_on_when_everything_was_killed_and_the_fabric_is_gone);
    TEST(options_of_files_need_a_directory);
    OK(memora_fabric_close(fabric));
    return finish();
}
