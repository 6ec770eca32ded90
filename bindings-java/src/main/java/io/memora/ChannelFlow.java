package io.memora;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

/**
 * One subscription of the view of a channel as a publisher of reactive streams: a task of the executor, which makes the receiver, calls the
 * subscriber, and ends when it is cancelled.
 */
final class ChannelFlow implements Flow.Subscription, Runnable {
    /** How soon the task notices that it was cancelled while it waits for a message. */
    private static final Duration SLICE = Duration.ofMillis(50);

    private final Channel channel;
    private final String subscription;
    private final Flow.Subscriber<? super Message> subscriber;
    private final AtomicLong demand = new AtomicLong();
    private volatile boolean cancelled;
    /** A demand that was not positive. */
    private volatile boolean wrongDemand;
    private volatile Thread task;

    private ChannelFlow(Channel channel, String subscription, Flow.Subscriber<? super Message> subscriber) {
        this.channel = channel;
        this.subscription = subscription;
        this.subscriber = subscriber;
    }

    static void subscribe(
            Channel channel, String subscription, Executor executor, Flow.Subscriber<? super Message> subscriber) {
        Objects.requireNonNull(subscriber, "subscriber");
        ChannelFlow flow = new ChannelFlow(channel, subscription, subscriber);
        try {
            executor.execute(flow);
        } catch (RejectedExecutionException error) {
            subscriber.onSubscribe(flow);
            subscriber.onError(error);
        }
    }

    @Override
    public void request(long count) {
        if (count <= 0) {
            wrongDemand = true;
        } else {
            demand.accumulateAndGet(count, (old, more) -> old + more < 0 ? Long.MAX_VALUE : old + more);
        }
        LockSupport.unpark(task);
    }

    @Override
    public void cancel() {
        cancelled = true;
        LockSupport.unpark(task);
    }

    @Override
    public void run() {
        task = Thread.currentThread();
        Receiver receiver;
        try {
            receiver = Receiver.of(channel, subscription);
        } catch (MemoraException error) {
            subscriber.onSubscribe(this);
            end(error);
            return;
        }
        try (receiver) {
            subscriber.onSubscribe(this);
            while (!cancelled) {
                if (wrongDemand) {
                    end(new IllegalArgumentException("A demand must be positive."));
                } else if (Thread.currentThread().isInterrupted()) {
                    end(new InterruptedException("The task that receives was interrupted."));
                } else if (demand.get() == 0) {
                    LockSupport.park(this);
                } else {
                    next(receiver);
                }
            }
        } catch (MemoraException.Closed closed) {
            if (!cancelled) {
                cancelled = true;
                subscriber.onComplete();
            }
        } catch (Throwable error) {
            end(error);
        }
    }

    private void next(Receiver receiver) {
        Message message = receiver.recv(SLICE);
        if (message != null) {
            demand.getAndUpdate(old -> old == Long.MAX_VALUE ? old : old - 1);
            subscriber.onNext(message);
            receiver.done();
        }
    }

    private void end(Throwable error) {
        if (!cancelled) {
            cancelled = true;
            subscriber.onError(error);
        }
    }
}
