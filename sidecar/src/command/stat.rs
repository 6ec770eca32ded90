//! `memora stat`: sizes, processes and objects of a fabric, or the counters of one object.

use memora::{
    ChannelStats, Durability, Fabric, FabricStat, LogStats, ObjectInfo, ObjectKind, ServiceStats,
    StoreOptions, TopicStats,
};
use serde_json::{Value, json};

use super::open::Place;
use super::{ls, signal, stat_cache};
use crate::output::{Answer, Failure, Outcome, Output, bytes, table};

pub fn run(place: &Place, name: Option<&str>, object: Option<&str>, output: &mut Output) -> Outcome {
    let fabric = place.open_to_look(name.unwrap_or(&place.fabric))?;
    match object {
        None => whole(&fabric, output),
        Some(object) => one(&fabric, object, output),
    }
}

fn whole(fabric: &Fabric, output: &mut Output) -> Outcome {
    let stat = fabric.stat()?;
    let objects = fabric.objects()?;
    output.answer(|| whole_to_json(&stat, &objects), || whole_to_text(&stat, &objects))?;
    Ok(Answer::Yes)
}

fn whole_to_json(stat: &FabricStat, objects: &[ObjectInfo]) -> Value {
    let mut whole = ls::to_json(&stat.info);
    let processes: Vec<_> = stat
        .processes
        .iter()
        .map(|process| {
            json!({
                "pid": process.pid,
                "uid": process.uid,
                "pid_namespace": process.namespace,
                "command": process.command,
                "threads": process.threads,
                "dead": process.dead,
            })
        })
        .collect();
    let listed: Vec<_> = objects
        .iter()
        .map(|object| {
            json!({
                "id": object.id,
                "name": object.name,
                "kind": object.kind_name(),
                "chunks": object.chunks,
                "bytes": object.bytes,
            })
        })
        .collect();
    whole["chunk_bytes"] = stat.chunk_bytes.into();
    whole["chunks"] = stat.chunks.into();
    whole["chunks_used"] = stat.chunks_used.into();
    whole["reserved_bytes"] = stat.reserved_bytes.into();
    whole["reaped_threads"] = stat.reaped_threads.into();
    whole["processes"] = processes.into();
    whole["objects"] = listed.into();
    whole
}

fn whole_to_text(stat: &FabricStat, objects: &[ObjectInfo]) -> String {
    let info = &stat.info;
    let place = info.path.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
    let mut text = format!(
        "{}: {place} ({:?}, mode {:04o}, layout {})\n",
        info.name, info.backend, info.mode, info.layout_version
    );
    text.push_str(&format!(
        "{} of {} taken, {} of {} chunks of {} in use, {} threads reaped\n",
        bytes(stat.reserved_bytes),
        bytes(info.limit),
        stat.chunks_used,
        stat.chunks,
        bytes(stat.chunk_bytes),
        stat.reaped_threads
    ));
    let rows = stat.processes.iter().map(|process| {
        let state = if process.dead { "dead" } else { "alive" };
        vec![process.pid.to_string(), process.command.clone(), process.threads.to_string(), state.to_owned()]
    });
    text.push_str(&table(&["process", "command", "threads", "state"], rows));
    let rows = objects.iter().map(|object| {
        vec![
            object.name.clone(),
            object.kind_name().to_owned(),
            object.chunks.to_string(),
            bytes(object.bytes),
        ]
    });
    text.push_str(&table(&["object", "kind", "chunks", "size"], rows));
    text
}

