package io.memora;

import io.memora.internal.Handle;
import io.memora.internal.Native;
import java.lang.ref.Reference;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;

/**
 * A fabric: shared memory with a name, in which the processes of a host keep caches, channels and stores. Whoever opens it first
 * makes it; it stays when all have closed it, until it is removed or the host restarts.
 *
 * <p><b>Any thread may call any method.</b> Closing a fabric closes everything that was opened from it in this process; calls
 * that are inside then end, and later ones throw {@link MemoraException.Closed}.
 */
public final class Fabric implements AutoCloseable {
    /** The name of the fabric that the command line uses when none is given. */
    public static final String DEFAULT_NAME = "default";

    /** Whether a fabric may be made or must be there. */
    public enum Create {
        /** Opened if it is there, else made. */
        OPEN_OR_CREATE,
        /** Made; an error if it is there. */
        CREATE_NEW,
        /** Opened; an error if it is not there. */
        OPEN_ONLY
    }

    /** Where the bytes of a fabric live. */
    public enum Backend {
        /** A file in the home, by default on the host's tmpfs. */
        FILE,
        /** A POSIX shared memory object of the user. */
        POSIX,
        /** A System V segment, with a small file in the home that names it. */
        SYSV,
        /** A memory file without a name, which ends with the last process that has it open. */
        MEMFD,
        /** Memory of this process alone, for tests. */
        HEAP
    }

    private final Handle handle;
    private final String name;
    /** Only with views: see {@link #memory}. */
    private volatile Handle memory;

    private Fabric(String name, long number) {
        this.name = name;
        this.handle = new Handle(this, number);
    }

    /** Opens the fabric of a name, or makes it with the default limit. */
    public static Fabric open(String name) {
        return builder(name).open();
    }

    /** Opens the fabric of a name with options. */
    public static Builder builder(String name) {
        return new Builder(name);
    }

    /** The names of the fabrics in the default home. */
    public static List<String> list() {
        Native.require();
        return lines(Native.fabricList(null));
    }

    /** The names of the fabrics in a home. */
    public static List<String> list(Path home) {
        Native.require();
        return lines(Native.fabricList(home.toString()));
    }

    /** Removes the fabric of a name from the default home. Processes that have it open keep what they have. */
    public static void remove(String name) {
        Native.require();
        Native.fabricRemove(null, Objects.requireNonNull(name, "name"));
    }

    /** Removes the fabric of a name from a home. */
    public static void remove(Path home, String name) {
        Native.require();
        Native.fabricRemove(home.toString(), Objects.requireNonNull(name, "name"));
    }

    /** The name of this fabric. */
    public String name() {
        return name;
    }

    /** The file that this fabric is in; empty for one that has none, such as a memory file. */
    public Path path() {
        Path path = Path.of(Native.fabricPath(handle.number()));
        Reference.reachabilityFence(this);
        return path;
    }

    /** The objects of this fabric. */
    public List<ObjectInfo> objects() {
        List<ObjectInfo> objects = lines(Native.fabricObjects(handle.number())).stream().map(line -> {
            String[] parts = line.split("\t");
            return new ObjectInfo(
                    Long.parseLong(parts[0]), parts[1], parts[2], Long.parseLong(parts[3]), Long.parseLong(parts[4]));
        }).toList();
        Reference.reachabilityFence(this);
        return objects;
    }

    /** What this fabric is and holds, as text for people: one line for each fact. */
    public String info() {
        String info = Native.fabricInfo(handle.number());
        Reference.reachabilityFence(this);
        return info;
    }

    /** Verifies every rule of the fabric's content: what is wrong, one line each; empty when all is well. */
    public List<String> check() {
        List<String> problems = lines(Native.fabricCheck(handle.number()));
        Reference.reachabilityFence(this);
        return problems;
    }

    /** Takes over what dead processes held, which otherwise whoever needs it next does. */
    public void reap() {
        Native.fabricReap(handle.number());
        Reference.reachabilityFence(this);
    }

    /** The cache of a name, however it was made; it is made with the defaults if it is not there. */
    public Cache cache(String cacheName) {
        return cache(cacheName, 0, 0, -1, false, false);
    }

