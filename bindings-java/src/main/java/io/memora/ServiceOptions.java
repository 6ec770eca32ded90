package io.memora;

/** How a service is made. Immutable: each method gives a changed copy. */
public final class ServiceOptions {
    final int messageBytes;
    final int calls;

    private ServiceOptions(int messageBytes, int calls) {
        this.messageBytes = messageBytes;
        this.calls = calls;
    }

    /** Messages up to 4000 bytes, eight calls of a client at once. */
    public static ServiceOptions defaults() {
        return new ServiceOptions(0, 0);
    }

    /**
     * Bytes of a request or reply that a cell holds, up to 64 MiB; 0 leaves it to the library. Longer ones, up to half of the fabric and
     * 128 MiB, take memory of the fabric for as long as they are under way.
     */
    public ServiceOptions messageBytes(int newMessageBytes) {
        return new ServiceOptions(notNegative("messageBytes", newMessageBytes), calls);
    }

    /** Calls that a client may have under way: a power of two up to 1024; 0 leaves it to the library. */
    public ServiceOptions calls(int newCalls) {
        return new ServiceOptions(messageBytes, notNegative("calls", newCalls));
    }

    private static int notNegative(String name, int value) {
        if (value < 0) {
            throw new MemoraException(
                    ErrorCode.INVALID_ARGUMENT, name + " is " + value + ": it must not be negative.", 0, null);
        }
        return value;
    }
}
