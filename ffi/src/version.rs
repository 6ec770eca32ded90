//! Versions of the library and of its interface.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

/// Version of the header: major. Compare with memora_version() to learn which library is running.
pub const MEMORA_VERSION_MAJOR: u32 = 0;
/// Version of the header: minor.
pub const MEMORA_VERSION_MINOR: u32 = 1;
/// Version of the header: patch.
pub const MEMORA_VERSION_PATCH: u32 = 0;
/// Number of the binary interface that this header describes: the number in the soname of the library.
pub const MEMORA_ABI_VERSION: u32 = 0;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("a version has no NUL"),
};

/// The version of the running library, as "major.minor.patch".
///
/// The text is constant: never free it. Safe from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn memora_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The number of the running library's binary interface. A program that loads the library by itself (dlopen) compares
/// it with MEMORA_ABI_VERSION first; for linked programs the soname has done so.
#[unsafe(no_mangle)]
pub extern "C" fn memora_abi_version() -> u32 {
    MEMORA_ABI_VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macros_agree_with_the_package() {
        let macros = format!("{MEMORA_VERSION_MAJOR}.{MEMORA_VERSION_MINOR}.{MEMORA_VERSION_PATCH}");
        assert_eq!(VERSION.to_str(), Ok(macros.as_str()));
        assert!(include_str!("../build.rs").contains(&format!("libmemora.so.{MEMORA_ABI_VERSION}\"")));
    }
}
