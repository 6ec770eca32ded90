//! What can still be read of damaged files, and exactly what cannot.
//!
//! Replay stops at the first thing that is wrong, because a journal must never become silently shorter. Here each place is
//! looked at: a batch is as valid as it is for replay, what lies between valid batches is a [`Loss`], and what lies behind
//! the last place that something proves to have been synced is the torn end that replay drops as well.

use std::collections::BTreeMap;

use super::append::failed;
use super::files::FileLayer;
use super::layout::{FILE_LEN_MAX, FIRST_SECTOR, FileHeader, FileName, Record, SECTOR, batch_len, file_tag};
use super::lsn::Lsn;
use super::manifest::{MANIFEST_HEAD_LEN, MANIFEST_LEN_MAX, Manifest, Row};
use super::replay::{Progress, Reader, batch_at, begin_of, decode_records};
use crate::error::{Error, Result};

/// Bytes of a file that hold nothing readable, though they did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Name of the file in the store's directory.
    pub file: String,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
    /// Records that stood there, each the state of one key, where a whole header still says it.
    pub records: Option<u64>,
    /// The flushes whose changes stood there: from the first to the last that is possible.
    pub epochs: Option<(u64, u64)>,
    /// What is wrong.
    pub what: &'static str,
}

/// A file that counts, and how far.
struct Part {
    name: FileName,
    first: Lsn,
    /// Behind the last batch that counts.
    end: Lsn,
    previous: Lsn,
    scan: Scan,
}

/// What examining the files gave.
pub struct Examined {
    parts: Vec<Part>,
    /// The newest readable manifest.
    pub manifest: Option<Manifest>,
    /// Everything lost.
    pub losses: Vec<Loss>,
    /// The highest term in any name.
    pub term_max: u32,
    /// All files of the store, whatever their state.
    pub names: Vec<String>,
    bytes: u64,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub records: u64,
    pub epoch_max: u64,
    pub order_max: u64,
    pub wall_ms: u64,
}

/// A stretch without a valid batch.
#[derive(Clone, Copy)]
struct Gap {
    from: Lsn,
    to: Lsn,
    records: Option<u64>,
    epochs: (u64, u64),
}

#[derive(Default)]
struct Scan {
    gaps: Vec<Gap>,
    /// Up to where a batch of the file says that it was synced.
    proven: Option<Lsn>,
    good_end: Option<Lsn>,
    records: u64,
    bytes: u64,
}

/// Goes through a file sector by sector where it must; `visit` gets the valid batches before `end`.
fn scan(
    files: &dyn FileLayer,
    store: &[u8; 16],
    name: FileName,
    first: Lsn,
    end: Option<Lsn>,
    visit: &mut dyn FnMut(&super::layout::BatchHeader, &[u8]) -> Result<()>,
) -> Result<(Scan, Option<FileHeader>, u64)> {
    let io = |e: std::io::Error| failed(files, "read", name, &e);
    let file = files.open(&name.to_string()).map_err(|e| failed(files, "open", name, &e))?;
    // What is behind no batch can name its place.
    let len = file.len().map_err(io)?.min(FILE_LEN_MAX);
    let mut reader = Reader::new(&*file);
    let header =
        FileHeader::decode(reader.bytes(0, FIRST_SECTOR as usize * SECTOR as usize).map_err(io)?).ok();
    let tag = file_tag(store, name);
    let mut found = Scan::default();
    let (mut place, mut epoch) = (first, 0);
    let mut gap: Option<Gap> = None;
    while place.byte() < len && end.is_none_or(|end| place < end) {
        let sectors = match batch_at(&mut reader, tag, place).map_err(io)? {
            Some((batch, whole)) => {
                let sectors = (batch_len(batch.body_len as usize) / SECTOR) as u32;
                let body_at = place.byte() + super::layout::BATCH_HEADER_LEN as u64;
                let readable = whole && {
                    let body = reader.bytes(body_at, batch.body_len as usize).map_err(io)?;
                    decode_records(&batch, body, &mut |_| Ok(()))?.is_ok()
                };
                if readable {
                    if let Some(mut gap) = gap.take() {
                        gap.to = place;
                        gap.epochs.1 = gap.epochs.1.max(batch.epoch);
                        found.gaps.push(gap);
                    }
                    if batch.synced_lsn.same_file(place) {
                        found.proven = found.proven.max(Some(batch.synced_lsn));
                    }
                    visit(&batch, reader.bytes(body_at, batch.body_len as usize).map_err(io)?)?;
                    epoch = batch.epoch;
                    found.records += u64::from(batch.count);
                    found.bytes += batch_len(batch.body_len as usize);
                    found.good_end = Some(place.behind(sectors));
                } else {
                    // Its header is whole: it says how much stood there.
                    let gap = gap.get_or_insert(Gap {
                        from: place,
                        to: place,
                        records: Some(0),
                        epochs: (batch.epoch, batch.epoch),
                    });
                    gap.records = gap.records.map(|records| records + u64::from(batch.count));
                    gap.epochs.1 = batch.epoch;
                }
                sectors
            }
            None => {
                let gap =
                    gap.get_or_insert(Gap { from: place, to: place, records: None, epochs: (epoch, epoch) });
                gap.records = None;
                1
            }
        };
        place = place.behind(sectors);
    }
    if let Some(mut gap) = gap {
        gap.to = place;
        found.gaps.push(gap);
    }
    Ok((found, header, len))
}

