//! Opening what a command works on.

use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use memora::{Create, ErrorCode, Fabric, FabricOptions};

use crate::cli::Global;
use crate::output::Failure;

/// Where and how fabrics are opened.
#[derive(Debug)]
pub struct Place {
    pub home: Option<PathBuf>,
    pub fabric: String,
    pub limit: Option<u64>,
}

impl Place {
    pub fn new(global: &Global) -> Place {
        Place { home: global.home.clone(), fabric: global.fabric.clone(), limit: global.limit }
    }

    fn options(&self) -> FabricOptions {
        let mut options = FabricOptions::new();
        if let Some(home) = &self.home {
            options = options.home(home.clone());
        }
        if let Some(limit) = self.limit {
            options = options.limit(limit);
        }
        options
    }

    /// The fabric, made if there is none.
    pub fn open_or_create(&self) -> Result<Fabric, Failure> {
        Ok(self.options().create(Create::OpenOrCreate).open(&self.fabric)?)
    }

    /// The fabric, which must exist.
    pub fn open(&self) -> Result<Fabric, Failure> {
        Ok(self.options().create(Create::OpenOnly).open(&self.fabric)?)
    }

    /// The fabric, which must exist and have an object of this name.
    pub fn open_existing(&self, object: &str) -> Result<Fabric, Failure> {
        let fabric = self.open()?;
        match fabric.objects()?.iter().any(|found| found.name == object) {
            true => Ok(fabric),
            false => Err(self.no_object(object)),
        }
    }

    /// The error of a name that nothing has.
    pub fn no_object(&self, object: &str) -> Failure {
        let what = format!("The fabric `{}` has nothing named `{object}`.", self.fabric);
        Failure::Memora(memora::Error::new(ErrorCode::NotFound, what))
    }

    /// A fabric that must exist, to look at: where we may not write it, by a mapping that cannot.
    pub fn open_to_look(&self, name: &str) -> Result<Fabric, Failure> {
        let options = FabricOptions::new().create(Create::OpenOnly);
        let options = match &self.home {
            Some(home) => options.home(home.clone()),
            None => options,
        };
        match options.open(name) {
            Err(error) if error.code() == ErrorCode::PermissionDenied => {
                Ok(options.read_only(true).open(name)?)
            }
            other => Ok(other?),
        }
    }
}

/// A value from the command line, or from standard input where it is `-`.
pub fn value(argument: std::ffi::OsString) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(argument.into_vec());
    }
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).map_err(|error| Failure::Io("standard input", error))?;
    Ok(value)
}
