//! Words in a file that the processes of a test share: what one stored stays when it is killed.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

/// A mapped file of zeros, and of what was stored in it.
pub struct Words {
    map: memmap2::MmapRaw,
}

impl Words {
    /// Makes the file, with holes for zeros.
    pub fn create(path: &Path, bytes: u64) {
        let file = std::fs::File::create_new(path).expect("a new file");
        file.write_all_at(&[0], bytes - 1).expect("a long file with holes");
    }

    /// Maps a file that was made before.
    pub fn open(path: &Path) -> Words {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("made before");
        Words { map: memmap2::MmapOptions::new().map_raw(&file).expect("mapped") }
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// The word at a byte.
    pub fn at(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.bytes());
        // SAFETY: within the mapping, which lives as long as `self`, aligned, and never accessed but as an atomic.
        unsafe { &*self.map.as_mut_ptr().add(at as usize).cast::<AtomicU64>() }
    }
}
