//! How a fabric is opened or created.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{FINGERPRINT, Fabric};
use crate::error::{Error, ErrorCode, Result};
use crate::limits::FABRIC_LIMIT_DEFAULT;
use crate::segment::home::{self, Home};
use crate::segment::{self, Backend, Geometry, Identity};

/// Whether opening may create, or must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// Open it, or create it where there is none.
    #[default]
    OpenOrCreate,
    /// Create it; `AlreadyExists` if there is one.
    CreateNew,
    /// Open it; `NotFound` if there is none.
    OpenOnly,
}

/// How a fabric is opened or created.
///
/// ```no_run
/// use memora::FabricOptions;
/// let fabric = FabricOptions::new().limit(1 << 30).mode(0o660).group(2000).open("orders")?;
/// # Ok::<(), memora::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct FabricOptions {
    limit: Option<u64>,
    mode: Option<u32>,
    group: Option<u32>,
    home: Option<PathBuf>,
    backend: Backend,
    read_only: bool,
    create: Create,
}

/// The name of a POSIX shared memory object, without the slash.
pub fn posix_name(name: &str) -> String {
    format!("memora.{}.{name}", nix::unistd::geteuid())
}

impl FabricOptions {
    /// The defaults: open or create a file in the default home, 256 MiB, mode 0600.
    pub fn new() -> FabricOptions {
        FabricOptions::default()
    }

    /// Bytes of memory that a new fabric may take, tables included: 1 MiB to 1 TiB. An existing one keeps its own.
    pub fn limit(mut self, bytes: u64) -> FabricOptions {
        self.limit = Some(bytes);
        self
    }

    /// Permissions of a new fabric: 0600 unless given, 0660 to share it with a group. Never for everybody.
    pub fn mode(mut self, mode: u32) -> FabricOptions {
        self.mode = Some(mode);
        self
    }

    /// The group of a new fabric.
    pub fn group(mut self, group: u32) -> FabricOptions {
        self.group = Some(group);
        self
    }

    /// The directory: `$MEMORA_HOME`, else `/dev/shm/memora-<uid>`, unless given.
    pub fn home(mut self, home: impl Into<PathBuf>) -> FabricOptions {
        self.home = Some(home.into());
        self
    }

    /// Where the bytes live.
    pub fn backend(mut self, backend: Backend) -> FabricOptions {
        self.backend = backend;
        self
    }

    /// Attaches by a read-only mapping: reading caches and looking around work, everything else answers `ReadOnly`.
    pub fn read_only(mut self, read_only: bool) -> FabricOptions {
        self.read_only = read_only;
        self
    }

    /// Whether opening may create, or must.
    pub fn create(mut self, create: Create) -> FabricOptions {
        self.create = create;
        self
    }

    /// Opens or creates the fabric `name`: 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`, not starting with `.`.
    ///
    /// Safe against other openers and creators, also against such that are killed: there is one fabric, and nobody sees it
    /// half made.
    pub fn open(&self, name: &str) -> Result<Fabric> {
        home::check_name(name)?;
        let mode = self.mode.unwrap_or(0o600);
        segment::check_mode(mode)?;
        let limit = self.limit.unwrap_or(FABRIC_LIMIT_DEFAULT);
        let geometry = Geometry::for_limit(limit)?;
        let create = if self.read_only { Create::OpenOnly } else { self.create };
        match self.backend {
            Backend::Heap => {
                return Fabric::attach(
                    name,
                    segment::create_heap(&geometry, &Identity::new(mode), FINGERPRINT)?,
                );
            }
            Backend::Memfd => {
                return Fabric::attach(
                    name,
                    segment::create_memfd(&geometry, &Identity::new(mode), FINGERPRINT)?,
                );
            }
            Backend::File | Backend::Posix | Backend::SysV => {}
        }
        let (home, file) = match self.backend {
            Backend::Posix => (Home::posix()?, posix_name(name)),
            backend => {
                let path = self.home.clone().unwrap_or_else(home::default_home);
                let home =
                    Home::open(&path, create != Create::OpenOnly).map_err(|error| match error.code() {
                        ErrorCode::NotFound => Error::new(
                            ErrorCode::NotFound,
                            format!("There is no fabric `{name}`: {} does not exist.", path.display()),
                        ),
                        _ => error,
                    })?;
                (home, format!("{name}.{}", if backend == Backend::SysV { "sysv" } else { "fabric" }))
            }
        };
        // Another creator may be faster, or the fabric be removed, between looking and acting: then look again.
        for _ in 0..16 {
            if create != Create::CreateNew {
                let attach = match create {
                    Create::OpenOnly => segment::attach_file,
                    _ => segment::attach_or_clear,
                };
                match attach(&home, &file, self.backend, self.read_only, FINGERPRINT) {
                    Ok(segment) => return Fabric::attach(name, segment),
                    Err(error) if error.code() == ErrorCode::NotFound => {
                        if create == Create::OpenOnly {
                            return Err(Error::new(
                                ErrorCode::NotFound,
                                format!("There is no fabric `{name}` in {}.", home.path().display()),
                            ));
                        }
                        // A System V segment that is gone leaves the file that names it.
                        if self.backend == Backend::SysV && home.join(&file).exists() {
                            home.remove(&file)?;
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            segment::sweep(&home)?;
            let identity = Identity::new(mode);
            match segment::create_file(
                &home,
                &file,
                self.backend,
                &geometry,
                &identity,
                self.group,
                FINGERPRINT,
            ) {
                Ok(()) => {
                    return Fabric::attach(
                        name,
                        segment::attach_file(&home, &file, self.backend, false, FINGERPRINT)?,
                    );
                }
                Err(error) if error.code() == ErrorCode::AlreadyExists && create == Create::CreateNew => {
                    return Err(Error::new(
                        ErrorCode::AlreadyExists,
                        format!("The fabric `{name}` exists already in {}.", home.path().display()),
                    ));
                }
                // Taken by another creator, or our private file was swept: look again.
                Err(error) if matches!(error.code(), ErrorCode::AlreadyExists | ErrorCode::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorCode::Busy,
            format!("The fabric `{name}` is being created and removed all the time."),
        ))
    }

    /// Attaches the fabric in a memory file that another process handed over.
    pub fn open_fd(&self, file: OwnedFd) -> Result<Fabric> {
        Fabric::attach("memfd", segment::attach_memfd(file, self.read_only, FINGERPRINT)?)
    }
}
