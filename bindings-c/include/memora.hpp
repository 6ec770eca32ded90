/*
 * memora.hpp: memora.h for C++17 and later: handles that close themselves, std::string_view for bytes, exceptions for errors.
 * Nothing but inline functions over the C functions: link with -lmemora, as from C. Apache-2.0.
 *
 *     #include <memora.hpp>
 *     #include <iostream>
 *
 *     int main() {
 *         memora::Fabric fabric("hello");
 *         memora::Cache prices(fabric, "prices");
 *         prices.set("EURUSD", "1.0871");
 *         std::cout << "EURUSD " << prices.get("EURUSD").value_or("unknown") << "\n";
 *     }
 *
 * What memora.h says of handles, threads, fork, memory and crashes holds here, too. Objects can be moved, not copied. One that was
 * moved from, or closed, throws MEMORA_INVALID_ARGUMENT or MEMORA_CLOSED. Ordinary answers are values (std::nullopt for a miss,
 * false for "not stored"); everything else throws memora::Error. Functions that are handed over are called during the call only;
 * when one throws, it is not called again, and its exception comes out of the call.
 */
#ifndef MEMORA_HPP
#define MEMORA_HPP

#include <memora.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace memora {

/* Why a call failed: one of MEMORA_<NAME>; what() says what happened, with the values and the remedy. */
class Error : public std::runtime_error {
  public:
    Error(int code, const char *message) : std::runtime_error(message), code_(code), amount_(memora_last_error_amount()) {}

    int code() const noexcept { return code_; }
    const char *name() const noexcept { return memora_error_name(code_); }
    const char *remedy() const noexcept { return memora_error_remedy(code_); }
    /* The number that belongs to some codes: the length that is needed, the messages that were lost. */
    std::uint64_t amount() const noexcept { return amount_; }

  private:
    int code_;
    std::uint64_t amount_;
};

namespace detail {

inline void check(int result) {
    if (result < 0) throw Error(result, memora_last_error_message());
}

/* Whether it was done; false for the one code that is an ordinary answer here. */
inline bool done_or(int result, int ordinary) {
    if (result == ordinary) return false;
    check(result);
    return true;
}

/* A handle with the function that closes it. */
template <class T, int (*Close)(T *)> class Handle {
  public:
    Handle() noexcept = default;
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            Close(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { Close(handle_); }

    /* The handle for the functions of memora.h; it stays this object's. */
    T *get() const noexcept { return handle_; }
    T **place() noexcept { return &handle_; }
    void close() { check(Close(std::exchange(handle_, nullptr))); }

  private:
    T *handle_ = nullptr;
};

/* A function that C calls: what it throws waits here until C has returned. */
template <class F> class Callback {
  public:
    explicit Callback(F &function) : function_(function) {}

    template <class... Arguments> void call(Arguments &&...arguments) noexcept {
        if (thrown_) return;
        try {
            function_(std::forward<Arguments>(arguments)...);
        } catch (...) {
            thrown_ = std::current_exception();
        }
    }
    void rethrow() const {
        if (thrown_) std::rethrow_exception(thrown_);
    }

  private:
    F &function_;
    std::exception_ptr thrown_;
};

inline std::string_view view(const void *data, std::size_t len) {
    return {static_cast<const char *>(data), len};
}

/* Takes an entry from C for a Callback<F>. */
template <class F>
void take_entry(void *context, const void *key, std::size_t key_len, const void *value, std::size_t value_len, const memora_entry_t *about) {
    static_cast<Callback<F> *>(context)->call(view(key, key_len), view(value, value_len), *about);
}

/* A bound of a range: C takes NULL for none. */
inline const char *bound(const std::optional<std::string_view> &key) {
    if (!key) return nullptr;
    return key->data() ? key->data() : "";
}

/* Goes over a range of entries by memora_store_range() or its like. */
template <class How, class T, class F>
bool range(How how, T *handle, const std::optional<std::string_view> &from, const std::optional<std::string_view> &to, F &function,
           std::uint32_t flags, std::size_t limit) {
    int more = 0;
    Callback<F> callback(function);
    check(how(handle, bound(from), from ? from->size() : 0, bound(to), to ? to->size() : 0, flags, limit, take_entry<F>, &callback, &more));
    callback.rethrow();
    return more != 0;
}

inline std::int64_t milliseconds(std::chrono::milliseconds timeout) {
    return timeout.count() < 0 ? MEMORA_FOREVER : static_cast<std::int64_t>(timeout.count());
}

/* Calls again with a larger buffer until the answer fits. */
template <class Get> std::optional<std::string> fetch(Get get) {
    std::string value(256, '\0');
    for (;;) {
        std::size_t len = 0;
        int result = get(value.data(), value.size(), &len);
        if (result == MEMORA_NOT_FOUND) return std::nullopt;
        if (result != MEMORA_BUFFER_TOO_SMALL) {
            check(result);
            value.resize(len);
            return value;
        }
        value.resize(len);
    }
}

}  // namespace detail

/* A wait without end. */
inline constexpr std::chrono::milliseconds forever{-1};

/* A fabric; see memora_fabric_open(). */
class Fabric {
  public:
    using Options = memora_fabric_options_t;

