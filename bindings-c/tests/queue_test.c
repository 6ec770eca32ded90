/* Consumers of queues. */
#define _POSIX_C_SOURCE 200809L
#include "testing.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static memora_fabric_t *fabric;

static memora_channel_t *queue(const char *name, unsigned acknowledge, unsigned visibility_ms, unsigned deliveries_max,
                               const char *dead_letters) {
    memora_channel_options_t options;
    memora_channel_t *made = NULL;
    OK(memora_channel_options_init(&options, sizeof options));
    options.kind = MEMORA_CHANNEL_QUEUE;
    options.lane_bytes = 64 << 10;
    options.acknowledge = acknowledge;
    options.visibility_ms = visibility_ms;
    options.deliveries_max = deliveries_max;
    options.dead_letters = dead_letters;
    OK(memora_channel_open(fabric, name, &options, &made));
    return made;
}

/* Receives a message that has this text. */
static int receives(memora_consumer_t *consumer, const char *expected, memora_delivery_t *delivery) {
    char buffer[256];
    int result = memora_consumer_recv(consumer, buffer, sizeof buffer, 20000, delivery);
    return result == MEMORA_OK && delivery->len == strlen(expected) && memcmp(buffer, expected, delivery->len) == 0;
}

static void each_message_goes_to_one_consumer(void) {
    memora_channel_t *made = queue("once", 0, 0, 0, NULL);
    memora_publisher_t *publisher = NULL;
    memora_consumer_t *one = NULL, *two = NULL;
    memora_delivery_t delivery;
    memora_channel_stats_t stats;
    memora_subscriber_t *subscriber = NULL;
    char buffer[16];
    uint64_t position = 0, count = 9;
    OK(memora_consumer_open(made, &one));
    OK(memora_consumer_open(made, &two));
    OK(memora_publisher_open(made, &publisher));
    CODE(memora_consumer_try_recv(one, buffer, sizeof buffer, NULL), MEMORA_NOT_FOUND);
    CODE(memora_consumer_recv(one, buffer, sizeof buffer, 0, NULL), MEMORA_NOT_FOUND);
    CODE(memora_consumer_recv(one, buffer, sizeof buffer, 5, NULL), MEMORA_TIMED_OUT);
    OK(memora_publisher_send(publisher, "a", 1, &position));
    OK(memora_publisher_send(publisher, "b", 1, NULL));
    OK(memora_channel_stats(made, &stats, sizeof stats));
    CHECK(stats.waiting_bytes > 0 && stats.unacknowledged == 0);
    CHECK(receives(one, "a", &delivery) && delivery.position == position && delivery.deliveries == 1 && !delivery.redelivered);
    CHECK(receives(two, "b", &delivery) && delivery.position > position);
    CODE(memora_consumer_try_recv(one, buffer, sizeof buffer, NULL), MEMORA_NOT_FOUND);
    OK(memora_channel_stats(made, &stats, sizeof stats));
    CHECK(stats.waiting_bytes == 0);
    /* There is nothing to acknowledge. */
    CODE(memora_consumer_ack(one, &delivery.receipt), MEMORA_INVALID_ARGUMENT);
    OK(memora_consumer_ack_all(one, &count));
    CHECK(count == 0);
    /* A queue has no subscribers, another channel no consumers. */
    CODE(memora_subscriber_open(made, NULL, &subscriber), MEMORA_WRONG_KIND);
    CHECK(subscriber == NULL);
    OK(memora_publisher_close(publisher));
    OK(memora_consumer_close(one));
    OK(memora_consumer_close(two));
    CODE(memora_consumer_close(two), MEMORA_CLOSED);
    CODE(memora_consumer_try_recv(two, buffer, sizeof buffer, NULL), MEMORA_CLOSED);
    OK(memora_consumer_close(NULL));
    OK(memora_channel_close(made));
}

