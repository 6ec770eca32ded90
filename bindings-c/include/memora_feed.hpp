/*
 * memora_feed.hpp: change feeds of stores for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_FEED_HPP
#define MEMORA_FEED_HPP

#include "memora.hpp"

namespace memora {

using FeedPosition = memora_feed_position_t;

/* As the command line and other languages write it. */
inline std::string to_string(const FeedPosition &position) {
    std::string store(16, '0');
    for (std::size_t digit = 0; digit < 16; digit++) store[digit] = "0123456789abcdef"[position.store >> (60 - 4 * digit) & 15];
    return store + "." + std::to_string(position.flush) + "." + std::to_string(position.index);
}

/* A committed change of a key. */
struct Change {
    std::string key;
    std::optional<std::string> value; /* nullopt: deleted, or its time was over */
    std::uint32_t flags;
    std::uint64_t expires_ms; /* wall clock; 0: never */
    std::uint64_t order;      /* grows from change to change of this key */
    FeedPosition position;    /* where one goes on who has handled this change */
};

/* Reads the committed changes of a store, for one thread at a time; see memora_store_feed(). */
class Feed {
  public:
    /* `from` is MEMORA_FROM_OLDEST or MEMORA_FROM_NEWEST. */
    Feed(const Store &store, std::uint32_t from, std::string_view prefix = {}) {
        detail::check(memora_store_feed(store.handle(), from, nullptr, prefix.data(), prefix.size(), handle_.place()));
    }
    /* Behind a change that was handled. */
    Feed(const Store &store, const FeedPosition &after, std::string_view prefix = {}) {
        detail::check(
            memora_store_feed(store.handle(), MEMORA_FROM_POSITION, &after, prefix.data(), prefix.size(), handle_.place()));
    }

    /* nullopt: none came in time. */
    std::optional<Change> next(std::chrono::milliseconds timeout) {
        std::string key(256, '\0'), value(1024, '\0');
        memora_change_t about{};
        for (;;) {
            int result = memora_feed_next(get(), key.data(), key.size(), value.data(), value.size(),
                                          detail::milliseconds(timeout), &about);
            if (result == MEMORA_BUFFER_TOO_SMALL) {
                if (about.key_len > key.size()) key.resize(about.key_len);
                if (about.value_len > value.size()) value.resize(about.value_len);
                continue;
            }
            if (result == MEMORA_NOT_FOUND || !detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
            break;
        }
        key.resize(about.key_len);
        value.resize(about.value_len);
        std::optional<std::string> kept;
        if (!about.deleted) kept = std::move(value);
        return Change{std::move(key), std::move(kept), about.flags, about.expires_ms, about.order, about.position};
    }
    std::optional<Change> try_next() { return next(std::chrono::milliseconds(0)); }
    /* Where one goes on who has handled everything that it gave. */
    FeedPosition position() const {
        FeedPosition position{};
        detail::check(memora_feed_position(get(), &position));
        return position;
    }
    memora_feed_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_feed_t, memora_feed_close> handle_;
};

}  // namespace memora

#endif
