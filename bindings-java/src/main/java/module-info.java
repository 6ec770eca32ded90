/** Memora: cache, channels and store in shared memory, for the processes of one host. */
module io.memora {
    exports io.memora;
}
