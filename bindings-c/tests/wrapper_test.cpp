// memora.hpp: that it compiles without warnings, closes what it opens, and gives values and exceptions as it says.
#include <memora.hpp>
#include <memora_feed.hpp>
#include <memora_log.hpp>
#include <memora_service.hpp>
#include <memora_signals.hpp>
#include <memora_snapshot.hpp>
#include <memora_transaction.hpp>
#include <memora_topic.hpp>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <unistd.h>

namespace {

int failed = 0;

void check(bool holds, const char *what, int line) {
    if (holds) return;
    ++failed;
    std::fprintf(stderr, "wrapper_test.cpp:%d: %s does not hold (last error: %s)\n", line, what, memora_last_error_message());
}
#define CHECK(condition) check((condition), #condition, __LINE__)

/* The code of the error that a function throws; 0 for none. */
template <class F> int code_of(F function) {
    try {
        function();
    } catch (const memora::Error &error) {
        CHECK(std::string(error.what()).size() > 10 && std::string(error.name()).rfind("MEMORA_", 0) == 0);
        return error.code();
    }
    return 0;
}

template <class E> void entries(E &entries) {
    using namespace std::chrono_literals;
    CHECK(!entries.get("a") && !entries.get_entry("a") && !entries.remove("a"));
    const std::uint64_t first = entries.set("a", "one");
    CHECK(entries.get("a") == "one");
    CHECK(!entries.add("a", "two") && !entries.replace("b", "two"));
    CHECK(entries.add("b", std::string(5000, 'b'), {1h, 7}).has_value());
    const auto entry = entries.get_entry("b");
    CHECK(entry && entry->value.size() == 5000 && entry->flags == 7 && entry->ttl && *entry->ttl > 50min);
    CHECK(!entries.get_entry("a")->ttl);
    const memora::Swapped swapped = entries.compare_and_swap("a", "two", first);
    CHECK(swapped && swapped.version != first);
    const memora::Swapped stale = entries.compare_and_swap("a", "three", first);
    CHECK(stale.outcome == memora::Swapped::Outcome::stale && stale.version == swapped.version);
    CHECK(entries.compare_and_swap("c", "x", 1).outcome == memora::Swapped::Outcome::not_found);
    CHECK(!entries.increment("n", 1) && entries.increment("n", 1, 5) == 5u && entries.decrement("n", 2) == 3u);
    const auto many = entries.get_many({"a", "missing", "b"});
    CHECK(many.size() == 3 && many[0] == "two" && !many[1] && many[2]->size() == 5000);
    std::map<std::string, std::size_t> seen;
    entries.for_each([&](std::string_view key, std::string_view value, const memora_entry_t &) {
        seen[std::string(key)] = value.size();
    });
    CHECK(seen == (std::map<std::string, std::size_t>{{"a", 3}, {"b", 5000}, {"n", 1}}));
    char small[2];
    CHECK(code_of([&] { entries.get_into("a", small, sizeof small); }) == MEMORA_BUFFER_TOO_SMALL);
    CHECK(code_of([&] { entries.set("", "x"); }) == MEMORA_KEY_TOO_LONG);
    CHECK(code_of([&] { entries.increment("a", 1); }) == MEMORA_NOT_A_NUMBER);
    CHECK(entries.size() == 3 && entries.stats().entries == 3 && entries.stats().live_bytes > 5000);
    // What a function throws comes out, and the function is not called again.
    int calls = 0;
    try {
        entries.for_each([&](std::string_view, std::string_view, const memora_entry_t &) {
            ++calls;
            throw std::string("enough");
        });
        CHECK(!"the exception came out");
    } catch (const std::string &thrown) {
        CHECK(thrown == "enough" && calls == 1);
    }
}

void handles(memora::Fabric &fabric) {
    memora::Cache cache(fabric, "moved", 1 << 20);
    memora::Cache other(std::move(cache));
    CHECK(other.set("k", "v") != 0);
    CHECK(code_of([&] { cache.set("k", "v"); }) == MEMORA_INVALID_ARGUMENT);
    cache = std::move(other);
    CHECK(cache.get("k") == "v");
    cache.close();
    CHECK(code_of([&] { cache.get("k"); }) == MEMORA_INVALID_ARGUMENT);
    cache.close();
    CHECK(code_of([&] { memora::Fabric wrong("not a name"); }) == MEMORA_INVALID_NAME);
    CHECK(code_of([&] { memora::Channel missing(fabric, "missing"); }) == MEMORA_NOT_FOUND);
}

void operations(memora::Fabric &fabric) {
    using namespace std::chrono_literals;
    auto options = memora::Cache::options();
    options.events = 1;
    memora::Cache cache(fabric, "operations", options);
    memora::Events events(cache);
    CHECK(!events.next() && !events.next(10ms));
    CHECK(!cache.append("k", "x") && !cache.touch("k", 1s) && !cache.view("k") && !cache.get_and_remove("k"));
    CHECK(!cache.get_and_set("k", "b"));
    CHECK(cache.append("k", "c") && cache.prepend("k", "a") && cache.get("k") == "abc");
    CHECK(cache.touch("k", 1h) && cache.get_entry("k")->ttl && cache.touch("k", 0ms) && !cache.get_entry("k")->ttl);
    auto view = cache.view("k");
    CHECK(view && view->bytes() == "abc" && !view->is_copy());
    const auto old = cache.get_and_set("k", "d");
    CHECK(old && old->bytes() == "abc" && old->is_copy() && view->bytes() == "abc");
    CHECK(view->entry().version == old->entry().version);
    memora::View moved(std::move(*view));
    CHECK(moved.bytes() == "abc" && code_of([&] { view->bytes(); }) == MEMORA_INVALID_ARGUMENT);
    moved.release();
    CHECK(cache.remove_if("k", old->entry().version).outcome == memora::Deleted::Outcome::stale);
    CHECK(cache.remove_if("k", cache.get_entry("k")->version) && !cache.remove_if("k", 1));
    memora_counter_options_t how;
    CHECK(memora_counter_options_init(&how, sizeof how) == MEMORA_OK);
    how.kind = MEMORA_COUNTER_SIGNED;
    CHECK(!cache.count("n", 1, how));
    how.create = 1;
    CHECK(cache.count("n", 1, how) == 0u && cache.count("n", static_cast<std::uint64_t>(-5), how) == static_cast<std::uint64_t>(-5));
    // One computes; what it throws comes out, and the next computes.
    int made = 0;
    try {
        cache.get_or_compute("made", 1s, []() -> std::string { throw std::string("no"); });
        CHECK(!"the exception came out");
    } catch (const std::string &thrown) {
        CHECK(thrown == "no");
    }
    for (int turn = 0; turn < 2; ++turn) {
        CHECK(cache.get_or_compute("made", 1s, [&] { return "value " + std::to_string(++made); }) == "value 1");
    }
    CHECK(made == 1 && cache.invalidate("made") && !cache.invalidate("missing"));
    CHECK(cache.get_meta("made")->entry().marks == (MEMORA_ENTRY_STALE | MEMORA_ENTRY_WON));
    cache.flush();
    CHECK(!cache.get("made") && cache.size() == 0);
    const auto first = events.next(10s);
    CHECK(first && first->kind == MEMORA_EVENT_SET && first->key == "k" && first->whole_key_len == 1 && first->version != 0);
    CHECK(code_of([&] { memora::Events none(memora::Cache(fabric, "silent")); }) == MEMORA_UNSUPPORTED);
}

void messages(memora::Fabric &fabric) {
    using namespace std::chrono_literals;
    auto options = memora::Channel::options();
    options.lane_bytes = 64 << 10;
    memora::Channel channel(fabric, "messages", options);
    memora::Subscriber subscriber(channel, "name");
    memora::Publisher publisher(channel);
    CHECK(!subscriber.try_recv() && !subscriber.recv(10ms));
    const std::uint64_t position = publisher.send("first");
    auto message = subscriber.recv(1s);
    CHECK(message && message->data == "first" && message->position == position);
    const std::string large(4000, 'x');
    CHECK(publisher.try_send(large) && publisher.send(large, 1s));
    CHECK(subscriber.lag() > 8000);
    message = subscriber.try_recv();
    CHECK(message && message->data == large);
    CHECK(subscriber.poll(10, [&](const memora_message_t &about, std::string_view data) {
        CHECK(data == large && about.len == data.size());
    }) == 1);
    publisher.send(large);
    CHECK(subscriber.poll_in_place(10, [&](const memora_message_t &about, std::string_view data) {
        CHECK(data == large && about.len == data.size());
    }) == 1);
    subscriber.commit();
    CHECK(subscriber.lag() == 0);
    const auto stats = channel.stats();
    CHECK(stats.publishers == 1 && stats.subscriptions == 1 && stats.published_bytes > 8000);
    bool thrown = false;
    publisher.send("one");
    try {
        subscriber.poll(10, [](const memora_message_t &, std::string_view) { throw 7; });
    } catch (int number) {
        thrown = number == 7;
    }
    CHECK(thrown);
    CHECK(code_of([&] { memora::Subscriber second(channel, "name"); }) == MEMORA_SUBSCRIPTION_IN_USE);
    // A wait ends when another thread closes.
    std::thread waiting([&] { CHECK(code_of([&] { subscriber.recv(memora::forever); }) == MEMORA_CLOSED); });
    memora_subscriber_t *raw = subscriber.get();
    std::this_thread::sleep_for(20ms);
    CHECK(memora_subscriber_close(raw) == MEMORA_OK);
    waiting.join();
}

void queues(memora::Fabric &fabric) {
    using namespace std::chrono_literals;
    auto options = memora::Channel::options();
    options.kind = MEMORA_CHANNEL_QUEUE;
    options.acknowledge = 1;
    options.lane_bytes = 64 << 10;
    memora::Channel queue(fabric, "queue", options);
    memora::Publisher publisher(queue);
    memora::Consumer consumer(queue);
    CHECK(!consumer.try_recv() && !consumer.recv(5ms));
    const std::string large(4000, 'x');
    publisher.send("one");
    publisher.send(large);
    auto one = consumer.recv(1s);
    CHECK(one && one->data == "one" && one->about.deliveries == 1 && one->about.redelivered == 0);
    CHECK(consumer.extend(*one, 1h) && consumer.nack(*one) && !consumer.ack(*one));
    auto again = consumer.recv(1s);
    CHECK(again && again->data == "one" && again->about.deliveries == 2 && again->about.redelivered == 1);
    CHECK(consumer.ack(*again) && !consumer.ack(*again));
    auto second = consumer.recv(1s);
    CHECK(second && second->data == large);
    CHECK(queue.stats().unacknowledged == 1 && queue.stats().redelivered == 1);
    CHECK(consumer.ack_all() == 1 && queue.stats().unacknowledged == 0);
    publisher.send("thrown");
    bool thrown = false;
    try {
        consumer.poll(10, [](const memora_delivery_t &, std::string_view) { throw 7; });
    } catch (int number) {
        thrown = number == 7;
    }
    CHECK(thrown && consumer.ack_all() == 1);
    publisher.send("polled");
    CHECK(consumer.poll(10, [&](const memora_delivery_t &about, std::string_view data) {
        CHECK(data == "polled" && about.len == data.size());
    }) == 1);
    consumer.close();
    CHECK(code_of([&] { consumer.try_recv(); }) != MEMORA_OK);
    memora::Consumer heir(queue);
    const auto left = heir.recv(5s);
    CHECK(left && left->data == "polled" && left->about.redelivered == 1 && heir.ack(*left));
}

void signals(const memora::Fabric &fabric) {
    using namespace std::chrono_literals;
    memora::NamedEvent event(fabric, "event");
    const auto seen = event.sequence();
    CHECK(!event.wait(seen, 10ms));
    CHECK(event.notify_all() == seen + 1);
    auto notified = event.wait(seen, memora::forever);
    CHECK(notified && notified->sequence == seen + 1 && !notified->one);
    event.notify_one();
    CHECK(event.wait(seen + 1, memora::forever)->one);
    memora::NamedCounter counter(fabric, "counter");
    CHECK(counter.add(3) == 3 && counter.set(5) == 3 && counter.compare_and_swap(5, 7) == 5 && counter.get_value() == 7);
    CHECK(counter.wait_at_least(7, memora::forever) == 7 && !counter.wait_changed(7, 10ms));
    memora::NamedLock lock(fabric, "lock");
    {
        auto held = lock.lock();
        CHECK(!held.owner_died());
        CHECK(code_of([&] { lock.lock(10ms); }) == MEMORA_WOULD_DEADLOCK);
        std::thread([&] { CHECK(!lock.lock(10ms)); }).join();
    }
    std::thread([&] { CHECK(memora_named_lock_lock(lock.get(), 0, nullptr) == MEMORA_OK); }).join();
    auto held = lock.lock(20s);
    CHECK(held && held->owner_died());
    held->mark_consistent();
    held->unlock();
    CHECK(!lock.lock(0ms)->owner_died());
    memora::NamedSemaphore semaphore(fabric, "semaphore", 3);
    {
        auto two = semaphore.acquire(2, memora::forever);
        CHECK(two && two->count() == 2 && !two->owner_died() && semaphore.free() == 1);
        std::thread([&] { CHECK(!semaphore.acquire(2, 10ms)); }).join();
    }
    CHECK(semaphore.free() == 3);
}

void logs(const memora::Fabric &fabric) {
    memora_log_options_t options;
    CHECK(memora_log_options_init(&options, sizeof options) == MEMORA_OK);
    options.bytes = 256 * 1024;
    memora::Log log(fabric, "log", options);
    memora::Appender appender(log);
    memora::LogReader reader(log), named(log, "audit", MEMORA_FROM_NEWEST);
    CHECK(!named.try_recv());
    CHECK(appender.append("zero") == 0 && appender.append(std::string(1500, 'x')) == 1);
    auto first = reader.recv(std::chrono::milliseconds(1000));
    CHECK(first && first->data == "zero" && first->position == 0 && first->time_ms == 0);
    auto second = reader.try_recv();
    CHECK(second && second->data == std::string(1500, 'x') && second->position == 1);
    reader.seek(MEMORA_FROM_POSITION, 1);
    CHECK(reader.position() == 1 && reader.lag() == 1 && reader.try_recv()->position == 1);
    CHECK(named.try_recv()->data == "zero");
    named.commit();
    CHECK(code_of([&] { memora::LogReader ahead(log, MEMORA_FROM_POSITION, 9); }) == MEMORA_POSITION_AHEAD);
    CHECK(code_of([&] { appender.claim(5000); }) == MEMORA_VALUE_TOO_LONG);
    CHECK(log.stats().end == 2 && log.stats().lag_max == 1 && log.stats().readers == 1);
    named.close();
    CHECK(log.forget("audit") && !log.forget("audit"));
    appender.claim(5);
    appender.write(0, "claim");
    CHECK(appender.commit() == 2);
    appender.claim(3);
    appender.abort();
    CHECK(appender.append("kept in memory", MEMORA_DURABILITY_PROCESS) == 3);
    /* In chunks of the fabric. */
    CHECK(appender.append(std::string(100000, 'y')) == 4);
    reader.seek(MEMORA_FROM_POSITION, 4);
    CHECK(reader.recv(std::chrono::milliseconds(1000))->data == std::string(100000, 'y'));
    CHECK(code_of([&] { appender.append("nowhere", MEMORA_DURABILITY_SYNC); }) == MEMORA_INVALID_ARGUMENT);
    CHECK(code_of([&] { log.flush(); }) == MEMORA_INVALID_ARGUMENT);
}

void services(const memora::Fabric &fabric) {
    using namespace std::chrono_literals;
    CHECK(code_of([&] { memora::Service none(fabric, "quotes"); }) == MEMORA_NOT_FOUND);
    auto options = memora::Service::options();
    options.calls = 2;
    memora::Service service(fabric, "quotes", options);
    memora::Service same(fabric, "quotes");
    options.calls = 4;
    CHECK(code_of([&] { memora::Service other(fabric, "quotes", options); }) == MEMORA_WRONG_OPTIONS);
    memora::Client client(service);
    memora::Server server(same);
    CHECK(!server.try_take() && !server.take(1ms) && !client.wait_any(0ms));

    std::thread answers([&] {
        for (int round = 0; round < 5; ++round) {
            auto request = server.take(std::chrono::milliseconds(-1));
            CHECK(request && request->about().len == request->data.size());
            CHECK(request->reply(request->data + request->data));
        }
    });
    CHECK(client.call("ab", 10s) == "abab");
    /* Longer than what is tried first, on both sides. */
    CHECK(client.call(std::string(1500, 'x'), 10s) == std::string(3000, 'x'));
    const std::uint64_t first = client.send("");
    CHECK(client.wait(first, 10s).empty());
    /* In chunks of the fabric, both ways. */
    CHECK(client.call(std::string(100000, 'z'), 10s) == std::string(200000, 'z'));
    CHECK(client.call(std::string(5000, 'z'), 10s) == std::string(10000, 'z'));
    answers.join();
    CHECK(code_of([&] { client.wait(first, 1ms); }) == MEMORA_INVALID_ARGUMENT);

    /* What a server lets go, drops, or answers too late. */
    const std::uint64_t refused = client.send("a"), dropped = client.send("b");
    CHECK(code_of([&] { client.send("one more than two"); }) == MEMORA_TOO_MANY_CALLS);
    CHECK(!client.poll(refused));
    server.try_take()->refuse();
    { auto request = server.try_take(); }
    int let_go = 0;
    while (auto ended = client.wait_any(1s)) {
        CHECK(ended->id == (let_go == 0 ? refused : dropped) && ended->code == MEMORA_UNANSWERED && !ended->ok());
        CHECK(ended->reply.empty());
        if (++let_go == 2) break;
    }
    CHECK(let_go == 2);
    const std::uint64_t late = client.send("late");
    auto request = server.try_take();
    CHECK(code_of([&] { request->reply(std::string((128u << 20) + 1, 'x')); }) == MEMORA_VALUE_TOO_LONG);
    CHECK(code_of([&] { client.wait(late, 2ms); }) == MEMORA_TIMED_OUT);
    CHECK(!request->reply("nobody hears it"));
    const std::uint64_t given_up = client.send("x");
    client.cancel(given_up);
    CHECK(!server.try_take());
    const std::uint64_t last = client.send("y");
    memora::Request moved = std::move(*server.try_take());
    CHECK(moved.data == "y" && moved.reply(std::string(700, 'z')));
    auto ended = client.wait_any(1s);
    CHECK(ended && ended->ok() && ended->id == last && ended->reply == std::string(700, 'z'));
    CHECK(service.stats().clients == 1 && service.stats().servers == 1 && service.stats().timed_out == 1);
}

void topics(const memora::Fabric &fabric) {
    using namespace std::chrono_literals;
    CHECK(code_of([&] { memora::Topic none(fabric, "rates"); }) == MEMORA_NOT_FOUND);
    auto options = memora::Topic::options();
    options.limit = 2 << 20;
    memora::Topic topic(fabric, "rates", options);
    CHECK(topic.publish("EURUSD", "1.08") == 1);
    memora::TopicSubscriber subscriber(topic);
    auto update = subscriber.next(1s);
    CHECK(update && update->key == "EURUSD" && update->value == "1.08" && update->about.number == 1);
    CHECK(!subscriber.try_next() && !subscriber.next(1ms));
    /* The newest only; keys and values longer than what is tried first. */
    const std::string key(100, 'k'), value(5000, 'v');
    CHECK(topic.publish(key, "old") == 1 && topic.publish(key, value) == 2);
    update = subscriber.try_next();
    CHECK(update && update->key == key && update->value == value && update->about.conflated >= 1);
    CHECK(topic.retract("EURUSD") == 2);
    update = subscriber.next(1s);
    CHECK(update && update->key == "EURUSD" && !update->value && update->about.number == 2);
    CHECK(topic.stats().updates == 4 && topic.stats().keys == 2);
    subscriber.close();
    CHECK(code_of([&] { subscriber.try_next(); }) == MEMORA_INVALID_ARGUMENT);
}

void snapshots(memora::Store &store) {
    store.set("s", "1");
    memora::Snapshot snapshot(store);
    store.set("s", "2");
    store.set("t", "new");
    CHECK(snapshot.get("s") == "1" && !snapshot.get("not there") && snapshot.get_entry("s")->value == "1");
    CHECK(memora::Snapshot(store).get("s") == "2");
    snapshot.close();
    CHECK(code_of([&] { snapshot.get("s"); }) == MEMORA_CLOSED || code_of([&] { snapshot.get("s"); }) == MEMORA_INVALID_ARGUMENT);
    store.remove("s");
    store.remove("t");
}

void transactions(memora::Store &store) {
    using namespace std::chrono_literals;
    const std::uint64_t version = store.set("t", "1");
    {
        memora::Transaction transaction(store);
        CHECK(transaction.get("t") == "1" && !transaction.get("u") && !transaction.get_entry("u"));
        transaction.expect("t", version);
        transaction.expect("u", std::nullopt);
        CHECK(code_of([&] { transaction.expect("t", version + 1); }) == MEMORA_CONFLICT);
        transaction.put("t", "2");
        transaction.put("u", std::string(5000, 'u'), {1h, 7});
        const auto entry = transaction.get_entry("u");
        CHECK(entry && entry->value.size() == 5000 && entry->version == 0 && entry->flags == 7 && entry->ttl == 1h);
        CHECK(transaction.remove("t") && !transaction.remove("t") && !transaction.remove("never"));
        transaction.set_durability(MEMORA_DURABILITY_SYNC);
        memora::Transaction moved(std::move(transaction));
        CHECK(code_of([&] { transaction.put("t", "x"); }) == MEMORA_INVALID_ARGUMENT);
        CHECK(store.get("t") == "1");
        moved.commit();
        CHECK(!store.get("t") && store.get("u")->size() == 5000);
        CHECK(code_of([&] { moved.commit(); }) == MEMORA_CLOSED && code_of([&] { moved.get("t"); }) == MEMORA_CLOSED);
    }
    {
        memora::Transaction left(store);
        left.put("u", "left");
        memora::Transaction aborted(store);
        aborted.put("u", "aborted");
        aborted.abort();
        CHECK(code_of([&] { aborted.commit(); }) == MEMORA_INVALID_ARGUMENT);
        memora::Transaction late(store);
        CHECK(late.get("u")->size() == 5000);
        store.set("u", "between");
        late.put("u", "late");
        CHECK(code_of([&] { late.commit(); }) == MEMORA_CONFLICT);
    }
    CHECK(store.get("u") == "between");

    int calls = 0;
    const std::string seen = store.transact([&](memora::Transaction &transaction) {
        const std::string now = transaction.get("u").value();
        if (++calls <= 3) store.set("u", std::to_string(calls));
        transaction.put("u", "done");
        return now;
    });
    CHECK(calls == 4 && seen == "3" && store.get("u") == "done");
    store.transact([](memora::Transaction &transaction) { transaction.put("u", "again"); });
    CHECK(store.get("u") == "again");
    bool caught = false;
    try {
        store.transact([](memora::Transaction &transaction) -> int {
            transaction.put("u", "never");
            throw std::out_of_range("the function's own");
        });
    } catch (const std::out_of_range &) {
        caught = true;
    }
    CHECK(caught && store.get("u") == "again");
    CHECK(code_of([&] {
        store.transact([](memora::Transaction &transaction) { transaction.put("", "x"); });
    }) == MEMORA_KEY_TOO_LONG);
    CHECK(code_of([&] {
        store.transact([](memora::Transaction &transaction) { transaction.expect("u", std::nullopt); });
    }) == MEMORA_CONFLICT);
    CHECK(code_of([&] {
        store.transact([](memora::Transaction &transaction) { transaction.abort(); });
    }) == MEMORA_CLOSED);

    const auto number = [](memora::Transaction &transaction, const char *key) { return std::stol(transaction.get(key).value()); };
    store.set("from", "1000");
    store.set("to", "0");
    std::vector<std::thread> movers;
    for (int i = 0; i < 3; ++i) {
        movers.emplace_back([&] {
            for (int turn = 0; turn < 200; ++turn) {
                store.transact([&](memora::Transaction &transaction) {
                    transaction.put("from", std::to_string(number(transaction, "from") - 1));
                    transaction.put("to", std::to_string(number(transaction, "to") + 1));
                });
            }
        });
    }
    for (std::thread &mover : movers) mover.join();
    CHECK(store.get("from") == "400" && store.get("to") == "600");
}

void outboxes(memora::Fabric &fabric, memora::Store &store) {
    auto options = memora::Channel::options();
    options.kind = MEMORA_CHANNEL_BROADCAST;
    options.lane_bytes = 16 << 10;
    memora::Channel broadcast(fabric, "told", options);
    options.kind = MEMORA_CHANNEL_QUEUE;
    memora::Channel queue(fabric, "work", options);
    memora::Outbox told(broadcast), work(queue);
    memora::Subscriber subscriber(broadcast);
    memora::Consumer consumer(queue);
    {
        memora::Transaction transaction(store);
        transaction.put("outbox", "1");
        transaction.publish(told, "one");
        transaction.publish(told, "");
        transaction.publish(work, "do one");
        CHECK(!subscriber.try_recv() && !consumer.try_recv());
        transaction.commit();
        CHECK(subscriber.try_recv()->data == "one" && subscriber.try_recv()->data.empty() && consumer.try_recv()->data == "do one");
    }
    {
        auto with = memora::Cache::options();
        with.transactions = 1;
        memora::Cache cache(fabric, "with-transactions", with);
        cache.set("gone", "there");
        store.transact([&](memora::Transaction &transaction) {
            transaction.cache_set(cache, "k", "v");
            transaction.cache_delete(cache, "gone");
            CHECK(!cache.get("k") && cache.get("gone") == "there");
        });
        CHECK(cache.get("k") == "v" && !cache.get("gone"));
    }
    {
        memora::Transaction left(store), aborted(store), late(store);
        left.publish(told, "left");
        aborted.publish(work, "aborted");
        aborted.abort();
        late.get("outbox");
        late.publish(told, "late");
        store.set("outbox", "2");
        CHECK(code_of([&] { late.commit(); }) == MEMORA_CONFLICT);
    }
    CHECK(!subscriber.try_recv() && !consumer.try_recv());
    store.transact([&](memora::Transaction &transaction) { transaction.publish(told, "by a function"); });
    CHECK(subscriber.try_recv()->data == "by a function");

    int sent = 0;
    const std::string large(1000, 'x');
    const auto fill = [&] {
        store.transact([&](memora::Transaction &transaction) {
            transaction.put("filled", std::to_string(sent + 1));
            transaction.publish(told, large);
        });
    };
    int code = MEMORA_OK;
    while (code == MEMORA_OK && sent < 100) {
        code = code_of(fill);
        if (code == MEMORA_OK) ++sent;
    }
    CHECK(code == MEMORA_BACK_PRESSURE && sent > 1 && store.get("filled") == std::to_string(sent));
    while (sent > 0 && subscriber.try_recv()->data == large) --sent;
    CHECK(sent == 0 && !subscriber.try_recv());
    fill();
    CHECK(subscriber.try_recv()->data == large);

    memora_log_options_t kept;
    CHECK(memora_log_options_init(&kept, sizeof kept) == MEMORA_OK);
    kept.bytes = 256 << 10;
    memora::Log log(fabric, "no-outbox", kept);
    memora::Channel of_log(fabric, "no-outbox");
    CHECK(code_of([&] { memora::Outbox none(of_log); }) == MEMORA_WRONG_KIND);
    memora::Transaction transaction(store);
    memora::Outbox moved(std::move(told));
    CHECK(code_of([&] { transaction.publish(told, "x"); }) == MEMORA_INVALID_ARGUMENT);
    transaction.publish(moved, "moved");
    moved.close();
    CHECK(code_of([&] { transaction.publish(moved, "x"); }) == MEMORA_INVALID_ARGUMENT);
    transaction.commit();
    CHECK(subscriber.try_recv()->data == "moved");
}

void ranges(memora::Fabric &fabric) {
    auto options = memora::Store::options();
    options.durability = MEMORA_DURABILITY_PROCESS;
    options.ordered = 1;
    memora::Store store(fabric, "ordered", options);
    for (const char *key : {"pear", "apple", "plum", "fig"}) store.set(key, "v");
    std::string seen;
    const auto add = [&](std::string_view key, std::string_view value, const memora_entry_t &) {
        seen.append(key).append("=").append(value).append(" ");
    };
    const auto went = [&](bool more, const char *expected) {
        const bool right = seen == expected;
        seen.clear();
        return right ? static_cast<int>(more) : -1;
    };
    CHECK(went(store.range(std::nullopt, std::nullopt, add), "apple=v fig=v pear=v plum=v ") == 0);
    CHECK(went(store.range(std::nullopt, "pear", add, MEMORA_RANGE_BACKWARD, 1), "fig=v ") == 1);
    CHECK(went(store.range(std::string_view(), "fig", add, MEMORA_RANGE_TO_INCLUDED), "apple=v fig=v ") == 0);
    CHECK(went(store.range(std::nullopt, std::string_view(), add), "") == 0);
    CHECK(went(store.prefix("p", add), "pear=v plum=v ") == 0 && went(store.prefix("p", add, MEMORA_RANGE_BACKWARD, 1), "plum=v ") == 1);
    bool caught = false;
    try {
        store.range(std::nullopt, std::nullopt, [](auto, auto, const auto &) { throw std::out_of_range("the function's own"); });
    } catch (const std::out_of_range &) {
        caught = true;
    }
    CHECK(caught);
    memora::Transaction transaction(store);
    transaction.put("grape", "own");
    CHECK(transaction.remove("fig"));
    CHECK(went(transaction.range("b", "pear", add, MEMORA_RANGE_TO_INCLUDED), "grape=own pear=v ") == 0);
    CHECK(went(transaction.range(std::nullopt, std::nullopt, add, 0, 1), "apple=v ") == 1);
    store.set("kiwi", "between");
    CHECK(code_of([&] { transaction.commit(); }) == MEMORA_CONFLICT && store.get("fig") == "v");
}

/* A feed of its own store, whose directory stands in `dir`. */
void feeds(const memora::Fabric &fabric, const std::string &dir) {
    auto options = memora::Store::options();
    options.dir = dir.c_str();
    options.feed_bytes = 64 << 20;
    memora::Store store(fabric, "fed", options);
    memora::Feed feed(store, MEMORA_FROM_OLDEST);
    CHECK(!feed.try_next() && !feed.next(std::chrono::milliseconds(5)));
    const std::string long_key(700, 'k'), long_value(5000, 'v');
    store.set(long_key, long_value);
    store.flush();
    store.set("key", "");
    store.remove("key");
    store.flush();
    auto first = feed.next(std::chrono::seconds(20));
    CHECK(first && first->key == long_key && first->value == long_value && first->expires_ms == 0);
    auto second = feed.try_next(), third = feed.try_next();
    CHECK(second && second->key == "key" && second->value == "" && third && third->key == "key" && !third->value);
    CHECK(third->order > second->order && !feed.try_next());
    CHECK(memora::to_string(feed.position()) == memora::to_string(third->position));
    memora::Feed later(store, second->position, "k");
    CHECK(!later.try_next()->value && !later.try_next());
    memora::Feed none(store, MEMORA_FROM_OLDEST, "other");
    CHECK(!none.try_next());
    auto ahead = second->position, foreign = second->position;
    ahead.flush = UINT64_MAX;
    foreign.store ^= 1;
    CHECK(code_of([&] { memora::Feed feed(store, ahead); }) == MEMORA_POSITION_AHEAD);
    CHECK(code_of([&] { memora::Feed feed(store, foreign); }) == MEMORA_POSITION_FOREIGN);
    CHECK(memora::to_string(memora::FeedPosition{0x0123456789abcdef, 7, 8}) == "0123456789abcdef.7.8");
}

}  // namespace