    explicit Fabric(const char *name) { detail::check(memora_fabric_open(name, handle_.place())); }
    explicit Fabric(const std::string &name) : Fabric(name.c_str()) {}
    Fabric(const std::string &name, const Options &options) {
        detail::check(memora_fabric_open_with(name.c_str(), &options, handle_.place()));
    }
    /* The fabric in a memory file that another process handed over; the descriptor stays the caller's. */
    static Fabric of_fd(int fd, bool read_only = false) {
        Options chosen = options();
        chosen.read_only = read_only;
        Fabric fabric;
        detail::check(memora_fabric_open_fd(fd, &chosen, fabric.handle_.place()));
        return fabric;
    }
    /* The default options, to be changed. */
    static Options options() {
        Options made;
        detail::check(memora_fabric_options_init(&made, sizeof made));
        return made;
    }
    /* `home` may be null for the default directory. */
    static void remove(const char *home, const std::string &name) { detail::check(memora_fabric_remove(home, name.c_str())); }

    /* A new descriptor of the memory file, to be closed by the caller. */
    int memfd() const {
        int fd = -1;
        detail::check(memora_fabric_memfd(get(), &fd));
        return fd;
    }
    memora_fabric_stat_t stat() const {
        memora_fabric_stat_t stat;
        detail::check(memora_fabric_stat(get(), &stat, sizeof stat));
        return stat;
    }
    memora_fabric_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    Fabric() = default;
    detail::Handle<memora_fabric_t, memora_fabric_close> handle_;
};

/* A value with what is known of it. */
struct Entry {
    std::string value;
    std::uint64_t version;
    /* nullopt: it never expires. */
    std::optional<std::chrono::milliseconds> ttl;
    std::uint32_t flags;
};

/* What is stored beside a value. */
struct SetOptions {
    /* 0: it never expires. */
    std::chrono::milliseconds ttl{0};
    std::uint32_t flags = 0;
};

/* How a compare-and-swap ended. */
struct Swapped {
    enum class Outcome { stored, stale, not_found } outcome;
    /* The new version, or the one that was found. */
    std::uint64_t version;
    explicit operator bool() const noexcept { return outcome == Outcome::stored; }
};

namespace detail {

/* The functions of caches, and those of stores. */
struct OfCache {
    using type = memora_cache_t;
    using stats_type = memora_cache_stats_t;
    static constexpr auto close = memora_cache_close;
    static constexpr auto get = memora_cache_get;
    static constexpr auto get_entry = memora_cache_get_entry;
    static constexpr auto get_many = memora_cache_get_many;
    static constexpr auto set = memora_cache_set;
    static constexpr auto add = memora_cache_add;
    static constexpr auto replace = memora_cache_replace;
    static constexpr auto compare_and_swap = memora_cache_compare_and_swap;
    static constexpr auto remove = memora_cache_delete;
    static constexpr auto increment = memora_cache_increment;
    static constexpr auto decrement = memora_cache_decrement;
    static constexpr auto len = memora_cache_len;
    static constexpr auto scan = memora_cache_scan;
    static constexpr auto stats = memora_cache_stats;
};

struct OfStore {
    using type = memora_store_t;
    using stats_type = memora_store_stats_t;
    static constexpr auto close = memora_store_close;
    static constexpr auto get = memora_store_get;
    static constexpr auto get_entry = memora_store_get_entry;
    static constexpr auto get_many = memora_store_get_many;
    static constexpr auto set = memora_store_set;
    static constexpr auto add = memora_store_add;
    static constexpr auto replace = memora_store_replace;
    static constexpr auto compare_and_swap = memora_store_compare_and_swap;
    static constexpr auto remove = memora_store_delete;
    static constexpr auto increment = memora_store_increment;
    static constexpr auto decrement = memora_store_decrement;
    static constexpr auto len = memora_store_len;
    static constexpr auto scan = memora_store_scan;
    static constexpr auto stats = memora_store_stats;
};

/* Options only where there are any. */
class Set {
  public:
    explicit Set(const SetOptions &wanted) : used_(wanted.ttl.count() > 0 || wanted.flags != 0) {
        if (!used_) return;
        check(memora_set_options_init(&options_, sizeof options_));
        options_.ttl_ms = wanted.ttl.count() > 0 ? static_cast<std::uint64_t>(wanted.ttl.count()) : 0;
        options_.flags = wanted.flags;
    }
    const memora_set_options_t *options() const noexcept { return used_ ? &options_ : nullptr; }