/// Looks at every file, valid or not.
pub fn examine(
    files: &dyn FileLayer,
    store: &[u8; 16],
    manifest_expected: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Examined> {
    let names = files.names().map_err(|e| Error::io("readdir", files.place(), &e))?;
    let mut found = Examined {
        parts: Vec::new(),
        manifest: None,
        losses: Vec::new(),
        term_max: 0,
        names: Vec::new(),
        bytes: 0,
    };
    let mut ours = Vec::new();
    let (mut bytes, mut unreadable) = (0, None);
    for text in names {
        let Some(name) = FileName::parse(&text) else { continue };
        found.term_max = found.term_max.max(name.term());
        let file = files.open(&text).map_err(|e| failed(files, "open", &text, &e))?;
        bytes += file.len().map_err(|e| failed(files, "stat", &text, &e))?;
        if let FileName::Manifest { .. } = name {
            let mut bytes = vec![0; MANIFEST_LEN_MAX + 1];
            let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", &text, &e))?;
            match Manifest::decode(&bytes[..len]).ok().filter(|m| m.store == *store && m.term == name.term())
            {
                Some(manifest) if found.manifest.as_ref().is_none_or(|seen| seen.term < manifest.term) => {
                    found.manifest = Some(manifest);
                }
                Some(_) => {}
                None => unreadable = unreadable.max(Some(name)),
            }
        }
        ours.push(name);
        found.names.push(text);
    }
    found.bytes = bytes;
    // Without its manifest a checkpoint says nothing about itself: all that is there is taken.
    if let Some(name) =
        unreadable.filter(|name| found.manifest.as_ref().is_none_or(|seen| seen.term < name.term()))
    {
        found.manifest = None;
        found.lose(
            name,
            0,
            MANIFEST_HEAD_LEN as u64,
            "the manifest is damaged: every checkpoint and journal counts",
        );
    } else if found.manifest.is_none() && manifest_expected {
        let checkpoints = ours.iter().filter(|name| matches!(name, FileName::Checkpoint { .. }));
        let name = FileName::Manifest { term: checkpoints.map(|name| name.term()).max().unwrap_or(0) };
        found.lose(name, 0, 0, "the manifest is missing: every checkpoint and journal counts");
    }
    let mut done = 0;
    for name in ours.iter().copied() {
        let first = match (name, &found.manifest) {
            (FileName::Journal { term, number }, manifest) => {
                let first = Lsn::new(term, number, FIRST_SECTOR);
                if manifest.as_ref().is_some_and(|m| first < m.first.at_sector(FIRST_SECTOR)) {
                    continue;
                }
                begin_of(first, manifest.as_ref())
            }
            (FileName::Checkpoint { term, part }, manifest) => {
                if manifest.as_ref().is_some_and(|m| !m.names(term, part)) {
                    continue;
                }
                Lsn::new(term, part, FIRST_SECTOR)
            }
            _ => continue,
        };
        let (scan, header, len) = scan(files, store, name, first, None, &mut |_, _| Ok(()))?;
        if header.is_some_and(|header| header.store != *store) {
            found.lose(name, 0, len, "the file belongs to another store");
            continue;
        }
        done += len;
        progress(Progress { bytes_done: done, bytes_total: bytes, records: scan.records });
        let previous = header.map_or(Lsn::NONE, |header| header.previous);
        found.parts.push(Part { name, first, end: first, previous, scan });
    }
    found.settle_journals();
    found.settle_checkpoints();
    found.losses.sort_by(|a, b| (&a.file, a.from).cmp(&(&b.file, b.from)));
    Ok(found)
}

impl Examined {
    fn lose(&mut self, name: FileName, from: u64, to: u64, what: &'static str) {
        self.losses.push(Loss { file: name.to_string(), from, to, records: None, epochs: None, what });
    }

    fn lose_gap(&mut self, name: FileName, gap: &Gap, to: Lsn) {
        self.losses.push(Loss {
            file: name.to_string(),
            from: gap.from.byte(),
            to: to.byte(),
            records: gap.records,
            epochs: Some(gap.epochs),
            what: "no valid batch, though the file was synced beyond",
        });
    }

    /// Where each journal file ends, and what is missing before.
    fn settle_journals(&mut self) {
        let counts = |place: Lsn, manifest: &Option<Manifest>| {
            manifest.as_ref().is_none_or(|m| place.at_sector(FIRST_SECTOR) >= m.first.at_sector(FIRST_SECTOR))
        };
        // Up to where a file was synced, as the next one says.
        let mut synced: BTreeMap<u64, Lsn> = BTreeMap::new();
        for part in &self.parts {
            let previous = part.previous;
            if previous.sector() > FIRST_SECTOR && counts(previous, &self.manifest) {
                synced.insert(previous.at_sector(0).0, previous);
            }
        }
        if let Some(manifest) = &self.manifest
            && manifest.first.sector() != 0
        {
            synced.entry(manifest.first.at_sector(0).0).or_insert(manifest.first);
        }
        let mut losses = Vec::new();
        for part in &mut self.parts {
            let FileName::Journal { .. } = part.name else { continue };
            let told = synced.remove(&part.first.at_sector(0).0);
            let proven = part.scan.proven.max(told).unwrap_or(part.first);
            part.end = part.scan.good_end.unwrap_or(part.first);
            for gap in &part.scan.gaps {
                // What nothing proves is the torn end, with all that follows.
                if gap.from >= proven {
                    part.end = gap.from;
                    break;
                }
                losses.push((part.name, *gap, gap.to.min(proven.max(part.end))));
            }
            let scanned = part.scan.gaps.last().map_or(part.end, |gap| gap.to.max(part.end));
            if scanned < proven {
                let gap = Gap { from: scanned, to: proven, records: None, epochs: (0, 0) };
                losses.push((part.name, gap, proven));
            }
        }
        for (name, gap, to) in losses {
            self.lose_gap(name, &gap, to);
        }
        // What a checkpoint had made needless is no loss; which one it was only its manifest knew.
        let checkpoint = self.parts.iter().any(|part| matches!(part.name, FileName::Checkpoint { .. }));
        if self.manifest.is_none() && checkpoint {
            return;
        }
        for (_, end) in synced {
            let name = FileName::Journal { term: end.term(), number: end.number() };
            self.lose(name, 0, end.byte(), "the file is missing");
        }
    }

    /// What is missing of the checkpoints, by what their manifest says.
    fn settle_checkpoints(&mut self) {
        let mut losses = Vec::new();
        for part in &mut self.parts {
            let FileName::Checkpoint { .. } = part.name else { continue };
            part.end = part.scan.good_end.unwrap_or(part.first);
            for gap in part.scan.gaps.iter().filter(|gap| gap.to <= part.end) {
                losses.push((part.name, *gap, gap.to));
            }
        }
        for (name, gap, to) in losses {
            self.lose_gap(name, &gap, to);
        }
        let Some(manifest) = self.manifest.clone() else { return };
        for row in &manifest.rows {
            self.settle_row(row, manifest.last_epoch);
        }
    }

    /// What is missing of the checkpoint of one shard.
    fn settle_row(&mut self, row: &Row, last_epoch: u64) {
        let (mut len, mut records, mut complete) = (0, 0, true);
        let mut last = None;
        for name in row.files() {
            match self.parts.iter().find(|part| part.name == name) {
                Some(part) => {
                    len += part.end.byte();
                    records += part.scan.records;
                    last = Some((name, part.end));
                }
                None => {
                    complete = false;
                    self.lose(name, 0, 0, "the file is missing");
                }
            }
        }
        // Where the file ends early, its manifest says what stood there.
        if let Some((name, end)) = last
            && complete
            && len < row.bytes
        {
            let of_row = |loss: &&Loss| match FileName::parse(&loss.file) {
                Some(FileName::Checkpoint { term, part }) => row.names(term, part),
                _ => false,
            };
            let known: Option<u64> = self.losses.iter().filter(of_row).map(|loss| loss.records).sum();
            self.losses.push(Loss {
                file: name.to_string(),
                from: end.byte(),
                to: end.byte() + (row.bytes - len),
                records: known.map(|known| row.records.saturating_sub(records + known)),
                epochs: Some((0, last_epoch)),
                what: "the checkpoint ends too early",
            });
        }
    }

    /// Reads everything that is readable and counts.
    pub fn read(
        &self,
        files: &dyn FileLayer,
        store: &[u8; 16],
        progress: &mut dyn FnMut(Progress),
        visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<Kept> {
        let first_epoch = self.manifest.as_ref().map_or(0, |manifest| manifest.first_epoch);
        let mut kept = self.manifest.as_ref().map_or(Kept::default(), |manifest| Kept {
            records: 0,
            epoch_max: manifest.last_epoch.max(manifest.first_epoch),
            order_max: manifest.order_floor,
            wall_ms: manifest.wall_ms,
        });
        // A flush that a crash cut short counts as little as for replay; one that is damaged keeps what is readable of it.
        let mut flushes: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for part in self.parts.iter().filter(|part| matches!(part.name, FileName::Journal { .. })) {
            scan(files, store, part.name, part.first, Some(part.end), &mut |batch, _| {
                let flush = flushes.entry(batch.epoch).or_default();
                flush.0 += 1;
                flush.1 = flush.1.max(batch.whole);
                Ok(())
            })?;
        }
        let damaged = |epoch: u64| {
            let mut all = self.losses.iter().filter(|loss| FileName::parse(&loss.file).is_some());
            all.any(|loss| loss.epochs.is_none_or(|(first, last)| (first..=last).contains(&epoch)))
        };
        let counts = |epoch: u64| {
            epoch >= first_epoch
                && (flushes.get(&epoch).is_some_and(|(found, whole)| found == whole) || damaged(epoch))
        };
        let mut done = 0;
        for part in &self.parts {
            let journal = matches!(part.name, FileName::Journal { .. });
            scan(files, store, part.name, part.first, Some(part.end), &mut |batch, body| {
                done += batch_len(body.len());
                if journal {
                    kept.epoch_max = kept.epoch_max.max(batch.epoch);
                    kept.wall_ms = kept.wall_ms.max(batch.wall_ms);
                    if !counts(batch.epoch) {
                        return Ok(());
                    }
                }
                // It was decoded before; the inner answer is therefore well.
                let _ = decode_records(batch, body, &mut |record| {
                    kept.order_max = kept.order_max.max(record.order);
                    kept.records += 1;
                    visit(record)
                })?;
                progress(Progress {
                    bytes_done: done,
                    bytes_total: self.bytes.max(done),
                    records: kept.records,
                });
                Ok(())
            })?;
        }
        Ok(kept)
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::super::files::RealFiles;
    use super::super::layout::FILE_LEN_MAX;
    use super::*;

    #[test]
    fn what_stands_behind_the_last_place_that_has_a_name_is_not_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let name = FileName::Journal { term: 1, number: 0 };
        let file = std::fs::File::create(place.path().join(name.to_string())).unwrap();
        // Bytes that are nobody's: they take no room.
        file.set_len(FILE_LEN_MAX + (1 << 30)).unwrap();
        let files = RealFiles::open_to_read(place.path()).unwrap();
        let last = Lsn::new(1, 0, Lsn::SECTOR_MAX);
        let first = last.at_sector(Lsn::SECTOR_MAX - 20);
        let (found, header, len) = scan(&files, &[1; 16], name, first, None, &mut |_, _| Ok(())).unwrap();
        assert_eq!((header, len, found.gaps.len()), (None, FILE_LEN_MAX, 1));
        assert_eq!((found.gaps[0].from, found.gaps[0].to), (first, last));
        assert_eq!((first.behind(20), first.behind(21), last.behind(u32::MAX)), (last, last, last));
    }
}
