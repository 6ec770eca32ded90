/*
 * memora_transaction.hpp: transactions of stores for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_TRANSACTION_HPP
#define MEMORA_TRANSACTION_HPP

#include "memora.hpp"

namespace memora {

/* A lane of a channel for the messages of transactions, for any number of threads; see memora_channel_outbox(). */
class Outbox {
  public:
    explicit Outbox(const Channel &channel) { detail::check(memora_channel_outbox(channel.get(), handle_.place())); }

    memora_outbox_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_outbox_t, memora_outbox_close> handle_;
};

/* Several reads and changes of a store that take effect as one, or not at all; see memora_transaction_begin(). Given up when it goes
   without a commit. */
class Transaction {
  public:
    explicit Transaction(const Store &store) { detail::check(memora_transaction_begin(store.handle(), handle_.place())); }

    memora_transaction_t *handle() const noexcept { return handle_.get(); }
    std::optional<std::string> get(std::string_view key) const {
        return detail::fetch([&](char *buffer, std::size_t capacity, std::size_t *len) {
            return memora_transaction_get(handle(), key.data(), key.size(), buffer, capacity, len);
        });
    }
    /* The version of what the transaction itself has put is 0. */
    std::optional<Entry> get_entry(std::string_view key) const {
        memora_entry_t about{};
        auto value = detail::fetch([&](char *buffer, std::size_t capacity, std::size_t *len) {
            return memora_transaction_get_entry(handle(), key.data(), key.size(), buffer, capacity, len, &about);
        });
        if (!value) return std::nullopt;
        return detail::entry(*std::move(value), about);
    }
    void put(std::string_view key, std::string_view value, const SetOptions &options = {}) {
        detail::Set set(options);
        detail::check(memora_transaction_put(handle(), key.data(), key.size(), value.data(), value.size(), set.options()));
    }
    /* Whether there is one to be deleted. */
    bool remove(std::string_view key) {
        return detail::done_or(memora_transaction_delete(handle(), key.data(), key.size()), MEMORA_NOT_FOUND);
    }
    /* As Store::range(), but as this transaction sees the entries, with its own changes among them; it is proved at the commit. */
    template <class F>
    bool range(std::optional<std::string_view> from, std::optional<std::string_view> to, F &&function, std::uint32_t flags = 0,
               std::size_t limit = SIZE_MAX) const {
        return detail::range(memora_transaction_range, handle(), from, to, function, flags, limit);
    }
    /* Sends a message with the commit: subscribers get it when this commits, and never if it does not. */
    void publish(const Outbox &outbox, std::string_view message) {
        detail::check(memora_transaction_publish(handle(), outbox.get(), message.data(), message.size()));
    }
    /* Sets an entry of a cache that was made with `transactions` when this commits. */
    void cache_set(const Cache &cache, std::string_view key, std::string_view value, const memora_set_options_t *options = nullptr) {
        detail::check(memora_transaction_cache_set(handle(), cache.handle(), key.data(), key.size(), value.data(), value.size(), options));
    }
    /* Deletes an entry of a cache when this commits, whether it is there or not: what others put there meanwhile goes as well. */
    void cache_delete(const Cache &cache, std::string_view key) {
        detail::check(memora_transaction_cache_delete(handle(), cache.handle(), key.data(), key.size()));
    }
    /* Throws MEMORA_CONFLICT, now or at the commit, unless the entry has this version; nullopt: unless there is none. */
    void expect(std::string_view key, std::optional<std::uint64_t> version) {
        detail::check(memora_transaction_expect(handle(), key.data(), key.size(), version ? &*version : nullptr));
    }
    /* `durability` is one of MEMORA_DURABILITY_*. */
    void set_durability(std::uint32_t durability) { detail::check(memora_transaction_set_durability(handle(), durability)); }
    /* Throws MEMORA_CONFLICT when others were in the way, MEMORA_BACK_PRESSURE when there is no room for a message. The transaction has ended, unless this throws MEMORA_BUSY. */
    void commit() { detail::check(memora_transaction_commit(handle())); }
    void abort() { handle_.close(); }

  private:
    friend class Store;
    Transaction() noexcept = default;

    detail::Handle<memora_transaction_t, memora_transaction_abort> handle_;
};

template <class F> auto Store::transact(F &&function) -> std::invoke_result_t<F &, Transaction &> {
    using Answer = std::invoke_result_t<F &, Transaction &>;
    using Kept = std::conditional_t<std::is_void_v<Answer>, bool, Answer>;
    struct Body {
        F &function;
        std::optional<Kept> answer;
        std::exception_ptr thrown;

        int run(memora_transaction_t *handle) noexcept {
            Transaction transaction;
            *transaction.handle_.place() = handle;
            int result = MEMORA_OK;
            try {
                if constexpr (std::is_void_v<Answer>) {
                    function(transaction);
                } else {
                    answer.emplace(function(transaction));
                }
            } catch (const Error &error) {
                result = error.code() == MEMORA_CONFLICT ? MEMORA_CONFLICT : MEMORA_INTERNAL;
                thrown = std::current_exception();
            } catch (...) {
                result = MEMORA_INTERNAL;
                thrown = std::current_exception();
            }
            /* The handle is that of C. One that was aborted is left alone, too. */
            *transaction.handle_.place() = nullptr;
            if (result == MEMORA_CONFLICT) thrown = nullptr;
            return result;
        }
    };
    Body body{function, std::nullopt, nullptr};
    int result = memora_store_transact(
        handle(), [](void *context, memora_transaction_t *transaction) { return static_cast<Body *>(context)->run(transaction); }, &body);
    if (body.thrown) std::rethrow_exception(body.thrown);
    detail::check(result);
    if constexpr (!std::is_void_v<Answer>) return *std::move(body.answer);
}

}  // namespace memora

#endif
