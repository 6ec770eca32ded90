/*
 * memora_signals.hpp: events, counters, locks and semaphores of memora.h for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_SIGNALS_HPP
#define MEMORA_SIGNALS_HPP

#include "memora.hpp"

namespace memora {

/* A named event; see memora_named_event_open(). */
class NamedEvent {
  public:
    /* Why a wait ended: what to wait with next, and whether the notification was for one. */
    struct Notification {
        std::uint64_t sequence;
        bool one;
    };

    NamedEvent(const Fabric &fabric, const std::string &name) {
        detail::check(memora_named_event_open(fabric.get(), name.c_str(), handle_.place()));
    }
    std::uint64_t sequence() const {
        std::uint64_t sequence = 0;
        detail::check(memora_named_event_sequence(get(), &sequence));
        return sequence;
    }
    /* The new sequence. */
    std::uint64_t notify_all() {
        std::uint64_t sequence = 0;
        detail::check(memora_named_event_notify_all(get(), &sequence));
        return sequence;
    }
    void notify_one() { detail::check(memora_named_event_notify_one(get())); }
    /* nullopt: none came in time. */
    std::optional<Notification> wait(std::uint64_t seen, std::chrono::milliseconds timeout) {
        Notification found{};
        int one = 0;
        const int result = memora_named_event_wait(get(), seen, detail::milliseconds(timeout), &found.sequence, &one);
        if (!detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        found.one = one != 0;
        return found;
    }
    memora_named_event_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_named_event_t, memora_named_event_close> handle_;
};

/* A named 64-bit number; see memora_named_counter_open(). */
class NamedCounter {
  public:
    NamedCounter(const Fabric &fabric, const std::string &name) {
        detail::check(memora_named_counter_open(fabric.get(), name.c_str(), handle_.place()));
    }
    std::int64_t get_value() const {
        std::int64_t value = 0;
        detail::check(memora_named_counter_get(get(), &value));
        return value;
    }
    /* The new value. */
    std::int64_t add(std::int64_t delta) {
        std::int64_t value = 0;
        detail::check(memora_named_counter_add(get(), delta, &value));
        return value;
    }
    /* The value before. */
    std::int64_t set(std::int64_t value) {
        std::int64_t before = 0;
        detail::check(memora_named_counter_set(get(), value, &before));
        return before;
    }
    /* The value before: it was set if and only if that is `expected`. */
    std::int64_t compare_and_swap(std::int64_t expected, std::int64_t value) {
        std::int64_t before = 0;
        detail::check(memora_named_counter_compare_and_swap(get(), expected, value, &before));
        return before;
    }
    /* nullopt: it did not come so far in time. */
    std::optional<std::int64_t> wait_at_least(std::int64_t least, std::chrono::milliseconds timeout) {
        std::int64_t value = 0;
        const int result = memora_named_counter_wait_at_least(get(), least, detail::milliseconds(timeout), &value);
        return detail::done_or(result, MEMORA_TIMED_OUT) ? std::optional(value) : std::nullopt;
    }
    /* nullopt: it stayed. */
    std::optional<std::int64_t> wait_changed(std::int64_t seen, std::chrono::milliseconds timeout) {
        std::int64_t value = 0;
        const int result = memora_named_counter_wait_changed(get(), seen, detail::milliseconds(timeout), &value);
        return detail::done_or(result, MEMORA_TIMED_OUT) ? std::optional(value) : std::nullopt;
    }
    memora_named_counter_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_named_counter_t, memora_named_counter_close> handle_;
};

/* A named lock; see memora_named_lock_open(). It outlives what it gave out. */
class NamedLock {
  public:
    /* This thread owns the lock until it goes. Not for another thread. */
    class Held {
      public:
        Held(Held &&other) noexcept : lock_(std::exchange(other.lock_, nullptr)), owner_died_(other.owner_died_) {}
        Held &operator=(Held &&) = delete;
        ~Held() { if (lock_ != nullptr) memora_named_lock_unlock(lock_); }

        /* An owner died before, and nobody said since that what the lock guards is whole. */
        bool owner_died() const noexcept { return owner_died_; }
        void mark_consistent() { detail::check(memora_named_lock_mark_consistent(lock_)); }
        void unlock() { detail::check(memora_named_lock_unlock(std::exchange(lock_, nullptr))); }

      private:
        friend class NamedLock;
        Held(memora_named_lock_t *lock, bool owner_died) : lock_(lock), owner_died_(owner_died) {}
        memora_named_lock_t *lock_;
        bool owner_died_;
    };

    NamedLock(const Fabric &fabric, const std::string &name) {
        detail::check(memora_named_lock_open(fabric.get(), name.c_str(), handle_.place()));
    }
    /* nullopt: it was held by others for so long. */
    std::optional<Held> lock(std::chrono::milliseconds timeout) {
        int died = 0;
        if (!detail::done_or(memora_named_lock_lock(get(), detail::milliseconds(timeout), &died), MEMORA_TIMED_OUT)) {
            return std::nullopt;
        }
        return Held(get(), died != 0);
    }
    Held lock() {
        int died = 0;
        detail::check(memora_named_lock_lock(get(), MEMORA_FOREVER, &died));
        return Held(get(), died != 0);
    }
    memora_named_lock_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_named_lock_t, memora_named_lock_close> handle_;
};

/* A named semaphore; see memora_named_semaphore_open(). It outlives what it gave out. */
class NamedSemaphore {
  public:
    /* This thread holds permits until it goes. Not for another thread. */
    class Held {
      public:
        Held(Held &&other) noexcept
            : semaphore_(std::exchange(other.semaphore_, nullptr)), count_(other.count_), owner_died_(other.owner_died_) {}
        Held &operator=(Held &&) = delete;
        ~Held() { if (semaphore_ != nullptr) memora_named_semaphore_release(semaphore_, count_); }

        std::uint32_t count() const noexcept { return count_; }
        /* Permits of a thread that died came back, and this is the first to take permits since. */
        bool owner_died() const noexcept { return owner_died_; }
        void release() { detail::check(memora_named_semaphore_release(std::exchange(semaphore_, nullptr), count_)); }

      private:
        friend class NamedSemaphore;
        Held(memora_named_semaphore_t *semaphore, std::uint32_t count, bool owner_died)
            : semaphore_(semaphore), count_(count), owner_died_(owner_died) {}
        memora_named_semaphore_t *semaphore_;
        std::uint32_t count_;
        bool owner_died_;
    };

    /* `permits` 0: it must be there. */
    NamedSemaphore(const Fabric &fabric, const std::string &name, std::uint32_t permits = 0) {
        detail::check(memora_named_semaphore_open(fabric.get(), name.c_str(), permits, handle_.place()));
    }
    /* nullopt: there were too few for so long. */
    std::optional<Held> acquire(std::uint32_t count, std::chrono::milliseconds timeout) {
        int died = 0;
        const int result = memora_named_semaphore_acquire(get(), count, detail::milliseconds(timeout), &died);
        if (!detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        return Held(get(), count, died != 0);
    }
    /* Permits that nobody holds now. */
    std::uint32_t free() const {
        std::uint32_t free = 0;
        detail::check(memora_named_semaphore_count(get(), nullptr, &free));
        return free;
    }
    memora_named_semaphore_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_named_semaphore_t, memora_named_semaphore_close> handle_;
};

}  // namespace memora

#endif
