//! What people see of a fabric.

use std::path::{Path, PathBuf};

use super::directory::ObjectKind;
use super::{Backend, Create, Fabric, FabricOptions};
use crate::chunk::Kind;
use crate::error::{Error, ErrorCode, Result};
use crate::registry::ProcessInfo;
use crate::segment::home;
use crate::signal::SignalKind;

/// A fabric in a list.
#[derive(Clone, Debug)]
pub struct FabricInfo {
    /// Its name.
    pub name: String,
    /// What stands for it in the file system, where it has a name.
    pub path: Option<PathBuf>,
    /// Where its bytes live.
    pub backend: Backend,
    /// Bytes that it may take.
    pub limit: u64,
    /// Its id, as text.
    pub uuid: String,
    /// Layout of its bytes.
    pub layout_version: u32,
    /// Milliseconds since 1970 at which it was made.
    pub created_ms: u64,
    /// Its creator's user.
    pub uid: u32,
    /// Its permissions.
    pub mode: u32,
    /// Attached processes, dead ones that nobody reaped yet included.
    pub processes: u32,
    /// Named objects.
    pub objects: u32,
    /// Why it cannot be opened, if so; the figures are then 0.
    pub problem: Option<Error>,
}

/// An object of a fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its number in the fabric.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Which kind of signal, if it is one that is not damaged.
    pub signal: Option<SignalKind>,
    /// Chunks that it holds.
    pub chunks: u64,
    /// Bytes of these chunks.
    pub bytes: u64,
}

impl ObjectInfo {
    /// The name of its kind in listings; of a signal: of which kind it is.
    pub fn kind_name(&self) -> &'static str {
        self.signal.map_or(self.kind.name(), SignalKind::name)
    }
}

/// Figures of a fabric.
#[derive(Clone, Debug)]
pub struct FabricStat {
    /// What it is.
    pub info: FabricInfo,
    /// Bytes of a chunk.
    pub chunk_bytes: u64,
    /// Chunks that can be handed out.
    pub chunks: u64,
    /// Chunks in use.
    pub chunks_used: u64,
    /// Bytes that are reserved, tables included: what the fabric takes of the host's memory.
    pub reserved_bytes: u64,
    /// Threads that were reaped in the fabric's life.
    pub reaped_threads: u64,
    /// Attached processes.
    pub processes: Vec<ProcessInfo>,
}

pub(super) fn list(home: Option<&Path>) -> Result<Vec<FabricInfo>> {
    let path = home.map_or_else(home::default_home, PathBuf::from);
    let mut infos = Vec::new();
    let mut add = |name: &str, backend: Backend, file: PathBuf| {
        let options =
            FabricOptions::new().home(&path).backend(backend).read_only(true).create(Create::OpenOnly);
        infos.push(options.open(name).and_then(|fabric| fabric.info()).unwrap_or_else(|problem| {
            FabricInfo {
                name: name.to_owned(),
                path: Some(file),
                backend,
                limit: 0,
                uuid: String::new(),
                layout_version: 0,
                created_ms: 0,
                uid: 0,
                mode: 0,
                processes: 0,
                objects: 0,
                problem: Some(problem),
            }
        }));
    };
    if path.exists() {
        let home = home::Home::open(&path, false)?;
        for file in home.files()? {
            if let Some(name) = file.strip_suffix(".fabric") {
                add(name, Backend::File, home.join(&file));
            } else if let Some(name) = file.strip_suffix(".sysv") {
                add(name, Backend::SysV, home.join(&file));
            }
        }
    }
    if let Ok(posix) = home::Home::posix() {
        let prefix = super::options::posix_name("");
        for file in posix.files()? {
            if let Some(name) = file.strip_prefix(&prefix) {
                add(name, Backend::Posix, posix.join(&file));
            }
        }
    }
    infos.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(infos)
}

impl Fabric {
    /// What it is.
    pub fn info(&self) -> Result<FabricInfo> {
        let inner = &self.inner;
        inner.registry.enter()?;
        let identity = inner.segment.identity();
        Ok(FabricInfo {
            name: inner.name.clone(),
            path: self.path().map(Path::to_owned),
            backend: inner.segment.backend(),
            limit: inner.segment.geometry().limit,
            uuid: uuid::Uuid::from_u128(identity.uuid).to_string(),
            layout_version: crate::segment::layout::LAYOUT_VERSION,
            created_ms: identity.created_ms,
            uid: identity.creator_uid,
            mode: identity.mode,
            processes: inner.registry.processes()?.len() as u32,
            objects: inner.directory.objects(&inner.pool)?.len() as u32,
            problem: None,
        })
    }

    /// Its named objects.
    pub fn objects(&self) -> Result<Vec<ObjectInfo>> {
        let inner = &self.inner;
        inner.registry.enter()?;
        let objects = inner.directory.objects(&inner.pool)?;
        let held = inner.pool.chunks_by_object()?;
        Ok(objects
            .into_iter()
            .map(|object| {
                let chunks = held.get(&object.id).copied().unwrap_or(0);
                ObjectInfo {
                    id: object.id,
                    signal: Some(&object)
                        .filter(|object| object.kind == ObjectKind::Signal)
                        .and_then(|object| super::signals::kind_of(object).ok()),
                    name: object.name,
                    kind: object.kind,
                    chunks,
                    bytes: chunks * inner.pool.geometry().chunk_bytes,
                }
            })
            .collect())
    }

    /// Figures.
    pub fn stat(&self) -> Result<FabricStat> {
        let inner = &self.inner;
        let info = self.info()?;
        let (mut used, mut reserved) = (0, 0);
        for chunk in inner.pool.used_chunks() {
            let state = inner.pool.state(chunk)?;
            reserved += u64::from(!state.is(Kind::Virgin));
            used += u64::from(!state.is(Kind::Virgin) && !state.is(Kind::Free));
        }
        let chunk_bytes = inner.pool.geometry().chunk_bytes;
        // ORDER Relaxed: a counter.
        let reaped = inner.segment.reaped().load(crate::shm::atomic::Ordering::Relaxed);
        Ok(FabricStat {
            info,
            chunk_bytes,
            chunks: u64::from(inner.pool.geometry().chunk_count - 1),
            chunks_used: used,
            reserved_bytes: inner.segment.geometry().table_bytes() + reserved * chunk_bytes,
            reaped_threads: reaped,
            processes: inner.registry.processes()?,
        })
    }

    /// The object's kind, if there is one of that name.
    pub fn object_kind(&self, name: &str) -> Result<ObjectKind> {
        self.inner.registry.enter()?;
        match self.inner.directory.find(&self.inner.pool, name)? {
            Some(object) => Ok(object.kind),
            None => Err(Error::new(ErrorCode::NotFound, format!("There is no object `{name}`."))),
        }
    }
}
