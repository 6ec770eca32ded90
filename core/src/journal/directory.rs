//! One directory, one store or log, one fabric at a time.
//!
//! The file `STORE` names the store or log and the fabric that holds it in memory. Each process of that fabric which has the
//! store open holds byte 0 of the file `LOCK` shared, by an open file description of its own: the kernel lets go when the
//! process dies, in every namespace. A process of another fabric may take the directory over only by getting that byte
//! alone, that is, when no process of the old fabric has the store open. Openers exclude each other by byte 1.

use std::time::{Duration, Instant};

use super::append::failed;
use super::feed;
use super::files::{FileLayer, LockMode};
use super::layout::{
    FORMAT_VERSION, FileName, IDENTITY_LEN, IDENTITY_NAME, Identity, LOCK_NAME, Owner, Refused,
};
use super::replay::survey;
use crate::error::{Error, ErrorCode, Result};

const IN_USE: u64 = 0;
const OPENING: u64 = 1;
const TEMPORARY_NAME: &str = "STORE.tmp";
/// What the names of originals end with that `repair` has put aside.
pub const ASIDE: &str = ".damaged";
/// The locks of a killed process are free only after its memory was given back: 0.1 s for each GB.
const PATIENCE: Duration = Duration::from_secs(3);

fn lock_within(files: &dyn FileLayer, byte: u64, mode: LockMode, patience: Duration) -> Result<bool> {
    let start = Instant::now();
    loop {
        if files.lock(byte, mode).map_err(|e| failed(files, "lock", LOCK_NAME, &e))? {
            return Ok(true);
        }
        if start.elapsed() >= patience {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads the identity; `None` in a directory without one.
pub fn read_identity(files: &dyn FileLayer) -> Result<Option<Identity>> {
    let file = match files.open(IDENTITY_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(files, "open", IDENTITY_NAME, &error)),
    };
    let mut bytes = vec![0; IDENTITY_LEN + 1];
    let len = file.read_at(0, &mut bytes).map_err(|e| failed(files, "read", IDENTITY_NAME, &e))?;
    match Identity::decode(&bytes[..len]) {
        Ok(identity) => Ok(Some(identity)),
        Err(Refused::Version(version)) => {
            Err(other_version(format_args!("{}/{IDENTITY_NAME}", files.place()), version))
        }
        Err(Refused::Damaged) => Err(Error::new(
            ErrorCode::JournalCorrupt,
            format!("{}/{IDENTITY_NAME} at byte 0: not a valid identity file.", files.place()),
        )),
    }
}

/// The error of a file in another format.
pub fn other_version(place: impl std::fmt::Display, version: u32) -> Error {
    let which = if version > FORMAT_VERSION { "a newer" } else { "an older" };
    Error::new(
        ErrorCode::OtherVersion,
        format!("{place} has {which} format, version {version}; this is version {FORMAT_VERSION}."),
    )
}

/// Makes `identity` that of the directory, durably: from then on the directory is that store.
pub fn write_identity(files: &dyn FileLayer, identity: &Identity) -> Result<()> {
    let temporary = TEMPORARY_NAME;
    match files.remove(temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed(files, "unlink", temporary, &error));
        }
        _ => {}
    }
    kill_point!("store.identity.before_write");
    let file = files.create(temporary).map_err(|e| failed(files, "create", temporary, &e))?;
    file.write_at(0, &identity.encode()).map_err(|e| failed(files, "write", temporary, &e))?;
    file.sync().map_err(|e| failed(files, "fdatasync", temporary, &e))?;
    kill_point!("store.identity.before_rename");
    files.rename(temporary, IDENTITY_NAME).map_err(|e| failed(files, "rename", IDENTITY_NAME, &e))?;
    kill_point!("store.identity.renamed");
    files.sync_names().map_err(|e| failed(files, "fsync", IDENTITY_NAME, &e))
}

/// Takes the whole directory for this process alone, for tools that change it. The kernel lets go when `files` is dropped.
pub fn enter_for_tools(files: &dyn FileLayer) -> Result<()> {
    for byte in [OPENING, IN_USE] {
        if !lock_within(files, byte, LockMode::Exclusive, PATIENCE)? {
            return Err(Error::new(
                ErrorCode::Busy,
                format!("A living process has the store in {} open.", files.place()),
            ));
        }
    }
    Ok(())
}

/// Names in the directory that are neither files of a store nor what it leaves behind while it works.
pub fn foreign_names(files: &dyn FileLayer) -> Result<Vec<String>> {
    let names = files.names().map_err(|e| Error::io("readdir", files.place(), &e))?;
    let ours = |name: &str| {
        FileName::parse(name).is_some()
            || name.ends_with(ASIDE)
            || feed::is_unfinished(name)
            || [IDENTITY_NAME, LOCK_NAME, TEMPORARY_NAME, feed::NAME, "lost+found"].contains(&name)
    };
    Ok(names.into_iter().filter(|name| !ours(name)).collect())
}

/// The store in memory, as the opener knows it.
pub struct Claimant<'a> {
    pub owner: Owner,
    pub name: &'a str,
    pub fabric: [u8; 16],
    /// The store's uuid where the object in memory already has one; else none is known yet.
    pub store: Option<[u8; 16]>,
    /// The uuid that a new store gets.
    pub fresh: [u8; 16],
}

