/*
 * memora_snapshot.hpp: snapshots of stores for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_SNAPSHOT_HPP
#define MEMORA_SNAPSHOT_HPP

#include "memora.hpp"

namespace memora {

/* A store as it was when this was made; see memora_store_snapshot(). Ends when it goes. */
class Snapshot {
  public:
    explicit Snapshot(const Store &store) { detail::check(memora_store_snapshot(store.handle(), handle_.place())); }

    memora_snapshot_t *handle() const noexcept { return handle_.get(); }
    /* The value that the key had. */
    std::optional<std::string> get(std::string_view key) const {
        return detail::fetch([&](char *buffer, std::size_t capacity, std::size_t *len) {
            return memora_snapshot_get(handle(), key.data(), key.size(), buffer, capacity, len);
        });
    }
    std::optional<Entry> get_entry(std::string_view key) const {
        memora_entry_t about{};
        auto value = detail::fetch([&](char *buffer, std::size_t capacity, std::size_t *len) {
            return memora_snapshot_get_entry(handle(), key.data(), key.size(), buffer, capacity, len, &about);
        });
        if (!value) return std::nullopt;
        return detail::entry(*std::move(value), about);
    }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_snapshot_t, memora_snapshot_close> handle_;
};

}  // namespace memora

#endif
