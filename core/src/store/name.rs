//! A key that a transaction remembers: short ones stand in place, so that they cost no allocation.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Deref;

/// Bytes of a key that stand in place.
const SHORT: usize = 22;

/// A key. It compares as its bytes do.
pub enum Name {
    Short { len: u8, bytes: [u8; SHORT] },
    Long(Box<[u8]>),
}

const _: () = assert!(size_of::<Name>() == 24);

impl From<&[u8]> for Name {
    fn from(key: &[u8]) -> Name {
        if key.len() > SHORT {
            return Name::Long(key.into());
        }
        let mut bytes = [0; SHORT];
        bytes[..key.len()].copy_from_slice(key);
        Name::Short { len: key.len() as u8, bytes }
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Name::Short { len, bytes } => &bytes[..usize::from(*len)],
            Name::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        (**self).cmp(&**other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_bytes_of_the_key_and_compares_as_they_do() {
        let all: Vec<Vec<u8>> = (0..64).map(|len| vec![b'k'; len]).chain([vec![b'z'], vec![0; 23]]).collect();
        for one in &all {
            let name = Name::from(one.as_slice());
            assert_eq!(&*name, one.as_slice());
            for other in &all {
                assert_eq!(name.cmp(&Name::from(other.as_slice())), one.cmp(other), "{one:?} {other:?}");
            }
        }
    }
}
