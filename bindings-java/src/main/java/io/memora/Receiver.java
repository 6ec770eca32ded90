package io.memora;

import java.time.Duration;

/** What takes messages out of a channel of any kind, for views that do not care which. */
interface Receiver extends AutoCloseable {
    /** The next message, null when none came in time or the thread was interrupted. */
    Message recv(Duration timeout);

    /** The message that was received last is handled. False: another has got it meanwhile. */
    boolean done();

    @Override
    void close();

    /** A consumer of a queue, else the subscriber of this name, an anonymous one for null. */
    static Receiver of(Channel channel, String subscription) {
        if (subscription == null && channel.isQueue()) {
            return new OfQueue(channel.consumer());
        }
        return new OfSubscription(subscription == null ? channel.subscriber() : channel.subscriber(subscription));
    }

    /** A consumer: done is acknowledged. */
    final class OfQueue implements Receiver {
        private final Consumer consumer;
        private Delivery last;

        private OfQueue(Consumer consumer) {
            this.consumer = consumer;
        }

        @Override
        public Message recv(Duration timeout) {
            last = consumer.recv(timeout);
            return last == null ? null : new Message(last.lane(), last.position(), last.payload(), 0);
        }

        @Override
        public boolean done() {
            if (!last.receipt().isHeld()) {
                return true;
            }
            try {
                consumer.ack(last);
                return true;
            } catch (MemoraException error) {
                if (error.code() == ErrorCode.NOT_HELD) {
                    return false;
                }
                throw error;
            }
        }

        @Override
        public void close() {
            consumer.close();
        }
    }

    /** A subscriber: done is confirmed. */
    final class OfSubscription implements Receiver {
        private final Subscriber subscriber;

        private OfSubscription(Subscriber subscriber) {
            this.subscriber = subscriber;
        }

        @Override
        public Message recv(Duration timeout) {
            return subscriber.recv(timeout);
        }

        @Override
        public boolean done() {
            subscriber.commit();
            return true;
        }

        @Override
        public void close() {
            subscriber.close();
        }
    }
}
