/* Publishers and subscribers. */
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static memora_fabric_t *fabric;

static memora_channel_t *channel(const char *name, unsigned kind, unsigned overrun, unsigned lane_bytes) {
    memora_channel_options_t options;
    memora_channel_t *made = NULL;
    OK(memora_channel_options_init(&options, sizeof options));
    options.kind = kind;
    options.overrun = overrun;
    options.lane_bytes = lane_bytes;
    OK(memora_channel_open(fabric, name, &options, &made));
    return made;
}

static int receives(memora_subscriber_t *subscriber, const char *expected) {
    char buffer[256];
    memora_message_t message;
    int result = memora_subscriber_recv(subscriber, buffer, sizeof buffer, 5000, &message);
    return result == MEMORA_OK && message.len == strlen(expected) && memcmp(buffer, expected, message.len) == 0;
}

static void messages_arrive_at_every_subscriber_in_order(void) {
    memora_channel_t *made = channel("broadcast", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 0), *same = NULL;
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *one = NULL, *two = NULL;
    uint64_t first = 0, second = 0;
    memora_message_t message;
    char buffer[64];
    OK(memora_channel_open(fabric, "broadcast", NULL, &same));
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &one));
    OK(memora_subscriber_open(same, NULL, &two));
    CODE(memora_subscriber_try_recv(one, buffer, sizeof buffer, NULL), MEMORA_NOT_FOUND);
    CODE(memora_subscriber_recv(one, buffer, sizeof buffer, 5, NULL), MEMORA_TIMED_OUT);
    CODE(memora_subscriber_recv(one, buffer, sizeof buffer, 0, NULL), MEMORA_NOT_FOUND);
    OK(memora_publisher_send(publisher, "hello", 5, &first));
    OK(memora_publisher_try_send(publisher, "world", 5, &second));
    OK(memora_publisher_send_timeout(publisher, "", 0, 100, NULL));
    CHECK(second > first);
    OK(memora_subscriber_try_recv(one, buffer, sizeof buffer, &message));
    CHECK(message.position == first && message.len == 5 && memcmp(buffer, "hello", 5) == 0);
    CHECK(receives(one, "world") && receives(one, ""));
    CHECK(receives(two, "hello") && receives(two, "world") && receives(two, ""));
    CODE(memora_subscriber_try_recv(two, buffer, sizeof buffer, NULL), MEMORA_NOT_FOUND);
    /* Those of a closed channel stay open. */
    OK(memora_channel_close(made));
    OK(memora_channel_close(same));
    OK(memora_publisher_send(publisher, "later", 5, NULL));
    CHECK(receives(one, "later"));
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(one));
    OK(memora_subscriber_close(two));
}

static void a_stream_brings_the_messages_of_all_publishers(void) {
    memora_channel_t *made = channel("stream", MEMORA_CHANNEL_STREAM, MEMORA_OVERRUN_BLOCK, 0);
    memora_publisher_t *first = NULL, *second = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_message_t message;
    char buffer[16];
    int a = 0, b = 0, i;
    OK(memora_subscriber_open(made, NULL, &subscriber));
    OK(memora_publisher_open(made, &first));
    OK(memora_publisher_open(made, &second));
    for (i = 0; i < 10; i++) {
        OK(memora_publisher_send(first, "a", 1, NULL));
        OK(memora_publisher_send(second, "b", 1, NULL));
    }
    for (i = 0; i < 20; i++) {
        OK(memora_subscriber_recv(subscriber, buffer, sizeof buffer, 5000, &message));
        if (buffer[0] == 'a') a++;
        if (buffer[0] == 'b') b++;
    }
    CHECK(a == 10 && b == 10);
    OK(memora_publisher_close(first));
    OK(memora_publisher_close(second));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void a_message_too_long_for_the_buffer_stays(void) {
    memora_channel_t *made = channel("small", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 0);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_message_t message;
    char buffer[64];
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &subscriber));
    OK(memora_publisher_send(publisher, "0123456789", 10, NULL));
    OK(memora_publisher_send(publisher, "next", 4, NULL));
    CODE(memora_subscriber_try_recv(subscriber, buffer, 4, &message), MEMORA_BUFFER_TOO_SMALL);
    CHECK(message.len == 10 && memora_last_error_amount() == 10);
    CODE(memora_subscriber_recv(subscriber, NULL, 0, 10, &message), MEMORA_BUFFER_TOO_SMALL);
    OK(memora_subscriber_commit(subscriber));
    CHECK(receives(subscriber, "0123456789"));
    CHECK(receives(subscriber, "next"));
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

