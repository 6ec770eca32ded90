// The header and the library from C++: compiles under -Wall -Wextra -pedantic -Werror, links, runs.
#include <memora.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

namespace {

int failed = 0;

void check(bool holds, const char *what) {
    if (holds) return;
    ++failed;
    std::fprintf(stderr, "%s does not hold: %s\n", what, memora_last_error_message());
}

void append(void *context, const void *key, size_t key_len, const void *value, size_t value_len, const memora_entry_t *) {
    auto *text = static_cast<std::string *>(context);
    text->append(static_cast<const char *>(key), key_len).append("=");
    text->append(static_cast<const char *>(value), value_len);
}

}  // namespace

int main() {
    char home[] = "/tmp/memora-cpp-XXXXXX";
    check(mkdtemp(home) != nullptr, "a directory");
    memora_fabric_options_t options;
    check(memora_fabric_options_init(&options, sizeof options) == MEMORA_OK, "options");
    options.home = home;
    options.limit = 8 << 20;
    memora_fabric_t *fabric = nullptr;
    memora_cache_t *cache = nullptr;
    check(memora_fabric_open_with("cpp", &options, &fabric) == MEMORA_OK, "open");
    check(memora_cache_open(fabric, "c", nullptr, &cache) == MEMORA_OK, "cache");
    check(memora_cache_set(cache, "key", 3, "value", 5, nullptr, nullptr) == MEMORA_OK, "set");
    std::string text;
    std::uint64_t cursor = 0;
    check(memora_cache_scan(cache, &cursor, 10, append, &text) == MEMORA_OK, "scan");
    while (cursor != 0 && memora_cache_scan(cache, &cursor, 10, append, &text) == MEMORA_OK) {
    }
    check(text == "key=value", "what was scanned");
    check(memora_cache_close(cache) == MEMORA_OK && memora_cache_close(cache) == MEMORA_CLOSED, "close");
    check(memora_fabric_close(fabric) == MEMORA_OK, "close of the fabric");
    check(memora_fabric_remove(home, "cpp") == MEMORA_OK, "remove");
    std::string command = "rm -rf ";
    check(std::system((command + home).c_str()) == 0, "clean up");
    return failed != 0;
}