static void a_message_is_acknowledged_given_back_or_held_longer(void) {
    memora_channel_t *made = queue("least", 1, 0, 0, NULL);
    memora_publisher_t *publisher = NULL;
    memora_consumer_t *one = NULL, *two = NULL;
    memora_delivery_t delivery, again;
    memora_receipt_t old;
    memora_channel_stats_t stats;
    uint64_t count = 9;
    OK(memora_consumer_open(made, &one));
    OK(memora_consumer_open(made, &two));
    OK(memora_publisher_open(made, &publisher));
    OK(memora_publisher_send(publisher, "a", 1, NULL));
    CHECK(receives(one, "a", &delivery));
    OK(memora_consumer_ack(one, &delivery.receipt));
    CODE(memora_consumer_ack(one, &delivery.receipt), MEMORA_NOT_HELD);
    CODE(memora_consumer_ack(two, &delivery.receipt), MEMORA_NOT_HELD);
    OK(memora_publisher_send(publisher, "b", 1, NULL));
    CHECK(receives(one, "b", &delivery));
    old = delivery.receipt;
    OK(memora_consumer_extend(one, &delivery.receipt, 60000));
    CHECK(memcmp(&old, &delivery.receipt, sizeof old) != 0);
    CODE(memora_consumer_nack(one, &old, 0), MEMORA_NOT_HELD);
    OK(memora_channel_stats(made, &stats, sizeof stats));
    CHECK(stats.unacknowledged == 1 && stats.redelivered == 0);
    OK(memora_consumer_nack(one, &delivery.receipt, 0));
    CHECK(receives(two, "b", &again) && again.deliveries == 2 && again.redelivered == 1);
    CHECK(again.lane == delivery.lane && again.position == delivery.position);
    OK(memora_consumer_ack_all(two, &count));
    CHECK(count == 1);
    OK(memora_channel_stats(made, &stats, sizeof stats));
    CHECK(stats.unacknowledged == 0 && stats.redelivered == 1 && stats.dead_letters == 0);
    CODE(memora_consumer_ack(one, NULL), MEMORA_INVALID_ARGUMENT);
    memset(&old, 0xff, sizeof old);
    CODE(memora_consumer_extend(one, &old, 1), MEMORA_NOT_HELD);
    OK(memora_publisher_close(publisher));
    OK(memora_consumer_close(one));
    OK(memora_consumer_close(two));
    OK(memora_channel_close(made));
}

static void what_a_closed_consumer_held_or_held_too_long_goes_to_others(void) {
    memora_channel_t *made = queue("visible", 1, 1, 0, NULL);
    memora_publisher_t *publisher = NULL;
    memora_consumer_t *one = NULL, *two = NULL;
    memora_delivery_t first, second;
    OK(memora_consumer_open(made, &one));
    OK(memora_consumer_open(made, &two));
    OK(memora_publisher_open(made, &publisher));
    OK(memora_publisher_send(publisher, "slow", 4, NULL));
    CHECK(receives(one, "slow", &first));
    CHECK(receives(two, "slow", &second) && second.redelivered && second.deliveries == 2);
    CODE(memora_consumer_ack(one, &first.receipt), MEMORA_NOT_HELD);
    OK(memora_consumer_extend(two, &second.receipt, 600000));
    OK(memora_consumer_close(two));
    CHECK(receives(one, "slow", &first) && first.deliveries == 3);
    OK(memora_consumer_extend(one, &first.receipt, 600000));
    OK(memora_consumer_ack(one, &first.receipt));
    OK(memora_publisher_close(publisher));
    OK(memora_consumer_close(one));
    OK(memora_channel_close(made));
}

static void what_nobody_acknowledges_becomes_a_dead_letter(void) {
    memora_channel_t *made = queue("tried", 1, 0, 2, "letters"), *letters = NULL;
    memora_publisher_t *publisher = NULL;
    memora_consumer_t *consumer = NULL, *reader = NULL;
    memora_delivery_t delivery;
    memora_channel_stats_t stats;
    char buffer[16];
    OK(memora_consumer_open(made, &consumer));
    OK(memora_publisher_open(made, &publisher));
    OK(memora_publisher_send(publisher, "poison", 6, NULL));
    CHECK(receives(consumer, "poison", &delivery) && delivery.deliveries == 1);
    OK(memora_consumer_nack(consumer, &delivery.receipt, 0));
    CHECK(receives(consumer, "poison", &delivery) && delivery.deliveries == 2);
    OK(memora_consumer_nack(consumer, &delivery.receipt, 0));
    CODE(memora_consumer_recv(consumer, buffer, sizeof buffer, 50, NULL), MEMORA_TIMED_OUT);
    OK(memora_channel_stats(made, &stats, sizeof stats));
    CHECK(stats.dead_letters == 1 && stats.unacknowledged == 0);
    OK(memora_channel_open(fabric, "letters", NULL, &letters));
    OK(memora_consumer_open(letters, &reader));
    CHECK(receives(reader, "poison", &delivery));
    OK(memora_consumer_ack(reader, &delivery.receipt));
    OK(memora_publisher_close(publisher));
    OK(memora_consumer_close(consumer));
    OK(memora_consumer_close(reader));
    OK(memora_channel_close(made));
    OK(memora_channel_close(letters));
}

