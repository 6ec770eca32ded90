//! Figures. They cross as lines of text, their fields between tabs: the numbers in the order of the Java records, without a sign;
//! `-` for one that is not there.

use jni::objects::JClass;
use jni::sys::{jlong, jstring};
use jni::{EnvUnowned, jni_mangle};
use memora::{CacheCounts, CacheStats};

use crate::guard::guard;
use crate::handles::with;
use crate::object::Kind;

fn line(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("\t")
}

fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn of_counts(counts: &CacheCounts) -> String {
    let CacheCounts { hits, misses, sets, deletes, evicted_small, evicted_main, expired, flushed, .. } =
        *counts;
    line(&[hits, misses, sets, deletes, evicted_small, evicted_main, expired, flushed])
}

fn of_cache(stats: &CacheStats) -> String {
    let sizes = [
        stats.entries,
        stats.live_bytes,
        stats.dead_bytes,
        stats.capacity_bytes,
        stats.record_chunks,
        stats.index_chunks,
    ];
    let chunks = &stats.chunks;
    format!(
        "{}\t{}\t{}\t{}\t{}",
        line(&sizes),
        of_counts(&stats.counts),
        line(&[chunks.open, chunks.sealed, chunks.cleaning, chunks.quiet]),
        optional(stats.evicted_small_age_ms),
        optional(stats.evicted_main_age_ms),
    )
}

/// Figures of a cache, store or channel; of a channel a further line for each subscription: whether it is held, lag, name. The first line
/// of a queue has three more: bytes waiting, delivered again, dead letters; its further lines are its consumers: number, held, unacknowledged.
#[jni_mangle("io.memora.internal.Native")]
pub fn stats<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let text = with(handle, |object| match &object.kind {
            Kind::Store(store) => {
                let stats = store.stats()?;
                Ok(line(&[
                    stats.entries,
                    stats.live_bytes,
                    stats.flushes,
                    stats.flushed_records,
                    stats.flushed_bytes,
                    stats.journal_bytes,
                    stats.checkpoint_bytes,
                    stats.checkpoints,
                    stats.poisoned.into(),
                    stats.snapshots,
                    stats.snapshots_cancelled,
                    stats.snapshot_oldest_ms,
                    stats.snapshot_bytes,
                    stats.shards.into(),
                ]))
            }
            Kind::Channel(channel) => {
                let stats = channel.stats()?;
                let mut lines = line(&[stats.publishers.into(), stats.lanes.into(), stats.published_bytes]);
                if let Some(queue) = &stats.queue {
                    let figures = [queue.waiting_bytes, queue.redelivered, queue.dead_letters];
                    lines.push_str(&format!("\t{}", line(&figures)));
                    for it in &queue.consumers {
                        let figures = [it.id.into(), it.held.into(), it.unacknowledged];
                        lines.push_str(&format!("\n{}", line(&figures)));
                    }
                }
                for it in &stats.subscriptions {
                    lines.push_str(&format!("\n{}\t{}\t{}", u8::from(it.held), it.lag_bytes, it.name));
                }
                Ok(lines)
            }
            Kind::Topic(topic) => {
                let stats = topic.stats()?;
                Ok(line(&[stats.keys, stats.bytes, stats.updates]))
            }
            Kind::Service(service) => {
                let stats = service.stats()?;
                Ok(line(&[
                    stats.clients.into(),
                    stats.servers.into(),
                    stats.rings.into(),
                    stats.asked.into(),
                    stats.taken.into(),
                    stats.left.into(),
                    stats.calls,
                    stats.timed_out,
                    stats.died,
                ]))
            }
            _ => Ok(of_cache(&object.cache()?.stats()?)),
        })?;
        jvm.new_text(&text)
    })
}

/// What other sizes would give a cache: a line with hit ratio and reads in the sample, then one for each size with factor, bytes,
/// entries and hit ratio. Nothing while not enough is known.
#[jni_mangle("io.memora.internal.Native")]
pub fn advice<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let Some(advice) = with(handle, |object| Ok(object.cache()?.advice()?))? else {
            return jvm.new_text("");
        };
        let mut lines = format!("{}\t{}", advice.hit_ratio, advice.sampled_reads);
        for point in &advice.points {
            lines.push_str(&format!(
                "\n{}\t{}\t{}\t{}",
                point.factor, point.bytes, point.entries, point.hit_ratio
            ));
        }
        jvm.new_text(&lines)
    })
}

/// What each attached process did to a cache: a line with pid, threads, time since it attached, the counts, command.
#[jni_mangle("io.memora.internal.Native")]
pub fn process_counts<'l>(env: EnvUnowned<'l>, class: JClass<'l>, handle: jlong) -> jstring {
    guard(env, class, |jvm| {
        let found = with(handle, |object| Ok(object.cache()?.process_counts()?))?;
        let lines: Vec<String> = found
            .iter()
            .map(|it| {
                let process = &it.process;
                let head = line(&[process.pid.into(), process.threads.into(), process.attached_ms]);
                let command = process.command.replace(['\t', '\n'], " ");
                format!("{head}\t{}\t{command}", of_counts(&it.counts))
            })
            .collect();
        jvm.new_text(&lines.join("\n"))
    })
}
