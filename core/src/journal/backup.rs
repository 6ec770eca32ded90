//! Backups: a checkpoint of its own, in a directory or as one stream.
//!
//! A directory holds `checkpoint.0000001.<part>`, `MANIFEST.0000001` and, written last, `BACKUP`: without it the backup is
//! not complete. A stream is the same bytes in one row, each filled up to a multiple of 512: `BACKUP`, the parts,
//! the manifest; the manifest says how long and how many it must have been. Every batch carries the id of the backup and its
//! place, so bytes of another backup, and bytes in another order, are never taken for its own.

use std::io::{Read, Write};

use super::append::failed;
use super::checkpoint::Parts;
use super::directory::other_version;
use super::files::FileLayer;
use super::layout::{
    BACKUP_LEN, BACKUP_NAME, BATCH_HEADER_LEN, BackupHead, BatchHeader, FILE_HEADER_LEN, FIRST_SECTOR,
    FileHeader, FileName, Record, Refused, SECTOR, batch_len, file_tag,
};
use super::lsn::Lsn;
use super::manifest::{Manifest, manifest_len};
use super::replay::decode_records;
use crate::error::{Error, ErrorCode, Result};

/// The term of a backup's files.
pub const TERM: u32 = 1;
const TEMPORARY_NAME: &str = "BACKUP.tmp";

/// Parts in a row on a stream.
pub struct StreamParts<'a> {
    out: &'a mut dyn Write,
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|e| Error::io("write", "the stream of the backup", &e))
}

impl<'a> StreamParts<'a> {
    /// Begins a stream with its head.
    pub fn begin(out: &'a mut dyn Write, head: &BackupHead) -> Result<StreamParts<'a>> {
        write(out, &head.encode())?;
        Ok(StreamParts { out })
    }

    /// Ends the stream.
    pub fn finish(self, manifest: &Manifest) -> Result<()> {
        let mut bytes = manifest.encode();
        bytes.resize(SECTOR as usize, 0);
        write(self.out, &bytes)?;
        self.out.flush().map_err(|e| Error::io("flush", "the stream of the backup", &e))
    }
}

impl Parts for StreamParts<'_> {
    fn begin(&mut self, _name: FileName, header: &[u8]) -> Result<()> {
        write(self.out, header)
    }

    fn write(&mut self, _name: FileName, _at: u64, bytes: &[u8]) -> Result<()> {
        write(self.out, bytes)
    }

    fn sync(&mut self, _name: FileName) -> Result<()> {
        Ok(())
    }
}

/// Makes the backup in a directory complete.
pub fn write_head(files: &dyn FileLayer, head: &BackupHead) -> Result<()> {
    let file = files.create(TEMPORARY_NAME).map_err(|e| failed(files, "create", TEMPORARY_NAME, &e))?;
    file.write_at(0, &head.encode()).map_err(|e| failed(files, "write", TEMPORARY_NAME, &e))?;
    file.sync().map_err(|e| failed(files, "fdatasync", TEMPORARY_NAME, &e))?;
    // DIES BEFORE: no backup; its directory is refused by all but the user.  DIES AFTER: a whole backup.
    kill_point!("store.backup.before_head");
    files.rename(TEMPORARY_NAME, BACKUP_NAME).map_err(|e| failed(files, "rename", BACKUP_NAME, &e))?;
    kill_point!("store.backup.complete");
    files.sync_names().map_err(|e| failed(files, "fsync", BACKUP_NAME, &e))
}

fn decode_head(bytes: &[u8], place: &str) -> Result<BackupHead> {
    BackupHead::decode(bytes).map_err(|refused| match refused {
        Refused::Version(version) => other_version(place, version),
        Refused::Damaged => {
            Error::new(ErrorCode::NotABackup, format!("{place} does not begin as a backup does."))
        }
    })
}

/// The head of a backup in a directory; `None` if there is none.
pub fn read_head(files: &dyn FileLayer) -> Result<Option<BackupHead>> {
    let file = match files.open(BACKUP_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(files, "open", BACKUP_NAME, &error)),
    };
    let mut bytes = vec![0; BACKUP_LEN + 1];
    let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", BACKUP_NAME, &e))?;
    decode_head(&bytes[..len], &format!("{}/{BACKUP_NAME}", files.place())).map(Some)
}

