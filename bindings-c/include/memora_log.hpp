/*
 * memora_log.hpp: logs of memora.h for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_LOG_HPP
#define MEMORA_LOG_HPP

#include "memora.hpp"

namespace memora {

/* A log: messages in one order, kept to be read again; see memora_log_open(). */
class Log {
  public:
    Log(const Fabric &fabric, const std::string &name) {
        detail::check(memora_log_open(fabric.get(), name.c_str(), nullptr, handle_.place()));
    }
    Log(const Fabric &fabric, const std::string &name, const memora_log_options_t &options) {
        detail::check(memora_log_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }
    memora_log_stats_t stats() const {
        memora_log_stats_t stats{};
        detail::check(memora_log_stats(get(), &stats, sizeof stats));
        return stats;
    }
    /* Ends a named reader whose holder is away; false: there is none. */
    bool forget(const std::string &name) {
        int ended = 0;
        detail::check(memora_log_forget(get(), name.c_str(), &ended));
        return ended != 0;
    }
    /* Waits until everything that was appended is in files that are synced; see memora_log_flush(). */
    void flush() { detail::check(memora_log_flush(get())); }
    memora_channel_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_channel_t, memora_channel_close> handle_;
};

/* Appends to a log, for one thread at a time; see memora_appender_open(). */
class Appender {
  public:
    explicit Appender(const Log &log) { detail::check(memora_appender_open(log.get(), handle_.place())); }

    /* The position of the message. */
    std::uint64_t append(std::string_view message) {
        std::uint64_t position = 0;
        detail::check(memora_appender_append(get(), message.data(), message.size(), &position));
        return position;
    }
    /* With a durability of its own, one of MEMORA_DURABILITY_*. */
    std::uint64_t append(std::string_view message, std::uint32_t durability) {
        std::uint64_t position = 0;
        detail::check(memora_appender_append_durable(get(), message.data(), message.size(), durability, &position));
        return position;
    }
    /* Room for a message that is written in place, then committed or aborted; see memora_appender_claim(). */
    void claim(std::size_t len) { detail::check(memora_appender_claim(get(), len)); }
    void write(std::size_t at, std::string_view bytes) {
        detail::check(memora_appender_write(get(), at, bytes.data(), bytes.size()));
    }
    std::uint64_t commit() {
        std::uint64_t position = 0;
        detail::check(memora_appender_commit(get(), &position));
        return position;
    }
    void abort() { detail::check(memora_appender_abort(get())); }
    memora_appender_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_appender_t, memora_appender_close> handle_;
};

/* A message of a log. */
struct LogMessage {
    std::string data;
    std::uint64_t position;
    std::uint64_t time_ms;
};

/* Reads a log, for one thread at a time; see memora_log_reader_open(). Messages that were trimmed throw MEMORA_OVERRUN; then it goes on. */
class LogReader {
  public:
    explicit LogReader(const Log &log, std::uint32_t from = MEMORA_FROM_OLDEST, std::uint64_t position = 0) {
        detail::check(memora_log_reader_open(log.get(), nullptr, from, position, handle_.place()));
    }
    /* Named: goes on where its last holder stopped. */
    LogReader(const Log &log, const std::string &name, std::uint32_t from, std::uint64_t position = 0) {
        detail::check(memora_log_reader_open(log.get(), name.c_str(), from, position, handle_.place()));
    }

    /* nullopt: none came in time. */
    std::optional<LogMessage> recv(std::chrono::milliseconds timeout) {
        std::string data(1024, '\0');
        memora_log_message_t about{};
        int result = memora_log_reader_recv(get(), data.data(), data.size(), detail::milliseconds(timeout), &about);
        while (result == MEMORA_BUFFER_TOO_SMALL) {
            data.resize(about.len);
            result = memora_log_reader_recv(get(), data.data(), data.size(), detail::milliseconds(timeout), &about);
        }
        if (result == MEMORA_NOT_FOUND || !detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        data.resize(about.len);
        return LogMessage{std::move(data), about.position, about.time_ms};
    }
    std::optional<LogMessage> try_recv() { return recv(std::chrono::milliseconds(0)); }
    /* Confirms all that was read. */
    void commit() { detail::check(memora_log_reader_commit(get())); }
    void seek(std::uint32_t from, std::uint64_t position = 0) {
        detail::check(memora_log_reader_seek(get(), from, position));
    }
    std::uint64_t position() const {
        std::uint64_t position = 0;
        detail::check(memora_log_reader_position(get(), &position, nullptr));
        return position;
    }
    std::uint64_t lag() const {
        std::uint64_t lag = 0;
        detail::check(memora_log_reader_position(get(), nullptr, &lag));
        return lag;
    }
    memora_log_reader_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_log_reader_t, memora_log_reader_close> handle_;
};

}  // namespace memora

#endif