  private:
    bool used_;
    memora_set_options_t options_{};
};

inline Entry entry(std::string value, const memora_entry_t &about) {
    std::optional<std::chrono::milliseconds> ttl;
    if (about.ttl_ms != UINT64_MAX) ttl = std::chrono::milliseconds(about.ttl_ms);
    return {std::move(value), about.version, ttl, about.flags};
}

/* What a cache and a store have in common. */
template <class Of> class Entries {
  public:
    using type = typename Of::type;

    std::optional<std::string> get(std::string_view key) const {
        return fetch([&](char *buffer, std::size_t capacity, std::size_t *len) {
            return Of::get(handle(), key.data(), key.size(), buffer, capacity, len);
        });
    }
    /* Into memory of the caller, without an allocation: the length; nullopt for a miss; throws MEMORA_BUFFER_TOO_SMALL. */
    std::optional<std::size_t> get_into(std::string_view key, void *buffer, std::size_t capacity) const {
        std::size_t len = 0;
        if (!done_or(Of::get(handle(), key.data(), key.size(), buffer, capacity, &len), MEMORA_NOT_FOUND)) return std::nullopt;
        return len;
    }
    std::optional<Entry> get_entry(std::string_view key) const {
        memora_entry_t about{};
        auto value = fetch([&](char *buffer, std::size_t capacity, std::size_t *len) {
            return Of::get_entry(handle(), key.data(), key.size(), buffer, capacity, len, &about);
        });
        if (!value) return std::nullopt;
        return entry(*std::move(value), about);
    }
    /* The values of many keys, in their order. */
    std::vector<std::optional<std::string>> get_many(const std::vector<std::string_view> &keys) const {
        std::vector<memora_bytes_t> wanted;
        wanted.reserve(keys.size());
        for (std::string_view key : keys) wanted.push_back({key.data(), key.size()});
        std::vector<std::optional<std::string>> values(keys.size());
        auto take = [&](std::size_t index, const void *value, std::size_t len) {
            if (value != nullptr) values[index] = std::string(view(value, len));
        };
        Callback<decltype(take)> callback(take);
        check(Of::get_many(
            handle(), wanted.data(), wanted.size(),
            [](void *context, std::size_t index, const void *value, std::size_t len) {
                static_cast<Callback<decltype(take)> *>(context)->call(index, value, len);
            },
            &callback));
        callback.rethrow();
        return values;
    }
    /* Each of these gives the version of the new entry. */
    std::uint64_t set(std::string_view key, std::string_view value, const SetOptions &options = {}) {
        std::uint64_t version = 0;
        Set set(options);
        check(Of::set(handle(), key.data(), key.size(), value.data(), value.size(), set.options(), &version));
        return version;
    }
    /* nullopt: there is one already. */
    std::optional<std::uint64_t> add(std::string_view key, std::string_view value, const SetOptions &options = {}) {
        std::uint64_t version = 0;
        Set set(options);
        int result = Of::add(handle(), key.data(), key.size(), value.data(), value.size(), set.options(), &version);
        if (!done_or(result, MEMORA_ALREADY_EXISTS)) return std::nullopt;
        return version;
    }
    /* nullopt: there is none. */
    std::optional<std::uint64_t> replace(std::string_view key, std::string_view value, const SetOptions &options = {}) {
        std::uint64_t version = 0;
        Set set(options);
        int result = Of::replace(handle(), key.data(), key.size(), value.data(), value.size(), set.options(), &version);
        if (!done_or(result, MEMORA_NOT_FOUND)) return std::nullopt;
        return version;
    }
    Swapped compare_and_swap(std::string_view key, std::string_view value, std::uint64_t expected, const SetOptions &options = {}) {
        std::uint64_t version = 0;
        Set set(options);
        int result = Of::compare_and_swap(handle(), key.data(), key.size(), value.data(), value.size(), expected, set.options(), &version);
        if (result == MEMORA_STALE) return {Swapped::Outcome::stale, version};
        if (result == MEMORA_NOT_FOUND) return {Swapped::Outcome::not_found, 0};
        check(result);
        return {Swapped::Outcome::stored, version};
    }
    /* Whether there was one. */
    bool remove(std::string_view key) { return done_or(Of::remove(handle(), key.data(), key.size()), MEMORA_NOT_FOUND); }
    /* The new number; nullopt: there is none, and no `initial` to begin with. */
    std::optional<std::uint64_t> increment(std::string_view key, std::uint64_t by, std::optional<std::uint64_t> initial = {}) {
        return count(Of::increment, key, by, initial);
    }
    std::optional<std::uint64_t> decrement(std::string_view key, std::uint64_t by, std::optional<std::uint64_t> initial = {}) {
        return count(Of::decrement, key, by, initial);
    }
    std::uint64_t size() const {
        std::uint64_t len = 0;
        check(Of::len(handle(), &len));
        return len;
    }
    /* Calls `function(std::string_view key, std::string_view value, const memora_entry_t &)` for every entry. */
    template <class F> void for_each(F &&function) const {
        Callback<std::remove_reference_t<F>> callback(function);
        std::uint64_t cursor = 0;
        do {
            check(Of::scan(handle(), &cursor, 256, take_entry<std::remove_reference_t<F>>, &callback));
            callback.rethrow();
        } while (cursor != 0);
    }
    typename Of::stats_type stats() const {
        typename Of::stats_type stats;
        check(Of::stats(handle(), &stats, sizeof stats));
        return stats;
    }
    type *handle() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  protected:
    Entries() = default;
    Handle<type, Of::close> handle_;

  private:
    template <class Count>
    std::optional<std::uint64_t> count(Count function, std::string_view key, std::uint64_t by, std::optional<std::uint64_t> initial) {
        std::uint64_t number = 0;
        int result = function(handle(), key.data(), key.size(), by, initial ? &*initial : nullptr, &number);
        if (!done_or(result, MEMORA_NOT_FOUND)) return std::nullopt;
        return number;
    }
};

}  // namespace detail

/* A value where it stands, or a copy; see memora_cache_view(). Its bytes are good as long as it lives. */
class View {
  public:
    std::string_view bytes() const {
        const void *data = nullptr;
        std::size_t len = 0;
        detail::check(memora_view_bytes(get(), &data, &len, nullptr));
        return detail::view(data, len);
    }
    /* Version, time to live, flags and marks. */
    memora_entry_t entry() const {
        memora_entry_t entry{};
        detail::check(memora_view_bytes(get(), nullptr, nullptr, &entry));
        return entry;
    }
    bool is_copy() const {
        int copy = 0;
        detail::check(memora_view_is_copy(get(), &copy));
        return copy != 0;
    }
    memora_view_t *get() const noexcept { return handle_.get(); }
    void release() { handle_.close(); }