static void a_message_too_long_for_the_buffer_stays(void) {
    unsigned acknowledge;
    for (acknowledge = 0; acknowledge < 2; acknowledge++) {
        memora_channel_t *made = queue(acknowledge ? "small-acknowledged" : "small", acknowledge, 0, 0, NULL);
        memora_publisher_t *publisher = NULL;
        memora_consumer_t *consumer = NULL;
        memora_delivery_t delivery;
        char buffer[16];
        uint64_t count = 9;
        OK(memora_consumer_open(made, &consumer));
        OK(memora_publisher_open(made, &publisher));
        OK(memora_publisher_send(publisher, "0123456789", 10, NULL));
        OK(memora_publisher_send(publisher, "next", 4, NULL));
        CODE(memora_consumer_try_recv(consumer, buffer, 4, &delivery), MEMORA_BUFFER_TOO_SMALL);
        CHECK(delivery.len == 10 && memora_last_error_amount() == 10);
        CODE(memora_consumer_recv(consumer, NULL, 0, 10, &delivery), MEMORA_BUFFER_TOO_SMALL);
        CODE(memora_consumer_ack_all(consumer, NULL), MEMORA_BUSY);
        CHECK(receives(consumer, "0123456789", &delivery));
        CHECK(receives(consumer, "next", &delivery));
        OK(memora_consumer_ack_all(consumer, &count));
        CHECK(count == 2 * acknowledge);
        OK(memora_publisher_close(publisher));
        OK(memora_consumer_close(consumer));
        OK(memora_channel_close(made));
    }
}

static void a_message_longer_than_a_lane_goes_to_one_consumer_until_it_is_acknowledged(void) {
    static char sent[300000], got[300000];
    unsigned acknowledge;
    size_t at;
    for (at = 0; at < sizeof sent; at++) sent[at] = (char)(at / 8 * 31 + at);
    for (acknowledge = 0; acknowledge < 2; acknowledge++) {
        memora_channel_t *made = queue(acknowledge ? "long-acknowledged" : "long", acknowledge, 0, 0, NULL);
        memora_publisher_t *publisher = NULL;
        memora_consumer_t *consumer = NULL;
        memora_delivery_t delivery;
        OK(memora_consumer_open(made, &consumer));
        OK(memora_publisher_open(made, &publisher));
        OK(memora_publisher_send(publisher, sent, sizeof sent, NULL));
        CODE(memora_consumer_try_recv(consumer, got, 1000, &delivery), MEMORA_BUFFER_TOO_SMALL);
        CHECK(delivery.len == sizeof sent);
        OK(memora_consumer_try_recv(consumer, got, sizeof got, &delivery));
        CHECK(delivery.len == sizeof sent && memcmp(sent, got, sizeof sent) == 0);
        if (acknowledge) {
            memset(got, 0, sizeof got);
            OK(memora_consumer_nack(consumer, &delivery.receipt, 0));
            OK(memora_consumer_recv(consumer, got, sizeof got, 20000, &delivery));
            CHECK(delivery.deliveries == 2 && memcmp(sent, got, sizeof sent) == 0);
            OK(memora_consumer_ack(consumer, &delivery.receipt));
        }
        CODE(memora_consumer_try_recv(consumer, got, sizeof got, NULL), MEMORA_NOT_FOUND);
        OK(memora_publisher_close(publisher));
        OK(memora_consumer_close(consumer));
        OK(memora_channel_close(made));
    }
}