struct polled {
    memora_subscriber_t *subscriber;
    char text[64];
    int busy;
};

static void take_message(void *context, const memora_message_t *message, const void *data, size_t len) {
    struct polled *polled = context;
    char buffer[8];
    CHECK(message->len == len && len == 1);
    strncat(polled->text, data, len);
    if (memora_subscriber_try_recv(polled->subscriber, buffer, sizeof buffer, NULL) == MEMORA_BUSY) polled->busy++;
}

static void a_poll_takes_up_to_its_limit(void) {
    memora_channel_t *made = channel("poll", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 0);
    memora_publisher_t *publisher = NULL;
    struct polled polled = {NULL, "", 0};
    size_t count = 99;
    char buffer[1];
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &polled.subscriber));
    OK(memora_subscriber_poll(polled.subscriber, 10, take_message, &polled, &count));
    CHECK(count == 0);
    OK(memora_publisher_send(publisher, "a", 1, NULL));
    OK(memora_publisher_send(publisher, "b", 1, NULL));
    OK(memora_publisher_send(publisher, "c", 1, NULL));
    /* A message that a small buffer left behind comes first. */
    CODE(memora_subscriber_try_recv(polled.subscriber, buffer, 0, NULL), MEMORA_BUFFER_TOO_SMALL);
    OK(memora_subscriber_poll(polled.subscriber, 2, take_message, &polled, &count));
    CHECK(count == 2 && strcmp(polled.text, "ab") == 0);
    OK(memora_subscriber_poll(polled.subscriber, 2, take_message, &polled, &count));
    CHECK(count == 1 && strcmp(polled.text, "abc") == 0 && polled.busy == 3);
    CODE(memora_subscriber_poll(polled.subscriber, 2, NULL, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(polled.subscriber));
    OK(memora_channel_close(made));
}