  private:
    friend class Cache;
    View() = default;
    detail::Handle<memora_view_t, memora_view_release> handle_;
};

/* How a deletion of a version ended. */
struct Deleted {
    enum class Outcome { deleted, stale, not_found } outcome;
    /* The version that was found, if it is stale. */
    std::uint64_t version;
    explicit operator bool() const noexcept { return outcome == Outcome::deleted; }
};

/* One change of an entry; see memora_events_next(). */
struct Event {
    /* One of MEMORA_EVENT_*. */
    std::uint32_t kind;
    std::string key;
    std::size_t whole_key_len;
    std::uint64_t version;
};

/* A cache; see memora_cache_open(). */
class Cache : public detail::Entries<detail::OfCache> {
  public:
    using Options = memora_cache_options_t;

    /* The default options, to be changed. */
    static Options options() {
        Options made;
        detail::check(memora_cache_options_init(&made, sizeof made));
        return made;
    }
    Cache(const Fabric &fabric, const std::string &name, const Options &options) {
        detail::check(memora_cache_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }
    Cache(const Fabric &fabric, const std::string &name) {
        detail::check(memora_cache_open(fabric.get(), name.c_str(), nullptr, handle_.place()));
    }
    /* With a limit in bytes of its own. */
    Cache(const Fabric &fabric, const std::string &name, std::uint64_t limit) {
        memora_cache_options_t options;
        detail::check(memora_cache_options_init(&options, sizeof options));
        options.limit = limit;
        detail::check(memora_cache_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }

    /* The version; nullopt: there is no such entry. */
    std::optional<std::uint64_t> append(std::string_view key, std::string_view bytes) {
        return extended(memora_cache_append, key, bytes);
    }
    std::optional<std::uint64_t> prepend(std::string_view key, std::string_view bytes) {
        return extended(memora_cache_prepend, key, bytes);
    }
    Deleted remove_if(std::string_view key, std::uint64_t expected) {
        std::uint64_t version = 0;
        int result = memora_cache_delete_if(handle(), key.data(), key.size(), expected, &version);
        if (result == MEMORA_STALE) return {Deleted::Outcome::stale, version};
        return {detail::done_or(result, MEMORA_NOT_FOUND) ? Deleted::Outcome::deleted : Deleted::Outcome::not_found, 0};
    }
    /* Whether there is such an entry. A time of 0: it never expires. */
    bool touch(std::string_view key, std::chrono::milliseconds ttl) {
        return detail::done_or(memora_cache_touch(handle(), key.data(), key.size(), ttl_of(ttl)), MEMORA_NOT_FOUND);
    }
    /* What was there; nullopt: nothing. */
    std::optional<View> get_and_set(std::string_view key, std::string_view value) {
        View old;
        detail::check(memora_cache_get_and_set(handle(), key.data(), key.size(), value.data(), value.size(), nullptr, old.handle_.place()));
        return some(std::move(old));
    }
    std::optional<View> get_and_remove(std::string_view key) {
        View old;
        return found(memora_cache_get_and_delete(handle(), key.data(), key.size(), old.handle_.place()), old);
    }
    /* nullopt: there is none. `how`: as memora_counter_options_init() fills it, then changed. */
    std::optional<std::uint64_t> count(std::string_view key, std::uint64_t by, const memora_counter_options_t &how) {
        std::uint64_t number = 0;
        if (!detail::done_or(memora_cache_count(handle(), key.data(), key.size(), by, &how, &number), MEMORA_NOT_FOUND)) return std::nullopt;
        return number;
    }
    /* The value where it stands; nullopt for a miss. */
    std::optional<View> view(std::string_view key) const {
        View view;
        return found(memora_cache_view(handle(), key.data(), key.size(), view.handle_.place()), view);
    }
    /* The value; if it is missing, what `compute()` makes, which is stored. Of all who ask at once one computes, and the others wait up
       to `wait` for its value; when `compute` throws or its process is killed, the next one computes. */
    template <class F>
    std::string get_or_compute(std::string_view key, std::chrono::milliseconds wait, F &&compute, const SetOptions &options = {}) {
        View view;
        detail::Handle<memora_token_t, memora_token_abandon> token;
        detail::check(memora_cache_lease(handle(), key.data(), key.size(), detail::milliseconds(wait), view.handle_.place(), token.place()));
        if (view.get() != nullptr) return std::string(view.bytes());
        std::string value = std::forward<F>(compute)();
        detail::Set set(options);
        int result = memora_token_fill(token.get(), value.data(), value.size(), set.options(), nullptr);
        /* Used up; a right that was lost is no error of the one who made the value. */
        *token.place() = nullptr;
        detail::done_or(result, MEMORA_STALE);
        return value;
    }
    /* The new version; nullopt: there is no such entry. */
    std::optional<std::uint64_t> invalidate(std::string_view key, std::chrono::milliseconds stale_for = {}) {
        std::uint64_t version = 0;
        int result = memora_cache_invalidate(handle(), key.data(), key.size(), ttl_of(stale_for), &version);
        if (!detail::done_or(result, MEMORA_NOT_FOUND)) return std::nullopt;
        return version;
    }
    /* A copy with marks (MEMORA_ENTRY_*); nullopt for a miss. */
    std::optional<View> get_meta(std::string_view key, std::chrono::milliseconds recache_below = {}) {
        View view;
        return found(memora_cache_get_meta(handle(), key.data(), key.size(), ttl_of(recache_below), view.handle_.place()), view);
    }
    void flush() { detail::check(memora_cache_flush(handle())); }

  private:
    static std::uint64_t ttl_of(std::chrono::milliseconds ttl) {
        return ttl.count() > 0 ? static_cast<std::uint64_t>(ttl.count()) : 0;
    }
    static std::optional<View> some(View view) {
        if (view.get() == nullptr) return std::nullopt;
        return std::optional<View>(std::move(view));
    }
    /* By reference: a view that is passed by value might be moved before the call that makes it. */
    static std::optional<View> found(int result, View &view) {
        if (!detail::done_or(result, MEMORA_NOT_FOUND)) return std::nullopt;
        return some(std::move(view));
    }
    template <class Extend> std::optional<std::uint64_t> extended(Extend extend, std::string_view key, std::string_view bytes) {
        std::uint64_t version = 0;
        int result = extend(handle(), key.data(), key.size(), bytes.data(), bytes.size(), &version);
        if (!detail::done_or(result, MEMORA_NOT_FOUND)) return std::nullopt;
        return version;
    }
};

/* Hears what happens to the entries of a cache; see memora_events_open(). For one thread at a time. */
class Events {
  public:
    explicit Events(const Cache &cache) { detail::check(memora_events_open(cache.handle(), handle_.place())); }

    /* The next event; nullopt when none came in time. Throws MEMORA_OVERRUN once for each loss: amount() events. */
    std::optional<Event> next(std::chrono::milliseconds timeout = {}) {
        Event event{0, std::string(256, '\0'), 0, 0};
        for (;;) {
            memora_event_t found{};
            std::size_t len = 0;
            int result = memora_events_next(get(), detail::milliseconds(timeout), event.key.data(), event.key.size(), &len, &found);
            if (result == MEMORA_NOT_FOUND || result == MEMORA_TIMED_OUT) return std::nullopt;
            if (result == MEMORA_BUFFER_TOO_SMALL) {
                event.key.resize(len);
                continue;
            }
            detail::check(result);
            event.key.resize(len);
            event.kind = found.kind;
            event.whole_key_len = found.whole_key_len;
            event.version = found.version;
            return event;
        }
    }
    memora_events_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_events_t, memora_events_close> handle_;
};

class Transaction;

/* A store; see memora_store_open(). */
class Store : public detail::Entries<detail::OfStore> {
  public:
    using Options = memora_store_options_t;

    Store(const Fabric &fabric, const std::string &name, const Options &options) {
        detail::check(memora_store_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }
    static Options options() {
        Options made;
        detail::check(memora_store_options_init(&made, sizeof made));
        return made;
    }
    /* `durability` is one of MEMORA_DURABILITY_*. */
    std::uint64_t set_durable(std::string_view key, std::string_view value, std::uint32_t durability) {
        std::uint64_t version = 0;
        detail::check(memora_store_set_durable(handle(), key.data(), key.size(), value.data(), value.size(), durability, &version));
        return version;
    }
    /* Calls `function(std::string_view key, std::string_view value, const memora_entry_t &)` for the entries between two keys, in the
       order of the keys, as memora_store_range(); nullopt: no bound. Whether there may be more. */
    template <class F>
    bool range(std::optional<std::string_view> from, std::optional<std::string_view> to, F &&function, std::uint32_t flags = 0,
               std::size_t limit = SIZE_MAX) const {
        return detail::range(memora_store_range, handle(), from, to, function, flags, limit);
    }
    /* The same for the keys that begin with `prefix`, as memora_store_prefix(). */
    template <class F>
    bool prefix(std::string_view prefix, F &&function, std::uint32_t flags = 0, std::size_t limit = SIZE_MAX) const {
        int more = 0;
        detail::Callback<std::remove_reference_t<F>> callback(function);
        detail::check(memora_store_prefix(handle(), prefix.data(), prefix.size(), flags, limit,
                                          detail::take_entry<std::remove_reference_t<F>>, &callback, &more));
        callback.rethrow();
        return more != 0;
    }
    void flush() { detail::check(memora_store_flush(handle())); }
    void checkpoint() { detail::check(memora_store_checkpoint(handle())); }
    /* Changes how many shards the files are divided into, 1 to 64. */
    void set_shards(std::uint32_t shards) { detail::check(memora_store_set_shards(handle(), shards)); }
    /* Calls `function(Transaction &)` and commits, again from the start as long as others are in the way; gives what it gives. What it
       throws, other than MEMORA_CONFLICT, gives the transaction up and comes out of this. It neither commits nor keeps the transaction.
       With memora_transaction.hpp. */
    template <class F> auto transact(F &&function) -> std::invoke_result_t<F &, Transaction &>;
};

/* A channel; see memora_channel_open(). */
class Channel {
  public:
    using Options = memora_channel_options_t;

    /* One that is there already. */
    Channel(const Fabric &fabric, const std::string &name) {
        detail::check(memora_channel_open(fabric.get(), name.c_str(), nullptr, handle_.place()));
    }
    Channel(const Fabric &fabric, const std::string &name, const Options &options) {
        detail::check(memora_channel_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }
    static Options options() {
        Options made;
        detail::check(memora_channel_options_init(&made, sizeof made));
        return made;
    }
    memora_channel_stats_t stats() const {
        memora_channel_stats_t stats;
        detail::check(memora_channel_stats(get(), &stats, sizeof stats));
        return stats;
    }
    memora_channel_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_channel_t, memora_channel_close> handle_;
};

/* A publisher, for one thread at a time; see memora_publisher_open(). */
class Publisher {
  public:
    explicit Publisher(const Channel &channel) { detail::check(memora_publisher_open(channel.get(), handle_.place())); }

    /* Waits while the ring is full, as the policy of the channel says. The position of the message. */
    std::uint64_t send(std::string_view message) {
        std::uint64_t position = 0;
        detail::check(memora_publisher_send(get(), message.data(), message.size(), &position));
        return position;
    }
    /* nullopt: the ring is full. */
    std::optional<std::uint64_t> try_send(std::string_view message) {
        std::uint64_t position = 0;
        int result = memora_publisher_try_send(get(), message.data(), message.size(), &position);
        if (!detail::done_or(result, MEMORA_BACK_PRESSURE)) return std::nullopt;
        return position;
    }
    /* nullopt: the ring was full all the time. */
    std::optional<std::uint64_t> send(std::string_view message, std::chrono::milliseconds timeout) {
        std::uint64_t position = 0;
        int result = memora_publisher_send_timeout(get(), message.data(), message.size(), detail::milliseconds(timeout), &position);
        if (!detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        return position;
    }
    memora_publisher_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_publisher_t, memora_publisher_close> handle_;
};

/* A message with where it stood. */
struct Message {
    std::string data;
    std::uint64_t position;
    std::uint32_t lane;
};

/* A subscriber, for one thread at a time; see memora_subscriber_open(). Overrun throws MEMORA_OVERRUN once; then it goes on. */
class Subscriber {
  public:
    /* Anonymous: from now on. */
    explicit Subscriber(const Channel &channel) { detail::check(memora_subscriber_open(channel.get(), nullptr, handle_.place())); }
    /* Named: keeps its place while nobody holds it. */
    Subscriber(const Channel &channel, const std::string &name) {
        detail::check(memora_subscriber_open(channel.get(), name.c_str(), handle_.place()));
    }

    /* nullopt: none came in time. */
    std::optional<Message> recv(std::chrono::milliseconds timeout) {
        std::string data(1024, '\0');
        memora_message_t about{};
        int result = memora_subscriber_recv(get(), data.data(), data.size(), detail::milliseconds(timeout), &about);
        while (result == MEMORA_BUFFER_TOO_SMALL) {
            data.resize(about.len);
            result = memora_subscriber_recv(get(), data.data(), data.size(), detail::milliseconds(timeout), &about);
        }
        if (result == MEMORA_NOT_FOUND || !detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        data.resize(about.len);
        return Message{std::move(data), about.position, about.lane};
    }
    std::optional<Message> try_recv() { return recv(std::chrono::milliseconds(0)); }
    /* Calls `function(const memora_message_t &, std::string_view)` for up to `limit` messages that are there; how many. When it
     * throws, the messages after that one are passed over, as if it had taken them. */
    template <class F> std::size_t poll(std::size_t limit, F &&function) {
        return poll_by(memora_subscriber_poll, limit, function);
    }
    /* The same with each message where it stands, uncopied: any process of the fabric may change it, so read nothing twice. */
    template <class F> std::size_t poll_in_place(std::size_t limit, F &&function) {
        return poll_by(memora_subscriber_poll_in_place, limit, function);
    }
    /* Confirms all that was taken. */
    void commit() { detail::check(memora_subscriber_commit(get())); }
    std::uint64_t lag() const {
        std::uint64_t bytes = 0;
        detail::check(memora_subscriber_lag(get(), &bytes));
        return bytes;
    }
    memora_subscriber_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    template <class P, class F> std::size_t poll_by(P poll, std::size_t limit, F &function) {
        using Taken = detail::Callback<F>;
        Taken callback(function);
        std::size_t count = 0;
        detail::check(poll(
            get(), limit,
            [](void *context, const memora_message_t *message, const void *data, std::size_t len) {
                static_cast<Taken *>(context)->call(*message, detail::view(data, len));
            },
            &callback, &count));
        callback.rethrow();
        return count;
    }

    detail::Handle<memora_subscriber_t, memora_subscriber_close> handle_;
};

/* A message of a queue with where it stood, how often it was delivered, and what it is acknowledged with. */
struct Delivery {
    std::string data;
    memora_delivery_t about;
};

/* A consumer of a queue, for one thread at a time; see memora_consumer_open(). What it holds when it closes goes to others. */
class Consumer {
  public:
    explicit Consumer(const Channel &channel) { detail::check(memora_consumer_open(channel.get(), handle_.place())); }

    /* nullopt: none came in time. */
    std::optional<Delivery> recv(std::chrono::milliseconds timeout) {
        std::string data(1024, '\0');
        memora_delivery_t about{};
        int result = memora_consumer_recv(get(), data.data(), data.size(), detail::milliseconds(timeout), &about);
        if (result == MEMORA_BUFFER_TOO_SMALL) {
            data.resize(about.len);
            result = memora_consumer_recv(get(), data.data(), data.size(), 0, &about);
        }
        if (result == MEMORA_NOT_FOUND || !detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        data.resize(about.len);
        return Delivery{std::move(data), about};
    }
    std::optional<Delivery> try_recv() { return recv(std::chrono::milliseconds(0)); }
    /* Calls `function(const memora_delivery_t &, std::string_view)` for up to `limit` messages that are there; how many. When it
     * throws, the messages after that one are passed over: with acknowledgement they are held and not acknowledged, else they are
     * gone. */
    template <class F> std::size_t poll(std::size_t limit, F &&function) {
        using Taken = detail::Callback<std::remove_reference_t<F>>;
        Taken callback(function);
        std::size_t count = 0;
        detail::check(memora_consumer_poll(
            get(), limit,
            [](void *context, const memora_delivery_t *delivery, const void *data, std::size_t len) {
                static_cast<Taken *>(context)->call(*delivery, detail::view(data, len));
            },
            &callback, &count));
        callback.rethrow();
        return count;
    }
    /* False: it is not held any more. */
    bool ack(const memora_receipt_t &receipt) {
        return detail::done_or(memora_consumer_ack(get(), &receipt), MEMORA_NOT_HELD);
    }
    bool ack(const Delivery &delivery) { return ack(delivery.about.receipt); }
    /* How many messages these were. */
    std::uint64_t ack_all() {
        std::uint64_t count = 0;
        detail::check(memora_consumer_ack_all(get(), &count));
        return count;
    }
    /* False: it is not held any more. */
    bool nack(const Delivery &delivery, std::chrono::milliseconds delay = std::chrono::milliseconds(0)) {
        const auto wait = static_cast<std::uint64_t>(delay.count() < 0 ? 0 : delay.count());
        return detail::done_or(memora_consumer_nack(get(), &delivery.about.receipt, wait), MEMORA_NOT_HELD);
    }
    /* False: it is not held any more. */
    bool extend(Delivery &delivery, std::chrono::milliseconds time) {
        const auto more = static_cast<std::uint64_t>(time.count() < 0 ? 0 : time.count());
        return detail::done_or(memora_consumer_extend(get(), &delivery.about.receipt, more), MEMORA_NOT_HELD);
    }
    memora_consumer_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_consumer_t, memora_consumer_close> handle_;
};

}  // namespace memora

#endif