int main() {
    char home[] = "/tmp/memora-cpp-XXXXXX";
    CHECK(mkdtemp(home) != nullptr);
    {
        auto options = memora::Fabric::options();
        options.home = home;
        options.limit = 16 << 20;
        memora::Fabric fabric("wrapper", options);
        memora::Cache cache(fabric, "cache");
        entries(cache);
        auto files = memora::Store::options();
        const std::string dir = std::string(home) + "/files";
        files.dir = dir.c_str();
        memora::Store store(fabric, "store", files);
        entries(store);
        CHECK(store.set_durable("durable", "x", MEMORA_DURABILITY_SYNC) != 0);
        store.flush();
        store.checkpoint();
        CHECK(store.stats().checkpoints >= 1 && store.stats().poisoned == 0);
        snapshots(store);
        transactions(store);
        outboxes(fabric, store);
        ranges(fabric);
        feeds(fabric, std::string(home) + "/fed");
        handles(fabric);
        operations(fabric);
        messages(fabric);
        queues(fabric);
        signals(fabric);
        logs(fabric);
        services(fabric);
        topics(fabric);
        CHECK(fabric.stat().processes == 1);
        CHECK(code_of([&] { fabric.memfd(); }) == MEMORA_UNSUPPORTED);

        options.backend = MEMORA_BACKEND_MEMFD;
        memora::Fabric anonymous("anonymous", options);
        const int fd = anonymous.memfd();
        memora::Fabric again = memora::Fabric::of_fd(fd);
        CHECK(close(fd) == 0);
        memora::Cache(anonymous, "c").set("k", "v");
        CHECK(memora::Cache(again, "c").get("k") == "v");
    }
    memora::Fabric::remove(home, "wrapper");
    std::string command = "rm -rf ";
    CHECK(std::system((command + home).c_str()) == 0);
    return failed != 0;
}