/// A backup that comes as a stream.
pub struct StreamReader<'a> {
    input: &'a mut dyn Read,
    /// Bytes taken from it.
    at: u64,
    sector: Vec<u8>,
    pub head: BackupHead,
}

fn corrupt(at: u64, what: &str) -> Error {
    Error::new(ErrorCode::JournalCorrupt, format!("The stream of the backup at byte {at}: {what}."))
}

fn fill(input: &mut dyn Read, at: &mut u64, into: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < into.len() {
        match input.read(&mut into[done..]) {
            Ok(0) => {
                let end = *at + done as u64;
                return Err(Error::new(
                    ErrorCode::Truncated,
                    format!("The stream of the backup ends at byte {end}, before its manifest."),
                ));
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", "the stream of the backup", &error)),
        }
    }
    *at += into.len() as u64;
    Ok(())
}

impl<'a> StreamReader<'a> {
    /// Reads the head.
    pub fn begin(input: &'a mut dyn Read) -> Result<StreamReader<'a>> {
        let (mut at, mut sector) = (0, vec![0; BACKUP_LEN]);
        fill(input, &mut at, &mut sector)?;
        let head = decode_head(&sector, "The stream")?;
        Ok(StreamReader { input, at, sector, head })
    }

    /// Reads everything behind the head; `visit` gets each record, `say` the bytes read so far.
    pub fn read(
        mut self,
        say: &mut dyn FnMut(u64),
        visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<Manifest> {
        let store = self.head.id;
        let mut body = Vec::new();
        let (mut part, mut place, mut len, mut records) = (0u32, Lsn::NONE, 0, 0);
        loop {
            let start = self.at;
            fill(self.input, &mut self.at, &mut self.sector)?;
            let name = FileName::Checkpoint { term: TERM, part };
            if let Some(batch) = BatchHeader::decode(&self.sector) {
                // A place is only expected within a part, whose name stands in the tag.
                let last = FileName::Checkpoint { term: TERM, part: place.number() };
                if place == Lsn::NONE || batch.tag != file_tag(&store, last) || batch.lsn != place {
                    return Err(corrupt(start, "a batch of another backup or another place"));
                }
                let whole = batch_len(batch.body_len as usize);
                let mut rest = vec![0; (whole - SECTOR) as usize];
                fill(self.input, &mut self.at, &mut rest)?;
                body.clear();
                body.extend_from_slice(&self.sector[BATCH_HEADER_LEN..]);
                body.extend_from_slice(&rest);
                body.truncate(batch.body_len as usize);
                if crc32c::crc32c(&body) != batch.body_crc {
                    return Err(corrupt(start, "the checksum of a batch is wrong"));
                }
                decode_records(&batch, &body, visit)?.map_err(|what| corrupt(start, what))?;
                place = place.at_sector(place.sector() + (whole / SECTOR) as u32);
                len += whole;
                records += u64::from(batch.count);
                say(self.at);
            } else if let Ok(header) = FileHeader::decode(&self.sector) {
                if header.store != store || header.tag != file_tag(&store, name) {
                    return Err(corrupt(start, "a part of another backup or another place"));
                }
                let mut rest = vec![0; (FILE_HEADER_LEN - SECTOR) as usize];
                fill(self.input, &mut self.at, &mut rest)?;
                place = Lsn::new(TERM, part, FIRST_SECTOR);
                part += 1;
                len += FILE_HEADER_LEN;
            } else if let Ok(manifest) = Manifest::decode(&self.sector[..manifest_len(1)]) {
                let told =
                    manifest.rows.first().map(|row| (row.term, row.part, row.parts, row.bytes, row.records));
                if manifest.store != store || told != Some((TERM, 0, part, len, records)) {
                    return Err(corrupt(start, "the manifest names other parts than came before it"));
                }
                let mut more = [0];
                return match self.input.read(&mut more) {
                    Ok(0) => Ok(manifest),
                    Ok(_) => Err(corrupt(self.at, "bytes follow behind the end")),
                    Err(error) => Err(Error::io("read", "the stream of the backup", &error)),
                };
            } else {
                return Err(corrupt(start, "neither a part, a batch nor the manifest of a backup"));
            }
        }
    }
}