    /**
     * The cache of a name, which is made with these options if it is not there.
     *
     * @throws MemoraException {@link ErrorCode#WRONG_OPTIONS} when it was made with others
     */
    public Cache cache(String cacheName, CacheOptions options) {
        return cache(
                cacheName, options.limit, options.entries, options.rejects ? 1 : 0, options.events,
                options.transactions);
    }

    private Cache cache(
            String cacheName, long limit, long entries, int whenFull, boolean events, boolean transactions) {
        Objects.requireNonNull(cacheName, "cacheName");
        long number = Native.fabricCache(
                handle.number(), cacheName, limit, entries, whenFull, events, transactions);
        return new Cache(this, cacheName, number);
    }

    /** What keeps the memory of this fabric mapped; taken from a view when it is needed for the first time. */
    Handle memory(long view) {
        Handle kept = memory;
        if (kept == null) {
            synchronized (this) {
                kept = memory;
                if (kept == null) {
                    kept = Handle.shared(Native.viewMemory(view));
                    memory = kept;
                }
            }
        }
        return kept;
    }

    /** The channel of a name, which is made with these options if it is not there. */
    public Channel channel(String channelName, ChannelOptions options) {
        Objects.requireNonNull(channelName, "channelName");
        long number = Native.fabricChannel(
                handle.number(), channelName, options.kind.ordinal(), options.overrun.ordinal(), options.laneBytes,
                options.acknowledge, options.visibilityMillis, options.deliveriesMax, options.deadLetters, options.timestamps,
                options.ejectAfterMillis);
        return new Channel(this, channelName, number);
    }

    /** The channel of a name, which must be there already, whatever its kind. */
    public Channel openChannel(String channelName) {
        long number = Native.fabricOpenChannel(handle.number(), Objects.requireNonNull(channelName, "channelName"));
        return new Channel(this, channelName, number);
    }

    /** The event of a name, which is made if it is not there. */
    public NamedEvent event(String eventName) {
        return new NamedEvent(this, eventName, signal(eventName, 1, 0));
    }

    /** The counter of a name, which is made with the value 0 if it is not there. */
    public NamedCounter counter(String counterName) {
        return new NamedCounter(this, counterName, signal(counterName, 2, 0));
    }

    /** The lock of a name, which is made if it is not there. */
    public NamedLock lock(String lockName) {
        return new NamedLock(this, lockName, signal(lockName, 3, 0));
    }

    /**
     * The semaphore of a name, which is made with so many permits, 1 to 32767, if it is not there;
     * {@link ErrorCode#WRONG_OPTIONS} if it has another number of them.
     */
    public NamedSemaphore semaphore(String semaphoreName, int permits) {
        if (permits < 1) {
            throw MemoraException.of(ErrorCode.INVALID_ARGUMENT,
                    "A semaphore has 1 to 32767 permits, not " + permits + ".", 0);
        }
        return new NamedSemaphore(this, semaphoreName, signal(semaphoreName, 4, permits));
    }

    /** The semaphore of a name, which must be there already. */
    public NamedSemaphore openSemaphore(String semaphoreName) {
        return new NamedSemaphore(this, semaphoreName, signal(semaphoreName, 4, 0));
    }

    private long signal(String signalName, int kind, int permits) {
        return Native.fabricSignal(handle.number(), Objects.requireNonNull(signalName, "name"), kind, permits);
    }

    /** The service of a name, which is made with these options if it is not there. */
    public Service service(String serviceName, ServiceOptions options) {
        Objects.requireNonNull(serviceName, "serviceName");
        long number = Native.fabricService(handle.number(), serviceName, options.messageBytes, options.calls);
        return new Service(this, serviceName, number);
    }

    /** The service of a name, which must be there already. */
    public Service openService(String serviceName) {
        long number = Native.fabricOpenService(handle.number(), Objects.requireNonNull(serviceName, "serviceName"));
        return new Service(this, serviceName, number);
    }

    /**
     * The topic of a name, which is made if it is not there.
     *
     * @param limit the most bytes of values and index together; 0: what the fabric has
     */
    public Topic topic(String topicName, long limit) {
        Objects.requireNonNull(topicName, "topicName");
        if (limit < 0) {
            throw new MemoraException(
                    ErrorCode.INVALID_ARGUMENT, "limit is " + limit + ": it must not be negative.", 0, null);
        }
        return new Topic(this, topicName, Native.fabricTopic(handle.number(), topicName, limit));
    }