/// Takes a share of the directory for this process and returns the store's uuid.
///
/// Refused with `NotAStore`: a directory of another store, of another version, with files that are not ours and no
/// identity, without the files of a store that is in memory, or with files that are newer than that memory. Refused with `Busy`: one that a living process of
/// another fabric has open.
pub fn enter(files: &dyn FileLayer, claimant: &Claimant<'_>) -> Result<[u8; 16]> {
    // The usual case needs no exclusion of openers: with a share of the directory nobody can take it away, so what is read
    // then stays. A process that is stopped while it opens the store keeps nobody of its fabric out.
    if files.lock(IN_USE, LockMode::Shared).map_err(|e| failed(files, "lock", LOCK_NAME, &e))? {
        match read_identity(files) {
            Ok(Some(found)) if found.fabric == claimant.fabric => {
                if let Err(error) = is_that_store(files, &found, claimant) {
                    let _ = files.lock(IN_USE, LockMode::Free);
                    return Err(error);
                }
                return Ok(found.store);
            }
            // Of another fabric, none, or damaged: the careful way says what.
            _ => files.lock(IN_USE, LockMode::Free).map_err(|e| failed(files, "lock", LOCK_NAME, &e))?,
        };
    }
    if !lock_within(files, OPENING, LockMode::Exclusive, PATIENCE)? {
        return Err(Error::new(ErrorCode::Busy, format!("Another process is opening {}.", files.place())));
    }
    let result = enter_alone(files, claimant);
    if result.is_err() {
        let _ = files.lock(IN_USE, LockMode::Free);
    }
    let _ = files.lock(OPENING, LockMode::Free);
    result
}

/// Refuses a directory of another store, and one that holds other files and is none. Takes nothing.
pub fn refuse_foreign(files: &dyn FileLayer, owner: Owner, name: &str) -> Result<()> {
    match read_identity(files)? {
        Some(found) => is_that_store(
            files,
            &found,
            &Claimant { owner, name, fabric: [0; 16], store: None, fresh: [0; 16] },
        ),
        None => refuse_foreign_names(files, owner),
    }
}

fn refuse_foreign_names(files: &dyn FileLayer, owner: Owner) -> Result<()> {
    let names = files.names().map_err(|e| Error::io("readdir", files.place(), &e))?;
    let foreign =
        names.iter().find(|name| ![LOCK_NAME, TEMPORARY_NAME, "lost+found"].contains(&name.as_str()));
    match foreign {
        None => Ok(()),
        Some(foreign) => Err(Error::new(
            ErrorCode::NotAStore,
            format!("{} is not empty and not a {}: it holds `{foreign}`.", files.place(), owner.noun()),
        )),
    }
}

fn is_that_store(files: &dyn FileLayer, found: &Identity, claimant: &Claimant<'_>) -> Result<()> {
    if found.owner == claimant.owner
        && found.name == claimant.name
        && claimant.store.is_none_or(|store| store == found.store)
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::NotAStore,
        format!(
            "{} belongs to the {} `{}` with id {}.",
            files.place(),
            found.owner.noun(),
            found.name,
            uuid::Uuid::from_bytes(found.store)
        ),
    ))
}

fn enter_alone(files: &dyn FileLayer, claimant: &Claimant<'_>) -> Result<[u8; 16]> {
    let noun = claimant.owner.noun();
    let identity = read_identity(files)?;
    if let Some(found) = &identity {
        is_that_store(files, found, claimant)?;
        if found.fabric == claimant.fabric {
            // Shared against shared never conflicts; an opener of another fabric is excluded by the opening byte.
            if !lock_within(files, IN_USE, LockMode::Shared, PATIENCE)? {
                return Err(Error::new(
                    ErrorCode::Busy,
                    format!("Another fabric has {} open.", files.place()),
                ));
            }
            return Ok(found.store);
        }
        // Another fabric has held the store since ours did: our memory would be flushed over files that are newer.
        if claimant.store.is_some() {
            return Err(Error::new(
                ErrorCode::NotAStore,
                format!(
                    "Another fabric has opened the {noun} in {} since: what this fabric holds of it is out of date. \
                     Use that fabric, or remove this one: the {noun} recovers from its files.",
                    files.place()
                ),
            ));
        }
    } else {
        if claimant.store.is_some() {
            return Err(Error::new(
                ErrorCode::NotAStore,
                format!(
                    "{} does not hold the files of the {noun} `{}` any more.",
                    files.place(),
                    claimant.name
                ),
            ));
        }
        refuse_foreign_names(files, claimant.owner)?;
    }
    // Ours from now on, if nobody of the fabric that it names holds it.
    if !lock_within(files, IN_USE, LockMode::Exclusive, PATIENCE)? {
        return Err(Error::new(
            ErrorCode::Busy,
            format!("A living process of another fabric has the {noun} in {} open.", files.place()),
        ));
    }
    kill_point!("store.identity.locked");
    // Whoever reads the files later knows by this that a manifest is missing, and not that there never was one.
    let (store, manifest) = match &identity {
        Some(found) => {
            (found.store, survey(files, &found.store)?.manifest.map_or(0, |manifest| manifest.term))
        }
        None => (claimant.fresh, 0),
    };
    let mine = Identity {
        store,
        fabric: claimant.fabric,
        owner: claimant.owner,
        manifest,
        name: claimant.name.to_owned(),
    };
    write_identity(files, &mine)?;
    if !files.lock(IN_USE, LockMode::Shared).map_err(|e| failed(files, "lock", LOCK_NAME, &e))? {
        return Err(Error::new(ErrorCode::Busy, format!("Another fabric has {} open.", files.place())));
    }
    Ok(store)
}