static void a_full_ring_holds_the_publisher_back_and_loses_nothing(void) {
    memora_channel_t *made = channel("full", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 4096);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_message_t message;
    char buffer[128];
    int sent = 0, received = 0, result = MEMORA_OK;
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &subscriber));
    memset(buffer, 'x', sizeof buffer);
    while (sent < 100000 && result == MEMORA_OK) {
        memcpy(buffer, &sent, sizeof sent);
        result = memora_publisher_try_send(publisher, buffer, sizeof buffer, NULL);
        if (result == MEMORA_OK) sent++;
    }
    CHECK(result == MEMORA_BACK_PRESSURE && sent > 5);
    CODE(memora_publisher_send_timeout(publisher, buffer, sizeof buffer, 20, NULL), MEMORA_TIMED_OUT);
    while (memora_subscriber_try_recv(subscriber, buffer, sizeof buffer, &message) == MEMORA_OK) {
        int number;
        memcpy(&number, buffer, sizeof number);
        CHECK(number == received);
        received++;
    }
    CHECK(received == sent);
    OK(memora_publisher_try_send(publisher, buffer, sizeof buffer, NULL));
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void a_loss_is_told_once_with_its_size(void) {
    memora_channel_t *made = channel("lossy", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_LOSE, 4096);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    char buffer[128];
    uint64_t lost = 0, received = 0;
    int i, result;
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &subscriber));
    memset(buffer, 'x', sizeof buffer);
    for (i = 0; i < 1000; i++) OK(memora_publisher_send(publisher, buffer, sizeof buffer, NULL));
    do {
        result = memora_subscriber_try_recv(subscriber, buffer, sizeof buffer, NULL);
        if (result == MEMORA_OVERRUN) lost += memora_last_error_amount();
        if (result == MEMORA_OK) received++;
    } while (result == MEMORA_OK || result == MEMORA_OVERRUN);
    CHECK(result == MEMORA_NOT_FOUND);
    CHECK(lost > 0 && received > 0 && lost + received == 1000);
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void a_long_message_that_was_pushed_out_is_counted_as_lost(void) {
    memora_channel_t *made = channel("lossy-long", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_LOSE, 4096);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    static char sent[100000], got[100000];
    memora_message_t message;
    uint64_t lost = 0, received = 0;
    int i, result;
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &subscriber));
    for (i = 0; i < 10; i++) {
        memset(sent, 'a' + i, sizeof sent);
        OK(memora_publisher_send(publisher, sent, sizeof sent, NULL));
    }
    do {
        result = memora_subscriber_try_recv(subscriber, got, sizeof got, &message);
        if (result == MEMORA_OVERRUN) lost += memora_last_error_amount();
        if (result == MEMORA_OK) {
            memset(sent, 'a' + (int)(lost + received), sizeof sent);
            CHECK(message.len == sizeof got && memcmp(got, sent, sizeof got) == 0);
            received++;
        }
    } while (result == MEMORA_OK || result == MEMORA_OVERRUN);
    CHECK(result == MEMORA_NOT_FOUND);
    CHECK(lost == 8 && received == 2);
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void a_message_is_written_in_place(void) {
    memora_channel_t *made = channel("claim", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 0);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    uint64_t position = 0;
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &subscriber));
    CODE(memora_publisher_write(publisher, 0, "x", 1), MEMORA_NOT_FOUND);
    CODE(memora_publisher_commit(publisher, NULL), MEMORA_NOT_FOUND);
    OK(memora_publisher_claim(publisher, 16, 1000));
    CODE(memora_publisher_claim(publisher, 16, 1000), MEMORA_BUSY);
    CODE(memora_publisher_send(publisher, "y", 1, NULL), MEMORA_BUSY);
    OK(memora_publisher_write(publisher, 8, "89abcdef", 8));
    OK(memora_publisher_write(publisher, 0, "01234567", 8));
    CODE(memora_publisher_write(publisher, 16, "x", 1), MEMORA_INVALID_ARGUMENT);
    CODE(memora_publisher_write(publisher, SIZE_MAX, "x", 1), MEMORA_INVALID_ARGUMENT);
    OK(memora_publisher_commit(publisher, &position));
    CHECK(receives(subscriber, "0123456789abcdef"));
    OK(memora_publisher_claim(publisher, 4, 1000));
    OK(memora_publisher_abort(publisher));
    CODE(memora_publisher_abort(publisher), MEMORA_NOT_FOUND);
    OK(memora_publisher_send(publisher, "after", 5, NULL));
    CHECK(receives(subscriber, "after"));
    /* A claim that its publisher takes with it is no message. */
    OK(memora_publisher_claim(publisher, 4, 1000));
    OK(memora_publisher_close(publisher));
    CODE(memora_subscriber_try_recv(subscriber, NULL, 0, NULL), MEMORA_NOT_FOUND);
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void a_named_subscription_keeps_its_place(void) {
    memora_channel_t *made = channel("named", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 0);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL, *second = NULL;
    OK(memora_subscriber_open(made, "reader", &subscriber));
    CODE(memora_subscriber_open(made, "reader", &second), MEMORA_SUBSCRIPTION_IN_USE);
    CHECK(second == NULL);
    OK(memora_publisher_open(made, &publisher));
    OK(memora_publisher_send(publisher, "one", 3, NULL));
    OK(memora_publisher_send(publisher, "two", 3, NULL));
    CHECK(receives(subscriber, "one"));
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_send(publisher, "three", 5, NULL));
    OK(memora_subscriber_open(made, "reader", &subscriber));
    CHECK(receives(subscriber, "two") && receives(subscriber, "three"));
    OK(memora_subscriber_commit(subscriber));
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(made));
}

static void *receive_for_ever(void *context) {
    char buffer[16];
    int *result = malloc(sizeof *result);
    if (result) *result = memora_subscriber_recv(context, buffer, sizeof buffer, MEMORA_FOREVER, NULL);
    return result;
}

static void a_waiting_subscriber_may_be_closed(void) {
    memora_channel_t *made = channel("waiting", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 0);
    memora_subscriber_t *subscriber = NULL;
    pthread_t thread;
    void *result = NULL;
    char buffer[8];
    int i, busy = 0;
    OK(memora_subscriber_open(made, "waiting", &subscriber));
    CHECK(pthread_create(&thread, NULL, receive_for_ever, subscriber) == 0);
    for (i = 0; i < 5000 && !busy; i++) {
        busy = memora_subscriber_try_recv(subscriber, buffer, sizeof buffer, NULL) == MEMORA_BUSY;
        sleep_ms(1);
    }
    CHECK(busy);
    OK(memora_subscriber_close(subscriber));
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result != NULL && *(int *)result == MEMORA_CLOSED);
    free(result);
    /* And the subscription is free. */
    OK(memora_subscriber_open(made, "waiting", &subscriber));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
}

