//! Traces of requests: a little-endian `u32` a request, the id of the object that it asks for; plain or compressed by zstd.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;

const REQUEST_BYTES: usize = size_of::<u32>();
/// How a zstd frame begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn invalid(problem: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_string())
}

/// The ids that `file` asks for, in order. Whether it is compressed shows in its first bytes, not in its name.
pub fn read(file: &Path) -> io::Result<Vec<u32>> {
    let mut bytes = Vec::new();
    File::open(file)?.read_to_end(&mut bytes)?;
    if bytes.starts_with(&ZSTD_MAGIC) {
        bytes = decompress(&bytes)?;
    } else if file.extension().is_some_and(|extension| extension == "zst") {
        return Err(invalid("it is not compressed by zstd, as its name says"));
    }
    requests(&bytes)
}

/// All frames of a compressed file.
fn decompress(mut compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !compressed.is_empty() {
        let mut frame = StreamingDecoder::new(&mut compressed)
            .map_err(|error| invalid(format_args!("it is not whole: {error}")))?;
        frame.read_to_end(&mut bytes).map_err(|error| invalid(format_args!("it is not whole: {error}")))?;
    }
    Ok(bytes)
}

fn requests(bytes: &[u8]) -> io::Result<Vec<u32>> {
    let (requests, rest) = bytes.as_chunks::<REQUEST_BYTES>();
    if !rest.is_empty() {
        return Err(invalid(format_args!(
            "it has {} bytes, and a trace has {REQUEST_BYTES} a request: it is cut off, or something else",
            bytes.len()
        )));
    }
    if requests.is_empty() {
        return Err(invalid("it has no requests"));
    }
    Ok(requests.iter().map(|id| u32::from_le_bytes(*id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| id.to_le_bytes()).collect()
    }

    #[test]
    fn plain_and_compressed_traces_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<u32> = (0..5000).map(|place| place % 700).collect();
        let plain = folder.path().join("a.u32");
        std::fs::write(&plain, bytes(&ids)).unwrap();
        let compressed = folder.path().join("a.u32.zst");
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let (first, second) = ids.split_at(1234);
        let frames = [first, second].map(|part| ruzstd::encoding::compress_to_vec(&bytes(part)[..], level));
        std::fs::write(&compressed, frames.concat()).unwrap();
        assert_eq!(read(&plain).unwrap(), ids);
        assert_eq!(read(&compressed).unwrap(), ids);
    }

    #[test]
    fn what_is_no_trace_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let mut cut = ruzstd::encoding::compress_to_vec(&bytes(&[1; 1000])[..], level);
        cut.truncate(cut.len() - 3);
        for (name, content, problem) in [
            ("odd.u32", vec![0; 7], "has 7 bytes"),
            ("empty.u32", vec![], "no requests"),
            ("plain.u32.zst", vec![0; 8], "not compressed"),
            ("cut.u32.zst", cut, "not whole"),
            ("magic.u32.zst", ZSTD_MAGIC.to_vec(), "not whole"),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, content).unwrap();
            let error = read(&file).unwrap_err();
            assert!(error.to_string().contains(problem), "{name}: {error}");
        }
        assert_eq!(read(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
