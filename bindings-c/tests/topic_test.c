/* The newest value of each key, between processes. */
#define _XOPEN_SOURCE 700
#include "testing.h"

#include <stdio.h>
#include <string.h>

static memora_fabric_t *fabric;
static memora_topic_t *topic;

/* The next update is of this key and value, with this number and so many skipped. */
static void next_is(memora_topic_subscriber_t *subscriber, const char *key, const char *value, uint64_t number,
                    uint64_t conflated) {
    memora_update_t update;
    char found_key[16], found_value[16];
    OK(memora_topic_next(subscriber, 20000, found_key, sizeof found_key, found_value, sizeof found_value, &update));
    CHECK(update.key_len == strlen(key) && memcmp(found_key, key, update.key_len) == 0);
    CHECK(update.value_len == strlen(value) && memcmp(found_value, value, update.value_len) == 0);
    CHECK(update.number == number && update.conflated == conflated && update.retracted == 0);
    CHECK(update.reserved == 0);
}

static int another_process_publishes(void) {
    memora_fabric_t *own = NULL;
    memora_topic_t *same = NULL;
    uint64_t number = 0;
    OK(memora_fabric_open("test", &own));
    OK(memora_topic_open(own, "prices", NULL, &same));
    OK(memora_topic_publish(same, "apples", 6, "9", 1, &number));
    CHECK(number == 3);
    OK(memora_topic_close(same));
    OK(memora_fabric_close(own));
    return number == 3 ? 0 : 1;
}

static void the_newest_comes_with_the_number_of_those_that_were_skipped(void) {
    memora_topic_subscriber_t *subscriber = NULL;
    memora_topic_stats_t stats;
    memora_update_t update;
    uint64_t number = 0;
    char key[16], value[16];
    OK(memora_topic_publish(topic, "apples", 6, "1", 1, NULL));
    OK(memora_topic_subscribe(topic, &subscriber));
    next_is(subscriber, "apples", "1", 1, 0);
    CODE(memora_topic_next(subscriber, 0, key, 16, value, 16, NULL), MEMORA_NOT_FOUND);
    CODE(memora_topic_next(subscriber, 20, key, 16, value, 16, NULL), MEMORA_TIMED_OUT);
    OK(memora_topic_publish(topic, "apples", 6, "2", 1, &number));
    CHECK(number == 2);
    CHECK(wait_for(start(another_process_publishes)) == 0);
    /* It stays until it fits. */
    CODE(memora_topic_next(subscriber, 20000, key, 5, value, 16, &update), MEMORA_BUFFER_TOO_SMALL);
    CHECK(update.key_len == 6 && update.value_len == 1 && memora_last_error_amount() == 6);
    next_is(subscriber, "apples", "9", 3, 1);
    OK(memora_topic_retract(topic, "apples", 6, &number));
    OK(memora_topic_next(subscriber, 20000, key, 16, NULL, 0, &update));
    CHECK(number == 4 && update.number == 4 && update.retracted != 0 && update.value_len == 0);
    OK(memora_topic_stats(topic, &stats, sizeof stats));
    CHECK(stats.keys == 1 && stats.updates == 4 && stats.bytes > 0);
    OK(memora_topic_subscriber_close(subscriber));
    CODE(memora_topic_next(subscriber, 0, key, 16, value, 16, NULL), MEMORA_CLOSED);
}

static void bad_input_is_told(void) {
    memora_topic_options_t options;
    memora_topic_t *none = NULL;
    OK(memora_topic_options_init(&options, sizeof options));
    CHECK(options.limit == 0);
    options.limit = 1 << 20;
    CODE(memora_topic_open(fabric, "prices", &options, &none), MEMORA_WRONG_OPTIONS);
    CODE(memora_topic_open(fabric, "none", NULL, &none), MEMORA_NOT_FOUND);
    CHECK(none == NULL);
    CODE(memora_topic_publish(topic, "", 0, "x", 1, NULL), MEMORA_KEY_TOO_LONG);
    CODE(memora_topic_publish(topic, NULL, 1, "x", 1, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_topic_next((memora_topic_subscriber_t *)topic, 0, NULL, 0, NULL, 0, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_topic_close(NULL));
    OK(memora_topic_subscriber_close(NULL));
}

int main(int argc, char **argv) {
    memora_topic_options_t options;
    begin("topic", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    OK(memora_topic_options_init(&options, sizeof options));
    OK(memora_topic_open(fabric, "prices", &options, &topic));
    TEST(the_newest_comes_with_the_number_of_those_that_were_skipped);
    TEST(bad_input_is_told);
    OK(memora_topic_close(topic));
    OK(memora_fabric_close(fabric));
    return finish();
}