struct polled {
    memora_consumer_t *consumer;
    char text[64];
    memora_receipt_t receipts[8];
    size_t count;
    int busy;
};

static void take_message(void *context, const memora_delivery_t *delivery, const void *data, size_t len) {
    struct polled *polled = context;
    CHECK(delivery->len == len && len == 1);
    strncat(polled->text, data, len);
    polled->receipts[polled->count++] = delivery->receipt;
    if (memora_consumer_ack(polled->consumer, &delivery->receipt) == MEMORA_BUSY) polled->busy++;
}

static void a_poll_takes_up_to_its_limit(void) {
    memora_channel_t *made = queue("poll", 1, 0, 0, NULL);
    memora_publisher_t *publisher = NULL;
    struct polled polled;
    size_t count = 99, i;
    char buffer[1];
    memset(&polled, 0, sizeof polled);
    OK(memora_consumer_open(made, &polled.consumer));
    OK(memora_publisher_open(made, &publisher));
    OK(memora_consumer_poll(polled.consumer, 10, take_message, &polled, &count));
    CHECK(count == 0);
    OK(memora_publisher_send(publisher, "a", 1, NULL));
    OK(memora_publisher_send(publisher, "b", 1, NULL));
    OK(memora_publisher_send(publisher, "c", 1, NULL));
    /* A message that a small buffer left behind comes first. */
    CODE(memora_consumer_try_recv(polled.consumer, buffer, 0, NULL), MEMORA_BUFFER_TOO_SMALL);
    OK(memora_consumer_poll(polled.consumer, 0, take_message, &polled, &count));
    CHECK(count == 0);
    OK(memora_consumer_poll(polled.consumer, 2, take_message, &polled, &count));
    CHECK(count == 2 && strcmp(polled.text, "ab") == 0);
    OK(memora_consumer_poll(polled.consumer, 2, take_message, &polled, NULL));
    CHECK(strcmp(polled.text, "abc") == 0 && polled.busy == 3);
    for (i = 0; i < polled.count; i++) OK(memora_consumer_ack(polled.consumer, &polled.receipts[i]));
    CODE(memora_consumer_poll(polled.consumer, 2, NULL, NULL, &count), MEMORA_INVALID_ARGUMENT);
    OK(memora_publisher_close(publisher));
    OK(memora_consumer_close(polled.consumer));
    OK(memora_channel_close(made));
}

struct waiting {
    memora_consumer_t *consumer;
    int result;
};

static void *wait_for_ever(void *context) {
    char buffer[8];
    struct waiting *waiting = context;
    waiting->result = memora_consumer_recv(waiting->consumer, buffer, sizeof buffer, MEMORA_FOREVER, NULL);
    return NULL;
}

static void a_wait_ends_when_another_thread_closes(void) {
    memora_channel_t *made = queue("waiting", 1, 0, 0, NULL);
    struct waiting wait = {NULL, 0};
    pthread_t thread;
    OK(memora_consumer_open(made, &wait.consumer));
    CHECK(pthread_create(&thread, NULL, wait_for_ever, &wait) == 0);
    sleep_ms(20);
    OK(memora_consumer_close(wait.consumer));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(wait.result == MEMORA_CLOSED);
    OK(memora_channel_close(made));
}

static volatile int *holding;

/* Receives a message, acknowledges one, and is killed while it holds another. */
static int victim(void) {
    memora_fabric_t *own = NULL;
    memora_channel_t *channel = NULL;
    memora_consumer_t *consumer = NULL;
    memora_delivery_t delivery;
    OK(memora_fabric_open("queue", &own));
    OK(memora_channel_open(own, "killed", NULL, &channel));
    OK(memora_consumer_open(channel, &consumer));
    CHECK(receives(consumer, "done", &delivery));
    OK(memora_consumer_ack(consumer, &delivery.receipt));
    CHECK(receives(consumer, "held", &delivery));
    *holding = 1;
    sleep_ms(600000);
    return 1;
}

static void count_consumer(void *context, uint32_t consumer, int held, uint64_t unacknowledged) {
    uint64_t *sums = context;
    CHECK(consumer < 1000);
    sums[0] += held != 0;
    sums[1] += unacknowledged;
}

