//! `memora store`: reads and writes a store.

use memora::{Durability, SetOptions, Store, StoreOptions};
use serde_json::json;

use super::open::{Place, value};
use super::{del, get};
use crate::cli::{Durable, StoreCommand, StoreName};
use crate::output::{Answer, Failure, Outcome, Output};

pub fn run(place: &Place, name: StoreName, mut command: StoreCommand, output: &mut Output) -> Outcome {
    // Standard input is read before anything is made.
    let given = match &mut command {
        StoreCommand::Set { value: argument, .. } => value(std::mem::take(argument))?,
        _ => Vec::new(),
    };
    let durability = name.durability;
    let store = place.open_or_create()?.store(&name.store, &options(&name))?;
    match command {
        StoreCommand::Get { key } => get::answer(store.get_entry(&key.0)?, output),
        StoreCommand::Del { key } => {
            let deleted = store.delete(&key.0)?;
            settle(&store, durability)?;
            del::answer(deleted, output)
        }
        StoreCommand::Set { key, flags, .. } => {
            let version = store.set_with(&key.0, &given, &SetOptions { ttl_ms: None, flags })?;
            settle(&store, durability)?;
            output.answer(|| json!({ "stored": true, "version": version.0 }), String::new)?;
            Ok(Answer::Yes)
        }
        StoreCommand::Flush => {
            store.flush()?;
            output.answer(|| json!({ "flushed": true }), String::new)?;
            Ok(Answer::Yes)
        }
        StoreCommand::Checkpoint => {
            store.checkpoint()?;
            output.answer(|| json!({ "checkpoint": true }), String::new)?;
            Ok(Answer::Yes)
        }
        StoreCommand::Shards { number } => {
            if let Some(number) = number {
                store.set_shards(number)?;
            }
            let shards = store.shards()?;
            output.answer(|| json!({ "shards": shards }), || shards.to_string())?;
            Ok(Answer::Yes)
        }
    }
}

fn options(name: &StoreName) -> StoreOptions {
    StoreOptions {
        dir: name.dir.clone(),
        durability: match name.durability {
            Durable::Process => Durability::Process,
            Durable::Async => Durability::default(),
            Durable::Sync => Durability::Sync,
        },
        ordered: name.ordered.then_some(true),
        feed_bytes: name.feed_bytes,
        shards: name.shards,
        ..StoreOptions::default()
    }
}

/// This process is gone before the next flush of an async store, and perhaps nobody else is there to do it.
fn settle(store: &Store, durability: Durable) -> Result<(), Failure> {
    match durability {
        Durable::Async => Ok(store.flush()?),
        Durable::Process | Durable::Sync => Ok(()),
    }
}