/// Figures of an object by name: for text and JSON alike.
type Figures = Vec<(&'static str, Value)>;

fn one(fabric: &Fabric, name: &str, output: &mut Output) -> Outcome {
    let kind = fabric.object_kind(name)?;
    let figures = match kind {
        ObjectKind::Cache => return cache(fabric, name, output),
        ObjectKind::Channel => channel(&fabric.open_channel(name)?.stats()?),
        ObjectKind::Store => store(fabric, name)?,
        ObjectKind::Signal => signal::figures(&fabric.signal_state(name)?),
        ObjectKind::Topic => topic(&fabric.open_topic(name)?.stats()?),
        ObjectKind::Service => service(&fabric.open_service(name)?.stats()?),
    };
    let listed = fabric.objects()?.into_iter().find(|object| object.name == name);
    let kind = listed.map_or(kind.name(), |object| object.kind_name());
    output.answer(
        || {
            let mut object = json!({ "name": name, "kind": kind });
            for (key, value) in &figures {
                object[*key] = value.clone();
            }
            object
        },
        || {
            let mut rows = vec![vec!["kind".to_owned(), kind.to_owned()]];
            rows.extend(figures.iter().map(|(key, value)| vec![(*key).to_owned(), value.to_string()]));
            table(&[name, ""], rows.into_iter())
        },
    )?;
    Ok(Answer::Yes)
}

fn cache(fabric: &Fabric, name: &str, output: &mut Output) -> Outcome {
    let figures = stat_cache::Figures::of(&fabric.cache(name)?)?;
    output.answer(|| figures.to_json(name), || figures.to_text(name))?;
    Ok(Answer::Yes)
}

fn topic(stats: &TopicStats) -> Figures {
    vec![("keys", stats.keys.into()), ("bytes", stats.bytes.into()), ("updates", stats.updates.into())]
}

fn service(stats: &ServiceStats) -> Figures {
    vec![
        ("clients", stats.clients.into()),
        ("servers", stats.servers.into()),
        ("rings", stats.rings.into()),
        ("asked", stats.asked.into()),
        ("taken", stats.taken.into()),
        ("left", stats.left.into()),
        ("calls", stats.calls.into()),
        ("timed_out", stats.timed_out.into()),
        ("died", stats.died.into()),
    ]
}

fn log(publishers: u32, stats: &LogStats) -> Figures {
    let readers: Vec<_> = stats
        .readers
        .iter()
        .map(|it| json!({ "id": it.id, "name": it.name, "held": it.held, "position": it.position, "lag": it.lag }))
        .collect();
    let mut figures: Figures = vec![
        ("publishers", publishers.into()),
        ("oldest", stats.oldest.into()),
        ("end", stats.end.into()),
        ("trimmed", stats.oldest.into()),
        ("bytes", stats.bytes.into()),
        ("bytes_max", stats.bytes_max.into()),
        ("readers", readers.into()),
    ];
    if let Some(files) = &stats.files {
        figures.push(("dir", files.dir.display().to_string().into()));
        figures.push(("durable", files.durable.into()));
        figures.push(("files", files.files.into()));
        figures.push(("file_bytes", files.bytes.into()));
        figures.push(("flushes", files.flushes.into()));
        figures.push(("flushed_bytes", files.flushed_bytes.into()));
        figures.push(("poisoned", files.poisoned.into()));
    }
    figures
}

fn channel(stats: &ChannelStats) -> Figures {
    if let Some(of_log) = &stats.log {
        return log(stats.publishers, of_log);
    }
    let subscriptions: Vec<_> = stats
        .subscriptions
        .iter()
        .map(|subscription| {
            json!({
                "id": subscription.id,
                "name": subscription.name,
                "held": subscription.held,
                "pid": subscription.pid,
                "lag_bytes": subscription.lag_bytes,
            })
        })
        .collect();
    let mut figures: Figures = vec![
        ("publishers", stats.publishers.into()),
        ("lanes", stats.lanes.into()),
        ("published_bytes", stats.published_bytes.into()),
    ];
    let Some(queue) = &stats.queue else {
        figures.push(("ejected", stats.ejected.into()));
        figures.push(("subscriptions", subscriptions.into()));
        return figures;
    };
    let consumers: Vec<_> = queue
        .consumers
        .iter()
        .map(|it| json!({ "id": it.id, "held": it.held, "unacknowledged": it.unacknowledged }))
        .collect();
    figures.push(("waiting_bytes", queue.waiting_bytes.into()));
    figures.push(("redelivered", queue.redelivered.into()));
    figures.push(("dead_letters", queue.dead_letters.into()));
    figures.push(("consumers", consumers.into()));
    figures
}

fn store(fabric: &Fabric, name: &str) -> Result<Figures, Failure> {
    // Looking flushes nothing.
    let options = StoreOptions { durability: Durability::Process, ..StoreOptions::default() };
    let stats = fabric.store(name, &options)?.stats()?;
    Ok(vec![
        ("entries", stats.entries.into()),
        ("live_bytes", stats.live_bytes.into()),
        ("flushes", stats.flushes.into()),
        ("flushed_records", stats.flushed_records.into()),
        ("flushed_bytes", stats.flushed_bytes.into()),
        ("journal_bytes", stats.journal_bytes.into()),
        ("checkpoint_bytes", stats.checkpoint_bytes.into()),
        ("checkpoints", stats.checkpoints.into()),
        ("poisoned", stats.poisoned.into()),
        ("snapshots", stats.snapshots.into()),
        ("snapshots_cancelled", stats.snapshots_cancelled.into()),
        ("snapshot_oldest_ms", stats.snapshot_oldest_ms.into()),
        ("snapshot_bytes", stats.snapshot_bytes.into()),
        ("shards", stats.shards.into()),
    ])
}