static void bad_input_is_refused(void) {
    memora_channel_options_t options;
    memora_channel_t *made = channel("bad", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 4096), *other = NULL;
    memora_cache_t *cache = NULL;
    memora_publisher_t *publisher = NULL;
    char *big = calloc(1, 1 << 20);
    OK(memora_channel_options_init(&options, sizeof options));
    CODE(memora_channel_open(fabric, "nobody", NULL, &other), MEMORA_NOT_FOUND);
    CODE(memora_channel_open(fabric, NULL, NULL, &other), MEMORA_INVALID_ARGUMENT);
    CODE(memora_channel_open(fabric, "bad", &options, NULL), MEMORA_INVALID_ARGUMENT);
    options.kind = 9;
    CODE(memora_channel_open(fabric, "bad2", &options, &other), MEMORA_INVALID_ARGUMENT);
    CODE(memora_cache_open(fabric, "bad", NULL, &cache), MEMORA_WRONG_KIND);
    CHECK(other == NULL && cache == NULL);
    OK(memora_publisher_open(made, &publisher));
    /* Longer than any message of a fabric may be: it is not read. */
    CODE(memora_publisher_send(publisher, big, (size_t) 129 << 20, NULL), MEMORA_VALUE_TOO_LONG);
    CODE(memora_publisher_try_send(publisher, NULL, 3, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_publisher_claim(publisher, 1 << 20, 1000), MEMORA_VALUE_TOO_LONG);
    CODE(memora_publisher_claim(publisher, SIZE_MAX, 1000), MEMORA_VALUE_TOO_LONG);
    CODE(memora_publisher_send(publisher, big, SIZE_MAX, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_publisher_send(publisher, big, SIZE_MAX / 2, NULL), MEMORA_VALUE_TOO_LONG);
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(made));
    free(big);
}

static void limits_and_times_may_be_extreme(void) {
    memora_channel_t *made = channel("extreme", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 4096);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    struct polled polled;
    memora_message_t message;
    size_t count = 9;
    char buffer[8];
    memset(&polled, 0, sizeof polled);
    OK(memora_subscriber_open(made, NULL, &subscriber));
    OK(memora_publisher_open(made, &publisher));
    polled.subscriber = subscriber;
    OK(memora_publisher_send_timeout(publisher, "a", 1, INT64_MAX, NULL));
    OK(memora_publisher_send_timeout(publisher, "b", 1, INT64_MIN, NULL));
    OK(memora_publisher_send(publisher, NULL, 0, NULL));
    OK(memora_publisher_send(publisher, "c", 1, NULL));
    OK(memora_subscriber_recv(subscriber, buffer, sizeof buffer, INT64_MAX, NULL));
    CHECK(buffer[0] == 'a');
    OK(memora_subscriber_recv(subscriber, buffer, sizeof buffer, INT64_MIN, NULL));
    CHECK(buffer[0] == 'b');
    OK(memora_subscriber_try_recv(subscriber, NULL, 0, &message));
    CHECK(message.len == 0 && message.position > 0);
    OK(memora_subscriber_poll(subscriber, 0, take_message, &polled, &count));
    CHECK(count == 0);
    OK(memora_subscriber_poll(subscriber, SIZE_MAX, take_message, &polled, &count));
    CHECK(count == 1);
    CODE(memora_subscriber_poll(subscriber, 1, NULL, &polled, &count), MEMORA_INVALID_ARGUMENT);
    CODE(memora_subscriber_try_recv(subscriber, NULL, 5, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_subscriber_try_recv(subscriber, buffer, SIZE_MAX, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_subscriber_lag(subscriber, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_subscriber_close(subscriber));
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(made));
}

struct seen {
    int named, anonymous, held;
    uint64_t lag;
};

static void take_subscription(void *context, const char *name, int held, uint64_t lag_bytes) {
    struct seen *seen = context;
    if (strcmp(name, "who") == 0) seen->named++;
    else if (*name == 0) seen->anonymous++;
    seen->held += held;
    seen->lag += lag_bytes;
}

static void a_channel_tells_its_figures(void) {
    memora_channel_t *made = channel("figures", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 4096);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *named = NULL, *anonymous = NULL;
    memora_channel_stats_t stats;
    struct seen seen = {0, 0, 0, 0};
    OK(memora_subscriber_open(made, "who", &named));
    OK(memora_subscriber_open(made, NULL, &anonymous));
    OK(memora_publisher_open(made, &publisher));
    OK(memora_publisher_send(publisher, "message", 7, NULL));
    OK(memora_subscriber_close(named));
    OK(memora_channel_stats(made, &stats, sizeof stats));
    CHECK(stats.publishers == 1 && stats.lanes == 1 && stats.published_bytes >= 7 && stats.subscriptions == 2);
    OK(memora_channel_subscriptions(made, take_subscription, &seen));
    CHECK(seen.named == 1 && seen.anonymous == 1 && seen.held == 1 && seen.lag >= 14);
    CODE(memora_channel_subscriptions(made, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    CODE(memora_channel_stats(made, NULL, sizeof stats), MEMORA_INVALID_ARGUMENT);
    OK(memora_subscriber_close(anonymous));
    OK(memora_publisher_close(publisher));
    OK(memora_channel_close(made));
}

static void messages_longer_than_the_ring_arrive_whole_and_hold_their_publisher_back(void) {
    enum { LEN = 1000003 };
    memora_channel_t *made = channel("long", MEMORA_CHANNEL_BROADCAST, MEMORA_OVERRUN_BLOCK, 4096);
    memora_publisher_t *publisher = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_message_t message;
    char *sent = malloc(LEN), *got = malloc(LEN);
    int i, round;
    OK(memora_publisher_open(made, &publisher));
    OK(memora_subscriber_open(made, NULL, &subscriber));
    for (i = 0; i < LEN; i++) sent[i] = (char) (i * 31 + i / 251);
    for (round = 0; round < 5; round++) {
        OK(memora_publisher_try_send(publisher, sent, LEN, NULL));
        OK(memora_publisher_send(publisher, sent, LEN - 7, NULL));
        CODE(memora_publisher_try_send(publisher, sent, LEN, NULL), MEMORA_BACK_PRESSURE);
        CODE(memora_publisher_send_timeout(publisher, sent, LEN, 2, NULL), MEMORA_TIMED_OUT);
        OK(memora_publisher_try_send(publisher, "short", 5, NULL));
        CODE(memora_subscriber_recv(subscriber, got, LEN - 1, 1000, &message), MEMORA_BUFFER_TOO_SMALL);
        CHECK(message.len == LEN && memora_last_error_amount() == LEN);
        OK(memora_subscriber_recv(subscriber, got, LEN, 1000, &message));
        CHECK(message.len == LEN && memcmp(sent, got, LEN) == 0);
        OK(memora_subscriber_recv(subscriber, got, LEN, 1000, &message));
        CHECK(message.len == LEN - 7 && memcmp(sent, got, LEN - 7) == 0);
        OK(memora_subscriber_recv(subscriber, got, LEN, 1000, &message));
        CHECK(message.len == 5 && memcmp("short", got, 5) == 0);
        OK(memora_subscriber_commit(subscriber));
    }
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
    free(sent);
    free(got);
}

struct looked {
    memora_publisher_t *publisher;
    memora_subscriber_t *subscriber;
    memora_channel_t *made;
    int busy;
    size_t seen, len;
    const void *last;
    unsigned char bytes[20000];
};

static void look(void *context, const memora_message_t *message, const void *data, size_t len) {
    struct looked *looked = context;
    CHECK(message->len == len && len <= sizeof looked->bytes);
    if (memora_subscriber_commit(looked->subscriber) == MEMORA_BUSY) looked->busy++;
    /* Nobody overwrites it, however much is sent now. */
    while (looked->publisher != NULL && memora_publisher_try_send(looked->publisher, "more", 4, NULL) == MEMORA_OK) {}
    memcpy(looked->bytes, data, len);
    looked->seen++;
    looked->len = len;
    looked->last = data;
}

static void a_message_is_looked_at_where_it_stands(void) {
    static struct looked looked;
    memora_channel_t *made = channel("looked", MEMORA_CHANNEL_STREAM, MEMORA_OVERRUN_BLOCK, 4096);
    memora_publisher_t *publisher = NULL;
    size_t count = 99, len, i;
    unsigned char *sent = malloc(20000);
    memora_subscriber_t *subscriber = NULL;
    const void *one, *two;
    CODE(memora_subscriber_poll_in_place(NULL, 1, look, &looked, &count), MEMORA_INVALID_ARGUMENT);
    OK(memora_subscriber_open(made, NULL, &subscriber));
    OK(memora_publisher_open(made, &publisher));
    looked.subscriber = subscriber;
    CODE(memora_subscriber_poll_in_place(subscriber, 1, NULL, NULL, NULL), MEMORA_INVALID_ARGUMENT);
    OK(memora_subscriber_poll_in_place(subscriber, 1, look, &looked, &count));
    CHECK(count == 0 && looked.seen == 0);
    /* Of every length, those that are longer than the ring, too. */
    for (len = 0; len < 20000; len = len * 2 + 1) {
        for (i = 0; i < len; i++) sent[i] = (unsigned char)(i * 7 + len);
        OK(memora_publisher_send(publisher, sent, len, NULL));
        OK(memora_subscriber_poll_in_place(subscriber, 1, look, &looked, &count));
        CHECK(count == 1 && looked.len == len && memcmp(looked.bytes, sent, len) == 0);
        CHECK(len > 2000 || (uintptr_t)looked.last % 8 == 0);
    }
    CHECK(looked.busy == (int)looked.seen);
    OK(memora_subscriber_commit(subscriber));
    /* Two behind each other stand behind each other. */
    OK(memora_publisher_send(publisher, sent, 64, NULL));
    OK(memora_publisher_send(publisher, sent, 64, NULL));
    looked.publisher = publisher;
    OK(memora_subscriber_poll_in_place(subscriber, 1, look, &looked, &count));
    CHECK(count == 1 && looked.len == 64 && memcmp(looked.bytes, sent, 64) == 0);
    one = looked.last;
    OK(memora_subscriber_poll_in_place(subscriber, 1, look, &looked, &count));
    CHECK(count == 1 && looked.len == 64 && memcmp(looked.bytes, sent, 64) == 0);
    two = looked.last;
    CHECK((const char *)two - (const char *)one == 72 || two < one);
    OK(memora_publisher_close(publisher));
    OK(memora_subscriber_close(subscriber));
    OK(memora_channel_close(made));
    free(sent);
}

static void close_it(void *context, const memora_message_t *message, const void *data, size_t len) {
    struct looked *looked = context;
    (void)message;
    /* The memory stays while the function is at work. */
    OK(memora_subscriber_close(looked->subscriber));
    OK(memora_channel_close(looked->made));
    CHECK(len == 5 && memcmp(data, "hello", 5) == 0);
    looked->seen++;
}

static void a_subscriber_that_is_closed_in_its_function_stays_until_that_returns(void) {
    static struct looked looked;
    memora_publisher_t *publisher = NULL;
    looked.made = channel("closed-inside", MEMORA_CHANNEL_STREAM, MEMORA_OVERRUN_BLOCK, 4096);
    OK(memora_subscriber_open(looked.made, NULL, &looked.subscriber));
    OK(memora_publisher_open(looked.made, &publisher));
    OK(memora_publisher_send(publisher, "hello", 5, NULL));
    memora_subscriber_poll_in_place(looked.subscriber, 1, close_it, &looked, NULL);
    CHECK(looked.seen == 1);
    CODE(memora_subscriber_poll_in_place(looked.subscriber, 1, close_it, &looked, NULL), MEMORA_CLOSED);
    OK(memora_publisher_close(publisher));
}

int main(int argc, char **argv) {
    begin("channel", argc, argv);
    OK(memora_fabric_open("test", &fabric));
    TEST(messages_arrive_at_every_subscriber_in_order);
    TEST(a_stream_brings_the_messages_of_all_publishers);
    TEST(a_message_too_long_for_the_buffer_stays);
    TEST(a_poll_takes_up_to_its_limit);
    TEST(a_full_ring_holds_the_publisher_back_and_loses_nothing);
    TEST(a_loss_is_told_once_with_its_size);
    TEST(a_long_message_that_was_pushed_out_is_counted_as_lost);
    TEST(a_message_is_written_in_place);
    TEST(a_named_subscription_keeps_its_place);
    TEST(a_waiting_subscriber_may_be_closed);
    TEST(bad_input_is_refused);
    TEST(limits_and_times_may_be_extreme);
    TEST(a_channel_tells_its_figures);
    TEST(messages_longer_than_the_ring_arrive_whole_and_hold_their_publisher_back);
    TEST(a_message_is_looked_at_where_it_stands);
    TEST(a_subscriber_that_is_closed_in_its_function_stays_until_that_returns);
    OK(memora_fabric_close(fabric));
    return finish();
}