static void what_a_killed_consumer_held_comes_again(void) {
    memora_channel_t *made = queue("killed", 1, 0, 0, NULL), *other = NULL;
    memora_publisher_t *publisher = NULL;
    memora_consumer_t *heir = NULL;
    memora_delivery_t delivery;
    uint64_t sums[2] = {0, 0};
    char buffer[8];
    pid_t child;
    holding = shared_int();
    child = start(victim);
    OK(memora_publisher_open(made, &publisher));
    OK(memora_publisher_send(publisher, "done", 4, NULL));
    OK(memora_publisher_send(publisher, "held", 4, NULL));
    CHECK(wait_until(holding, 1));
    OK(memora_channel_consumers(made, count_consumer, sums));
    CHECK(sums[0] == 1 && sums[1] == 1);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(wait_for(child) == -SIGKILL);
    OK(memora_consumer_open(made, &heir));
    CHECK(receives(heir, "held", &delivery) && delivery.redelivered && delivery.deliveries == 2);
    OK(memora_consumer_ack(heir, &delivery.receipt));
    CODE(memora_consumer_try_recv(heir, buffer, sizeof buffer, NULL), MEMORA_NOT_FOUND);
    OK(memora_channel_open(fabric, "letters", NULL, &other));
    CODE(memora_channel_consumers(other, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_publisher_close(publisher));
    OK(memora_consumer_close(heir));
    OK(memora_channel_close(made));
    OK(memora_channel_close(other));
}

static void options_that_cannot_be_together_are_refused(void) {
    memora_channel_options_t options;
    memora_channel_t *made = NULL;
    memora_consumer_t *consumer = NULL;
    OK(memora_channel_options_init(&options, sizeof options));
    options.acknowledge = 1;
    CODE(memora_channel_open(fabric, "refused", &options, &made), MEMORA_INVALID_ARGUMENT);
    options.kind = MEMORA_CHANNEL_QUEUE;
    options.acknowledge = 0;
    options.visibility_ms = 5;
    CODE(memora_channel_open(fabric, "refused", &options, &made), MEMORA_INVALID_ARGUMENT);
    options.acknowledge = 1;
    options.deliveries_max = 3;
    CODE(memora_channel_open(fabric, "refused", &options, &made), MEMORA_INVALID_ARGUMENT);
    options.dead_letters = "refused";
    CODE(memora_channel_open(fabric, "refused", &options, &made), MEMORA_INVALID_ARGUMENT);
    options.dead_letters = "elsewhere";
    options.deliveries_max = 1001;
    CODE(memora_channel_open(fabric, "refused", &options, &made), MEMORA_INVALID_ARGUMENT);
    options.deliveries_max = 1000;
    OK(memora_channel_open(fabric, "refused", &options, &made));
    OK(memora_channel_close(made));
    options.visibility_ms = 6;
    CODE(memora_channel_open(fabric, "refused", &options, &made), MEMORA_WRONG_OPTIONS);
    OK(memora_channel_options_init(&options, sizeof options));
    OK(memora_channel_open(fabric, "broadcast", &options, &made));
    CODE(memora_consumer_open(made, &consumer), MEMORA_WRONG_KIND);
    CODE(memora_channel_consumers(made, count_consumer, NULL), MEMORA_WRONG_KIND);
    OK(memora_channel_close(made));
}

int main(int argc, char **argv) {
    begin("queue", argc, argv);
    OK(memora_fabric_open("queue", &fabric));
    TEST(each_message_goes_to_one_consumer);
    TEST(a_message_is_acknowledged_given_back_or_held_longer);
    TEST(what_a_closed_consumer_held_or_held_too_long_goes_to_others);
    TEST(what_nobody_acknowledges_becomes_a_dead_letter);
    TEST(a_message_too_long_for_the_buffer_stays);
    TEST(a_message_longer_than_a_lane_goes_to_one_consumer_until_it_is_acknowledged);
    TEST(a_poll_takes_up_to_its_limit);
    TEST(a_wait_ends_when_another_thread_closes);
    TEST(what_a_killed_consumer_held_comes_again);
    TEST(options_that_cannot_be_together_are_refused);
    OK(memora_fabric_close(fabric));
    return finish();
}
