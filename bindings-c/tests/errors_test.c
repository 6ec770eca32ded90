/* Codes, their texts, and the message of each thread. */
#include "testing.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void *other_thread(void *context) {
    (void)context;
    CHECK(memora_last_error_code() == MEMORA_OK);
    CHECK(memora_last_error_message()[0] == '\0');
    CODE(memora_cache_close((memora_cache_t *)(size_t)0x1234500), MEMORA_CLOSED);
    return NULL;
}

static void every_code_has_name_text_and_remedy(void) {
    int code;
    for (code = MEMORA_STALE; code < -4096; code++) {
        CHECK(strncmp(memora_error_name(code), "MEMORA_", 7) == 0);
        CHECK(strcmp(memora_error_name(code), "MEMORA_UNKNOWN") != 0);
        CHECK(strlen(memora_strerror(code)) > 10);
        CHECK(strlen(memora_error_remedy(code)) >= strlen("Try again."));
    }
    CHECK(strcmp(memora_error_name(MEMORA_CLOSED), "MEMORA_CLOSED") == 0);
    CHECK(strcmp(memora_error_name(MEMORA_OK), "MEMORA_OK") == 0);
    CHECK(strcmp(memora_error_name(12345), "MEMORA_UNKNOWN") == 0);
    CHECK(memora_strerror(-1) != NULL && memora_error_remedy(-5000) != NULL);
}

static void the_message_says_what_happened_and_what_to_do(void) {
    memora_fabric_t *fabric = NULL;
    pthread_t thread;
    CODE(memora_fabric_open("../escape", &fabric), MEMORA_INVALID_NAME);
    CHECK(fabric == NULL);
    CHECK(strstr(memora_last_error_message(), "../escape") != NULL);
    CHECK(strstr(memora_last_error_message(), memora_error_remedy(MEMORA_INVALID_NAME)) != NULL);
    CHECK(memora_last_error_code() == MEMORA_INVALID_NAME);
    /* Another thread has its own. */
    CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(memora_last_error_code() == MEMORA_INVALID_NAME);
}

static void the_versions_agree(void) {
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", MEMORA_VERSION_MAJOR, MEMORA_VERSION_MINOR, MEMORA_VERSION_PATCH);
    CHECK(strcmp(memora_version(), version) == 0);
    CHECK(memora_abi_version() == MEMORA_ABI_VERSION);
}

int main(int argc, char **argv) {
    begin("errors", argc, argv);
    CHECK(memora_last_error_message()[0] == '\0');
    TEST(every_code_has_name_text_and_remedy);
    TEST(the_message_says_what_happened_and_what_to_do);
    TEST(the_versions_agree);
    return finish();
}
