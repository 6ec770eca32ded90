package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;

/**
 * Requests of clients, each answered by one of the servers, between all processes of a fabric. A request is executed at most once.
 *
 * <p><b>Any thread may call any method.</b> Closing a service closes the clients and servers that were made from it.
 */
public final class Service implements AutoCloseable {
    private final Handle handle;
    private final Fabric fabric;
    private final String name;

    Service(Fabric fabric, String name, long number) {
        this.fabric = fabric;
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** The name of this service in its fabric. */
    public String name() {
        return name;
    }

    /** The fabric that this service is in. */
    public Fabric fabric() {
        return fabric;
    }

    /**
     * A client with memory of its own. Make one for each thread that calls, and keep it.
     *
     * @throws MemoraException {@link ErrorCode#TOO_MANY_CLIENTS} if all entries are held
     */
    public Client client() {
        long number = Native.client(handle.number());
        Reference.reachabilityFence(this);
        return new Client(this, number);
    }

    /**
     * A client whose calls are futures, for any threads. It has a client of its own, and a thread.
     *
     * @throws MemoraException {@link ErrorCode#TOO_MANY_CLIENTS} if all entries are held
     */
    public AsyncClient asyncClient() {
        return new AsyncClient(client());
    }

    /**
     * A server. Make one for each thread that takes requests.
     *
     * @throws MemoraException {@link ErrorCode#TOO_MANY_CLIENTS} if all entries are held
     */
    public Server server() {
        long number = Native.server(handle.number());
        Reference.reachabilityFence(this);
        return new Server(this, number);
    }

    /** Figures. */
    public ServiceStats stats() {
        String text = Native.stats(handle.number());
        Reference.reachabilityFence(this);
        return ServiceStats.read(Figures.lines(text).get(0));
    }

    /** Closes this handle with its clients and servers; the service stays. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
