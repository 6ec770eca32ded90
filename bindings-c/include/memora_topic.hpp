/*
 * memora_topic.hpp: topics of memora.h for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_TOPIC_HPP
#define MEMORA_TOPIC_HPP

#include "memora.hpp"

namespace memora {

/* A topic: keys get new values, and subscribers the newest; see memora_topic_open(). */
class Topic {
  public:
    /* With no options it must be there. */
    Topic(const Fabric &fabric, const std::string &name) {
        detail::check(memora_topic_open(fabric.get(), name.c_str(), nullptr, handle_.place()));
    }
    Topic(const Fabric &fabric, const std::string &name, const memora_topic_options_t &options) {
        detail::check(memora_topic_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }
    static memora_topic_options_t options() {
        memora_topic_options_t options{};
        detail::check(memora_topic_options_init(&options, sizeof options));
        return options;
    }
    /* How often the key was published. */
    std::uint64_t publish(std::string_view key, std::string_view value) {
        std::uint64_t number = 0;
        detail::check(memora_topic_publish(get(), key.data(), key.size(), value.data(), value.size(), &number));
        return number;
    }
    /* The key has no value any more. */
    std::uint64_t retract(std::string_view key) {
        std::uint64_t number = 0;
        detail::check(memora_topic_retract(get(), key.data(), key.size(), &number));
        return number;
    }
    memora_topic_stats_t stats() const {
        memora_topic_stats_t stats{};
        detail::check(memora_topic_stats(get(), &stats, sizeof stats));
        return stats;
    }
    memora_topic_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_topic_t, memora_topic_close> handle_;
};

/* The newest value of a key, and what came with it. */
struct Update {
    std::string key;
    /* nullopt: the key was retracted. */
    std::optional<std::string> value;
    memora_update_t about;
};

/* Gets the newest values of a topic, for one thread at a time; see memora_topic_subscribe(). */
class TopicSubscriber {
  public:
    explicit TopicSubscriber(const Topic &topic) { detail::check(memora_topic_subscribe(topic.get(), handle_.place())); }

    /* nullopt: none came in time. */
    std::optional<Update> next(std::chrono::milliseconds timeout) {
        Update update{std::string(64, '\0'), std::string(1024, '\0'), {}};
        int result = take(timeout, update);
        while (result == MEMORA_BUFFER_TOO_SMALL) {
            if (update.about.key_len > update.key.size()) update.key.resize(update.about.key_len);
            if (update.about.value_len > update.value->size()) update.value->resize(update.about.value_len);
            result = take(timeout, update);
        }
        if (result == MEMORA_NOT_FOUND || !detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        update.key.resize(update.about.key_len);
        update.value->resize(update.about.value_len);
        if (update.about.retracted != 0) update.value.reset();
        return update;
    }
    std::optional<Update> try_next() { return next(std::chrono::milliseconds(0)); }
    memora_topic_subscriber_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    int take(std::chrono::milliseconds timeout, Update &update) {
        return memora_topic_next(get(), detail::milliseconds(timeout), update.key.data(), update.key.size(), update.value->data(),
                                 update.value->size(), &update.about);
    }

    detail::Handle<memora_topic_subscriber_t, memora_topic_subscriber_close> handle_;
};

}  // namespace memora

#endif
