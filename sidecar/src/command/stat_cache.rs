//! What `memora stat NAME OBJECT` shows of a cache.

use memora::{Advice, Cache, CacheCounts, CacheStats, ProcessCounts};
use serde_json::{Value, json};

use crate::output::{Failure, bytes, table};

/// Everything that is shown.
pub struct Figures {
    stats: CacheStats,
    processes: Vec<ProcessCounts>,
    advice: Option<Advice>,
}

impl Figures {
    pub fn of(cache: &Cache) -> Result<Figures, Failure> {
        Ok(Figures { stats: cache.stats()?, processes: cache.process_counts()?, advice: cache.advice()? })
    }

    pub fn to_json(&self, name: &str) -> Value {
        let stats = &self.stats;
        let mut whole = json!({
            "name": name,
            "kind": "cache",
            "entries": stats.entries,
            "live_bytes": stats.live_bytes,
            "dead_bytes": stats.dead_bytes,
            "capacity_bytes": stats.capacity_bytes,
            "record_chunks": stats.record_chunks,
            "index_chunks": stats.index_chunks,
            "open_chunks": stats.chunks.open,
            "sealed_chunks": stats.chunks.sealed,
            "cleaning_chunks": stats.chunks.cleaning,
            "quiet_chunks": stats.chunks.quiet,
            "evicted_small_age_ms": stats.evicted_small_age_ms,
            "evicted_main_age_ms": stats.evicted_main_age_ms,
        });
        put_counts(&mut whole, &stats.counts);
        whole["processes"] = self.processes.iter().map(process_to_json).collect();
        whole["advice"] = self.advice.as_ref().map_or(Value::Null, advice_to_json);
        whole
    }

    pub fn to_text(&self, name: &str) -> String {
        let stats = &self.stats;
        let counts = &stats.counts;
        let age = |age: Option<u64>| age.map_or_else(|| "none yet".to_owned(), duration);
        let rows = [
            ("kind", "cache".to_owned()),
            ("entries", stats.entries.to_string()),
            ("live", bytes(stats.live_bytes)),
            ("dead, not yet reclaimed", bytes(stats.dead_bytes)),
            ("capacity", bytes(stats.capacity_bytes)),
            (
                "chunks of records",
                format!(
                    "{}: {} open, {} sealed, {} being cleaned; {} wait for views",
                    stats.record_chunks,
                    stats.chunks.open,
                    stats.chunks.sealed,
                    stats.chunks.cleaning,
                    stats.chunks.quiet
                ),
            ),
            ("chunks of the index", stats.index_chunks.to_string()),
            ("hits", counts.hits.to_string()),
            ("misses", counts.misses.to_string()),
            ("hit ratio", percent(counts.hit_ratio())),
            ("sets", counts.sets.to_string()),
            ("deletes", counts.deletes.to_string()),
            ("evicted, small", counts.evicted_small.to_string()),
            ("evicted, main", counts.evicted_main.to_string()),
            ("age of these, small", age(stats.evicted_small_age_ms)),
            ("age of these, main", age(stats.evicted_main_age_ms)),
            ("expired", counts.expired.to_string()),
            ("flushed", counts.flushed.to_string()),
        ];
        let rows = rows.into_iter().map(|(what, figure)| vec![what.to_owned(), figure]);
        let mut text = table(&[name, ""], rows);
        text.push_str(&table(
            &["process", "command", "hits", "misses", "hit ratio", "sets", "deletes"],
            self.processes.iter().map(|process| {
                let counts = &process.counts;
                vec![
                    process.process.pid.to_string(),
                    process.process.command.clone(),
                    counts.hits.to_string(),
                    counts.misses.to_string(),
                    percent(counts.hit_ratio()),
                    counts.sets.to_string(),
                    counts.deletes.to_string(),
                ]
            }),
        ));
        match &self.advice {
            None => text.push_str("no advice yet: too few reads in the sample\n"),
            Some(advice) => text.push_str(&advice_to_text(advice)),
        }
        text
    }
}

fn put_counts(object: &mut Value, counts: &CacheCounts) {
    object["hits"] = counts.hits.into();
    object["misses"] = counts.misses.into();
    object["hit_ratio"] = counts.hit_ratio().into();
    object["sets"] = counts.sets.into();
    object["deletes"] = counts.deletes.into();
    object["evicted_small"] = counts.evicted_small.into();
    object["evicted_main"] = counts.evicted_main.into();
    object["expired"] = counts.expired.into();
    object["flushed"] = counts.flushed.into();
}

fn process_to_json(process: &ProcessCounts) -> Value {
    let mut object = json!({
        "pid": process.process.pid,
        "command": process.process.command,
        "threads": process.process.threads,
        "dead": process.process.dead,
    });
    put_counts(&mut object, &process.counts);
    object
}

fn advice_to_json(advice: &Advice) -> Value {
    let points: Vec<_> = advice
        .points
        .iter()
        .map(|point| {
            json!({
                "factor": point.factor,
                "bytes": point.bytes,
                "entries": point.entries,
                "hit_ratio": point.hit_ratio,
            })
        })
        .collect();
    json!({ "sampled_reads": advice.sampled_reads, "points": points })
}

fn advice_to_text(advice: &Advice) -> String {
    let rows = advice.points.iter().map(|point| {
        vec![
            format!("x {}", point.factor),
            bytes(point.bytes),
            point.entries.to_string(),
            percent(Some(point.hit_ratio)),
        ]
    });
    table(&["memory", "records", "entries", "hit ratio to expect"], rows)
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "none yet".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0))
}

/// Milliseconds for people: `250 ms`, `12.5 s`, `3.2 h`.
fn duration(ms: u64) -> String {
    let seconds = ms as f64 / 1000.0;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..100_000 => format!("{seconds:.1} s"),
        100_000..6_000_000 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_ratios_are_short() {
        let shown: Vec<String> = [0, 999, 12_500, 600_000, 36_000_000].map(duration).into();
        assert_eq!(shown, ["0 ms", "999 ms", "12.5 s", "10.0 min", "10.0 h"]);
        assert_eq!((percent(None).as_str(), percent(Some(0.12345)).as_str()), ("none yet", "12.35 %"));
    }
}
