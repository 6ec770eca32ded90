/*
 * memora_service.hpp: services of memora.h for C++17, as memora.hpp, which this includes.
 */
#ifndef MEMORA_SERVICE_HPP
#define MEMORA_SERVICE_HPP

#include "memora.hpp"

namespace memora {

/* A service: requests from clients, each answered by one of its servers; see memora_service_open(). */
class Service {
  public:
    /* With no options it must be there. */
    Service(const Fabric &fabric, const std::string &name) {
        detail::check(memora_service_open(fabric.get(), name.c_str(), nullptr, handle_.place()));
    }
    Service(const Fabric &fabric, const std::string &name, const memora_service_options_t &options) {
        detail::check(memora_service_open(fabric.get(), name.c_str(), &options, handle_.place()));
    }
    static memora_service_options_t options() {
        memora_service_options_t options{};
        detail::check(memora_service_options_init(&options, sizeof options));
        return options;
    }
    memora_service_stats_t stats() const {
        memora_service_stats_t stats{};
        detail::check(memora_service_stats(get(), &stats, sizeof stats));
        return stats;
    }
    memora_service_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_service_t, memora_service_close> handle_;
};

/* The end of one of several calls: its reply, or the code of the error that it ended with and what that says. */
struct Ended {
    std::uint64_t id;
    int code;
    std::string reply;

    bool ok() const noexcept { return code == MEMORA_OK; }
};

/* A caller, for one thread at a time; see memora_client_open(). A call whose server died throws MEMORA_PEER_DIED, one that was let go
 * MEMORA_UNANSWERED, one whose time is over MEMORA_TIMED_OUT: after the first and the last it may have been served or not. */
class Client {
  public:
    explicit Client(const Service &service) { detail::check(memora_client_open(service.get(), handle_.place())); }

    /* Sends a request and waits for its reply. */
    std::string call(std::string_view request, std::chrono::milliseconds timeout) {
        return wait(send(request), timeout);
    }
    /* The number of the call; wait() gives the reply. */
    std::uint64_t send(std::string_view request) {
        std::uint64_t id = 0;
        detail::check(memora_client_send(get(), request.data(), request.size(), &id));
        return id;
    }
    /* nullopt: not yet. */
    std::optional<std::string> poll(std::uint64_t id) { return reply_to(id, 0); }
    /* The end of the call, also with MEMORA_TIMED_OUT. A time of 0 ends a call that is not answered yet. */
    std::string wait(std::uint64_t id, std::chrono::milliseconds timeout) {
        const std::int64_t time = detail::milliseconds(timeout);
        /* 0 looks, and the call goes on. */
        std::optional<std::string> reply = reply_to(id, time == 0 ? 1 : time);
        return std::move(*reply);
    }
    /* The end of any call; nullopt: none came to its end in time, or none is under way. */
    std::optional<Ended> wait_any(std::chrono::milliseconds timeout) {
        Ended ended{0, MEMORA_OK, std::string(256, '\0')};
        std::size_t len = 0;
        const auto next = [&] {
            return memora_client_wait_any(get(), detail::milliseconds(timeout), &ended.id, ended.reply.data(), ended.reply.size(), &len);
        };
        ended.code = next();
        while (ended.code == MEMORA_BUFFER_TOO_SMALL) {
            ended.reply.resize(static_cast<std::size_t>(memora_last_error_amount()));
            ended.code = next();
        }
        if (ended.code == MEMORA_NOT_FOUND || (ended.code == MEMORA_TIMED_OUT && ended.id == 0)) return std::nullopt;
        /* An error that belongs to no call. */
        if (ended.id == 0) detail::check(ended.code);
        ended.reply.resize(ended.code == MEMORA_OK ? len : 0);
        return ended;
    }
    /* Gives a call up. */
    void cancel(std::uint64_t id) { detail::check(memora_client_cancel(get(), id)); }
    memora_client_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    std::optional<std::string> reply_to(std::uint64_t id, std::int64_t timeout_ms) {
        return detail::fetch([&](char *data, std::size_t capacity, std::size_t *len) {
            const int result = memora_client_wait(get(), id, timeout_ms, data, capacity, len);
            if (result == MEMORA_BUFFER_TOO_SMALL) *len = static_cast<std::size_t>(memora_last_error_amount());
            return result;
        });
    }

    detail::Handle<memora_client_t, memora_client_close> handle_;
};

class Server;

/* A request that was taken, to be answered once, by any thread. The server that it came from outlives it. Dropped without an answer, it is
 * let go: its client is told MEMORA_UNANSWERED. */
class Request {
  public:
    Request(Request &&other) noexcept
        : data(std::move(other.data)), about_(other.about_), server_(std::exchange(other.server_, nullptr)) {}
    Request &operator=(Request &&) = delete;
    ~Request() {
        if (server_ != nullptr) memora_server_refuse(server_, &about_);
    }

    /* Its bytes. */
    std::string data;

    /* Number of the call, and the entry of its client. */
    const memora_request_t &about() const noexcept { return about_; }
    /* False: nobody waits for the reply any more, and it was perhaps dropped. One that is too long can be answered again. */
    bool reply(std::string_view reply) {
        int waited_for = 0;
        detail::check(memora_server_reply(server_, &about_, reply.data(), reply.size(), &waited_for));
        server_ = nullptr;
        return waited_for != 0;
    }
    /* Lets it go without a reply. */
    void refuse() { detail::check(memora_server_refuse(std::exchange(server_, nullptr), &about_)); }

  private:
    friend class Server;
    Request(std::string bytes, const memora_request_t &about, memora_server_t *server)
        : data(std::move(bytes)), about_(about), server_(server) {}

    memora_request_t about_;
    memora_server_t *server_;
};

/* Takes requests, one thread at a time; see memora_server_open(). */
class Server {
  public:
    explicit Server(const Service &service) { detail::check(memora_server_open(service.get(), handle_.place())); }

    /* nullopt: none came in time. */
    std::optional<Request> take(std::chrono::milliseconds timeout) {
        std::string data(256, '\0');
        memora_request_t about{};
        int result = memora_server_take(get(), detail::milliseconds(timeout), data.data(), data.size(), &about);
        while (result == MEMORA_BUFFER_TOO_SMALL) {
            data.resize(static_cast<std::size_t>(memora_last_error_amount()));
            result = memora_server_take(get(), 0, data.data(), data.size(), &about);
        }
        if (result == MEMORA_NOT_FOUND || !detail::done_or(result, MEMORA_TIMED_OUT)) return std::nullopt;
        data.resize(about.len);
        return Request(std::move(data), about, get());
    }
    std::optional<Request> try_take() { return take(std::chrono::milliseconds(0)); }
    memora_server_t *get() const noexcept { return handle_.get(); }
    void close() { handle_.close(); }

  private:
    detail::Handle<memora_server_t, memora_server_close> handle_;
};

}  // namespace memora

#endif
