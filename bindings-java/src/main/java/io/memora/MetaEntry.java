package io.memora;

/**
 * An entry and what is to be done about it.
 *
 * @param entry the entry
 * @param stale whether it was {@linkplain Cache#invalidate invalidated}: its value is out of date
 * @param won whether the caller is the one who makes it anew, and nobody else is told so
 * @param taken whether somebody else was told to make it anew
 */
public record MetaEntry(Entry entry, boolean stale, boolean won, boolean taken) {}
