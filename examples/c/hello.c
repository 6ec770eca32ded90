/* The smallest example: a cache and a channel of the fabric `hello`, which every process of this host can share. */
#include <memora.h>
#include <stdio.h>

int main(void) {
    memora_fabric_t *fabric = NULL;
    memora_cache_t *prices = NULL;
    memora_channel_t *news = NULL;
    memora_subscriber_t *subscriber = NULL;
    memora_publisher_t *publisher = NULL;
    memora_channel_options_t options;
    memora_message_t message;
    char buffer[64];
    size_t len = 0;
    int result;

    if ((result = memora_fabric_open("hello", &fabric)) < 0) goto end;

    if ((result = memora_cache_open(fabric, "prices", NULL, &prices)) < 0) goto end;
    if ((result = memora_cache_set(prices, "EURUSD", 6, "1.0871", 6, NULL, NULL)) < 0) goto end;
    if ((result = memora_cache_get(prices, "EURUSD", 6, buffer, sizeof buffer, &len)) < 0) goto end;
    printf("EURUSD %.*s\n", (int)len, buffer);

    if ((result = memora_channel_options_init(&options, sizeof options)) < 0) goto end;
    if ((result = memora_channel_open(fabric, "news", &options, &news)) < 0) goto end;
    if ((result = memora_subscriber_open(news, NULL, &subscriber)) < 0) goto end;
    if ((result = memora_publisher_open(news, &publisher)) < 0) goto end;
    if ((result = memora_publisher_send(publisher, "markets are open", 16, NULL)) < 0) goto end;
    if ((result = memora_subscriber_recv(subscriber, buffer, sizeof buffer, 1000, &message)) < 0) goto end;
    printf("news: %.*s\n", (int)message.len, buffer);

end:
    if (result < 0) fprintf(stderr, "hello: %s\n", memora_last_error_message());
    memora_publisher_close(publisher);
    memora_subscriber_close(subscriber);
    memora_channel_close(news);
    memora_cache_close(prices);
    memora_fabric_close(fabric);
    return result < 0;
}