    /** The topic of a name, which must be there already. */
    public Topic openTopic(String topicName) {
        long number = Native.fabricOpenTopic(handle.number(), Objects.requireNonNull(topicName, "topicName"));
        return new Topic(this, topicName, number);
    }

    /**
     * The log of a name, which is made with these options if it is not there. One with files goes on where these end.
     */
    public Log log(String logName, LogOptions options) {
        Objects.requireNonNull(logName, "logName");
        String directory = options.directory == null ? null : options.directory.toAbsolutePath().toString();
        long number = Native.fabricLog(
                handle.number(), logName, options.bytes, options.ageMillis, options.keepsForReaders, directory,
                options.durability.ordinal(), options.intervalMillis, options.fileBytesMax, options.fileBytes);
        return new Log(this, logName, number);
    }

    /** The store of a name, which is made if it is not there, and recovered from its files. */
    public Store store(String storeName, StoreOptions options) {
        Objects.requireNonNull(storeName, "storeName");
        String directory = options.directory == null ? null : options.directory.toAbsolutePath().toString();
        long number = Native.fabricStore(
                handle.number(), storeName, directory, options.durability.ordinal(), options.intervalMillis,
                options.checkpointBytes, options.ordered, options.feedBytes, options.shards);
        return new Store(this, storeName, number);
    }

    /** Closes the fabric in this process, with all that was opened from it. The second time does nothing. */
    @Override
    public void close() {
        handle.close();
        // Buffers of views that are still in use have it themselves.
        memory = null;
    }

    private static List<String> lines(String text) {
        return text.lines().toList();
    }

    /** Options for opening a fabric. Those about its making count only when it is made. */
    public static final class Builder {
        private final String name;
        private long limit;
        private Path home;
        private int mode = -1;
        private long group = -1;
        private Backend backend = Backend.FILE;
        private boolean readOnly;
        private Create create = Create.OPEN_OR_CREATE;

        private Builder(String name) {
            this.name = Objects.requireNonNull(name, "name");
        }

        /** Bytes of shared memory at most; reserved as they are needed. */
        public Builder limit(long bytes) {
            if (bytes <= 0) {
                throw new MemoraException(ErrorCode.LIMIT_TOO_SMALL, "The limit is " + bytes + " bytes. "
                        + ErrorCode.LIMIT_TOO_SMALL.remedy(), 0, null);
            }
            limit = bytes;
            return this;
        }

        /** The directory that the fabric is in, instead of {@code $MEMORA_HOME} or {@code /dev/shm/memora-<uid>}. */
        public Builder home(Path directory) {
            home = Objects.requireNonNull(directory, "directory");
            return this;
        }

        /** The permissions of the fabric, such as {@code 0660}; only the owner has any otherwise. */
        public Builder mode(int permissions) {
            if ((permissions & ~0777) != 0) {
                throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "The mode is 0" + Integer.toOctalString(permissions)
                        + ": only permission bits are allowed.", 0, null);
            }
            mode = permissions;
            return this;
        }

        /** The number of the group that the fabric belongs to when it is made; give it a {@link #mode} such as {@code 0660} too. */
        public Builder group(int number) {
            if (number < 0) {
                throw new MemoraException(ErrorCode.INVALID_ARGUMENT, "The group is " + number + ": it must not be negative.", 0, null);
            }
            group = number;
            return this;
        }

        /** Where the bytes live: {@link Backend#FILE} unless given. */
        public Builder backend(Backend where) {
            backend = Objects.requireNonNull(where, "where");
            return this;
        }

        /** Maps the memory without the right to write it: whatever changes something throws {@link ErrorCode#READ_ONLY}. */
        public Builder readOnly(boolean only) {
            readOnly = only;
            return this;
        }

        /** Whether it may be made or must be there. */
        public Builder create(Create how) {
            create = Objects.requireNonNull(how, "how");
            return this;
        }

        /** Opens it. */
        public Fabric open() {
            Native.require();
            String directory = home == null ? null : home.toAbsolutePath().toString();
            return new Fabric(name, Native.fabricOpen(
                    name, directory, limit, mode, group, backend.ordinal(), readOnly, create.ordinal()));
        }
    }
}
