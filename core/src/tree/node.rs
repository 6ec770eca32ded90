//! A node: its bytes, read and made anew.
//!
//! ```text
//!  0 level    u8   0 for a leaf          1 flags u8: 1 = dead, 2 = has a low bound, 4 = has a high bound,
//!                                              8 = dead for good
//!  2 count    u16  entries               4 length of the low bound u16    6 of the high bound u16
//!  8 prefix   u16  length of what all keys begin with                    10 zeros
//! 16 right    u64  reference to the next node of the level, 0 = none
//! 24 pending  u64  reference to the dead node whose keys were taken over last and which may not be free yet, 0 = none
//! 32 heads    count x u64  the first 8 bytes of each key behind the prefix, filled up with zeros, as a number
//!    places   count x {u16 where the rest stands in the heap, u16 length of the key behind the prefix}
//!             filled up to 8 bytes with zeros
//!    refs     count x u64  inner nodes only: the child whose keys begin with this one
//!    heap     low bound, high bound, prefix, then what the keys have behind their heads, in any order
//! ```
//! A node holds the keys from its low bound on, below its high bound. The first entry of an inner node has an empty key,
//! which stands for the low bound; the prefix is that of the others.
//!
//! What is read here was copied before; still any bytes may stand there, and lead to an error, not further.

use std::cmp::Ordering;

use super::layout::Ref;

/// Bytes in front of the heads.
pub const HEADER: usize = 32;
/// A node that would be longer is divided, if it has two entries. With the header of its record it takes 1 KiB.
pub const NODE_BYTES: usize = if cfg!(memora_loom) { 72 } else { 1024 - 32 };

const DEAD: u8 = 1;
const HAS_LOW: u8 = 2;
const HAS_HIGH: u8 = 4;
const FOR_GOOD: u8 = 8;

/// Bytes that an entry takes beside its key.
const HEAD_BYTES: usize = 8;
const PLACE_BYTES: usize = 4;

/// The content of a node is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

type Sound<T> = Result<T, Damaged>;

/// A node, copied.
#[derive(Clone, Debug, Default)]
pub struct Node {
    bytes: Vec<u8>,
    level: u8,
    flags: u8,
    count: usize,
    low_len: usize,
    high_len: usize,
    prefix_len: usize,
    places: usize,
    refs: usize,
    heap: usize,
}

/// What a node is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub level: u8,
    pub low: Option<Vec<u8>>,
    pub high: Option<Vec<u8>>,
    pub right: Ref,
    pub pending: Ref,
    pub keys: Vec<Vec<u8>>,
    /// As many as keys in an inner node, none in a leaf.
    pub refs: Vec<Ref>,
}

/// The first 8 bytes as a number, filled up with zeros.
#[inline]
fn head_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(head)
        }
    }
}

#[inline]
fn rest_of(bytes: &[u8]) -> &[u8] {
    bytes.get(HEAD_BYTES..).unwrap_or_default()
}

const fn places_bytes(count: usize) -> usize {
    (count * PLACE_BYTES).next_multiple_of(8)
}

impl Node {
    /// Understands the bytes of a node.
    pub fn parse(bytes: Vec<u8>) -> Sound<Node> {
        let u16_at = |at: usize| -> Sound<usize> {
            let field = bytes.get(at..at + 2).and_then(|field| field.first_chunk::<2>()).ok_or(Damaged)?;
            Ok(u16::from_le_bytes(*field) as usize)
        };
        let count = u16_at(2)?;
        let (level, flags) = (bytes[0], bytes[1]);
        let places = HEADER + count * HEAD_BYTES;
        let refs = places + places_bytes(count);
        let heap = refs + if level == 0 { 0 } else { count * 8 };
        let node = Node {
            level,
            flags,
            count,
            low_len: u16_at(4)?,
            high_len: u16_at(6)?,
            prefix_len: u16_at(8)?,
            places,
            refs,
            heap,
            bytes,
        };
        let fixed = heap + node.low_len + node.high_len + node.prefix_len;
        if fixed > node.bytes.len() || (level != 0 && count == 0) || level > 32 {
            return Err(Damaged);
        }
        Ok(node)
    }

    /// The buffer, to be used again.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn level(&self) -> u8 {
        self.level
    }

    pub fn is_leaf(&self) -> bool {
        self.level == 0
    }

    /// Whether its keys were, or are to be, taken over by the next node.
    pub fn is_dead(&self) -> bool {
        self.flags & DEAD != 0
    }

    /// Whether it is dead for good: the next node may take over its keys.
    pub fn is_dead_for_good(&self) -> bool {
        self.flags & (DEAD | FOR_GOOD) == DEAD | FOR_GOOD
    }

    pub fn count(&self) -> usize {
        self.count
    }

    fn u64_at(&self, at: usize) -> u64 {
        self.bytes
            .get(at..at + 8)
            .and_then(|word| word.first_chunk())
            .map_or(0, |word| u64::from_le_bytes(*word))
    }

    pub fn right(&self) -> Ref {
        Ref(self.u64_at(16))
    }

    pub fn pending(&self) -> Ref {
        Ref(self.u64_at(24))
    }

    fn heap_part(&self, at: usize, len: usize) -> &[u8] {
        self.bytes.get(self.heap + at..self.heap + at + len).unwrap_or_default()
    }

    /// The least key that may be here; `None` where the level begins.
    #[inline]
    pub fn low(&self) -> Option<&[u8]> {
        (self.flags & HAS_LOW != 0).then(|| self.heap_part(0, self.low_len))
    }

    /// The least key that is not here but to the right; `None` where the level ends.
    #[inline]
    pub fn high(&self) -> Option<&[u8]> {
        (self.flags & HAS_HIGH != 0).then(|| self.heap_part(self.low_len, self.high_len))
    }

    fn prefix(&self) -> &[u8] {
        self.heap_part(self.low_len + self.high_len, self.prefix_len)
    }

    #[inline]
    fn head(&self, at: usize) -> u64 {
        self.u64_at(HEADER + at * HEAD_BYTES)
    }

    /// Where the rest of a key stands in the heap, and its length behind the prefix.
    #[inline]
    fn place(&self, at: usize) -> Sound<(usize, usize)> {
        let start = self.places + at * PLACE_BYTES;
        let place = self.bytes.get(start..start + PLACE_BYTES).and_then(|place| place.first_chunk::<4>());
        let [a, b, c, d] = *place.ok_or(Damaged)?;
        Ok((u16::from_le_bytes([a, b]) as usize, u16::from_le_bytes([c, d]) as usize))
    }

    #[inline]
    fn rest(&self, at: usize) -> Sound<(&[u8], usize)> {
        let (start, len) = self.place(at)?;
        let rest = len.saturating_sub(HEAD_BYTES);
        Ok((self.bytes.get(self.heap + start..self.heap + start + rest).ok_or(Damaged)?, len))
    }

    /// The child at a place of an inner node.
    pub fn child(&self, at: usize) -> Sound<Ref> {
        if at >= self.count || self.is_leaf() {
            return Err(Damaged);
        }
        Ok(Ref(self.u64_at(self.refs + at * 8)))
    }

    /// The key at a place, put behind what is in `into`.
    pub fn key_into(&self, at: usize, into: &mut Vec<u8>) -> Sound<()> {
        let (rest, len) = self.rest(at)?;
        if at == 0 && !self.is_leaf() {
            return Ok(());
        }
        into.extend_from_slice(self.prefix());
        into.extend_from_slice(&self.head(at).to_be_bytes()[..len.min(HEAD_BYTES)]);
        into.extend_from_slice(rest);
        Ok(())
    }

    /// The key at a place.
    pub fn key(&self, at: usize) -> Sound<Vec<u8>> {
        let mut key = Vec::new();
        self.key_into(at, &mut key)?;
        Ok(key)
    }

    /// The first place whose key is not less than `key`, and whether it is this very key. The first entry of an inner node is
    /// less than every key.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Sound<(usize, bool)> {
        let first = usize::from(!self.is_leaf());
        let prefix = self.prefix();
        let shared = prefix.len().min(key.len());
        match key[..shared].cmp(&prefix[..shared]) {
            Ordering::Less => return Ok((first, false)),
            Ordering::Greater => return Ok((self.count, false)),
            Ordering::Equal if key.len() < prefix.len() => return Ok((first, false)),
            Ordering::Equal => {}
        }
        let wanted = &key[shared..];
        let head = head_of(wanted);
        let (mut low, mut high) = (first, self.count);
        while low < high {
            let middle = (low + high) / 2;
            let order = match self.head(middle).cmp(&head) {
                Ordering::Equal => {
                    let (rest, len) = self.rest(middle)?;
                    // Equal heads of which one was filled up: the shorter is the lesser.
                    if len <= HEAD_BYTES || wanted.len() <= HEAD_BYTES {
                        len.cmp(&wanted.len())
                    } else {
                        rest.cmp(rest_of(wanted))
                    }
                }
                order => order,
            };
            match order {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
        Ok((low, false))
    }

    /// All that it is made of.
    pub fn content(&self) -> Sound<Content> {
        Ok(Content {
            level: self.level,
            low: self.low().map(<[u8]>::to_vec),
            high: self.high().map(<[u8]>::to_vec),
            right: self.right(),
            pending: self.pending(),
            keys: (0..self.count).map(|at| self.key(at)).collect::<Sound<_>>()?,
            refs: if self.is_leaf() {
                Vec::new()
            } else {
                (0..self.count).map(|at| self.child(at)).collect::<Sound<_>>()?
            },
        })
    }

    fn with_word(&self, at: usize, word: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        bytes
    }

    /// The same, with another node to the right.
    pub fn with_right(&self, right: Ref) -> Vec<u8> {
        self.with_word(16, right.0)
    }

    /// The same, with another dead node that is pending.
    pub fn with_pending(&self, pending: Ref) -> Vec<u8> {
        self.with_word(24, pending.0)
    }

    fn with_flags(&self, flags: u8) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[1] = bytes[1] & !(DEAD | FOR_GOOD) | flags;
        bytes
    }

    /// The same, dead, but not for good.
    pub fn dead(&self) -> Vec<u8> {
        self.with_flags(DEAD)
    }

    /// The same, dead for good.
    pub fn dead_for_good(&self) -> Vec<u8> {
        self.with_flags(DEAD | FOR_GOOD)
    }

    /// The same, alive.
    pub fn alive(&self) -> Vec<u8> {
        self.with_flags(0)
    }

    /// Bytes that one more key takes at most.
    pub fn more(&self, key: &[u8]) -> usize {
        HEAD_BYTES
            + PLACE_BYTES
            + 4
            + rest_of(key.get(self.prefix_len..).unwrap_or(key)).len()
            + if self.is_leaf() { 0 } else { 8 }
    }

    /// The same with one more entry at a place, which [`Node::find`] gave; `child` only for inner nodes.
    pub fn with_entry(&self, at: usize, key: &[u8], child: Option<Ref>) -> Sound<Vec<u8>> {
        let first = usize::from(!self.is_leaf());
        let plain = self.count > first && key.starts_with(self.prefix());
        let suffix = key.get(self.prefix_len..).unwrap_or_default();
        let heap_len = self.bytes.len() - self.heap;
        if !plain || heap_len + suffix.len() > u16::MAX as usize || at > self.count {
            let mut content = self.content()?;
            content.keys.insert(at.min(self.count), key.to_vec());
            if let Some(child) = child {
                content.refs.insert(at.min(self.count), child);
            }
            return content.build(self.is_dead());
        }
        let count = self.count + 1;
        let mut bytes = Vec::with_capacity(self.bytes.len() + self.more(key));
        bytes.extend_from_slice(&self.bytes[..HEADER]);
        bytes[2..4].copy_from_slice(&(count as u16).to_le_bytes());
        let cut = HEADER + at * HEAD_BYTES;
        bytes.extend_from_slice(&self.bytes[HEADER..cut]);
        bytes.extend_from_slice(&head_of(suffix).to_le_bytes());
        bytes.extend_from_slice(&self.bytes[cut..self.places]);
        let (cut, end) = (self.places + at * PLACE_BYTES, self.places + self.count * PLACE_BYTES);
        bytes.extend_from_slice(&self.bytes[self.places..cut]);
        bytes.extend_from_slice(&(heap_len as u16).to_le_bytes());
        bytes.extend_from_slice(&(suffix.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.bytes[cut..end]);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        if let Some(child) = child {
            let cut = self.refs + at * 8;
            bytes.extend_from_slice(&self.bytes[self.refs..cut]);
            bytes.extend_from_slice(&child.0.to_le_bytes());
            bytes.extend_from_slice(&self.bytes[cut..self.heap]);
        }
        bytes.extend_from_slice(&self.bytes[self.heap..]);
        bytes.extend_from_slice(rest_of(suffix));
        Ok(bytes)
    }

    /// The same without the entry at a place.
    pub fn without_entry(&self, at: usize) -> Sound<Vec<u8>> {
        let mut content = self.content()?;
        if at >= content.keys.len() {
            return Err(Damaged);
        }
        content.keys.remove(at);
        if !self.is_leaf() {
            content.refs.remove(at);
        }
        content.build(self.is_dead())
    }
}

/// Length of what two keys begin with.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The shortest key that is greater than `low` and not greater than `high`, of which `low` is the lesser.
pub fn separator(low: &[u8], high: &[u8]) -> Vec<u8> {
    high[..(common(low, high) + 1).min(high.len())].to_vec()
}

impl Content {
    /// The bytes of the node.
    pub fn build(&self, dead: bool) -> Sound<Vec<u8>> {
        let first = usize::from(self.level != 0);
        let named = self.keys.get(first..).unwrap_or_default();
        let prefix = match (named.first(), named.last()) {
            (Some(one), Some(other)) => one[..common(one, other)].to_vec(),
            _ => Vec::new(),
        };
        let (low, high) = (self.low.as_deref(), self.high.as_deref());
        let count = self.keys.len();
        let mut heap = Vec::new();
        heap.extend_from_slice(low.unwrap_or_default());
        heap.extend_from_slice(high.unwrap_or_default());
        heap.extend_from_slice(&prefix);
        let mut bytes = vec![0; HEADER + count * HEAD_BYTES + places_bytes(count) + self.refs.len() * 8];
        let short = |len: usize| u16::try_from(len).map(u16::to_le_bytes).map_err(|_| Damaged);
        bytes[0] = self.level;
        bytes[1] =
            u8::from(dead) * DEAD + u8::from(low.is_some()) * HAS_LOW + u8::from(high.is_some()) * HAS_HIGH;
        bytes[2..4].copy_from_slice(&short(count)?);
        bytes[4..6].copy_from_slice(&short(low.map_or(0, <[u8]>::len))?);
        bytes[6..8].copy_from_slice(&short(high.map_or(0, <[u8]>::len))?);
        bytes[8..10].copy_from_slice(&short(prefix.len())?);
        bytes[16..24].copy_from_slice(&self.right.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.pending.0.to_le_bytes());
        let (places, refs) = (HEADER + count * HEAD_BYTES, HEADER + count * HEAD_BYTES + places_bytes(count));
        for (at, key) in self.keys.iter().enumerate() {
            let suffix = if at < first { &[][..] } else { key.get(prefix.len()..).ok_or(Damaged)? };
            bytes[HEADER + at * 8..][..8].copy_from_slice(&head_of(suffix).to_le_bytes());
            bytes[places + at * PLACE_BYTES..][..2].copy_from_slice(&short(heap.len())?);
            bytes[places + at * PLACE_BYTES + 2..][..2].copy_from_slice(&short(suffix.len())?);
            heap.extend_from_slice(rest_of(suffix));
        }
        for (at, child) in self.refs.iter().enumerate() {
            bytes[refs + at * 8..][..8].copy_from_slice(&child.0.to_le_bytes());
        }
        bytes.extend_from_slice(&heap);
        Ok(bytes)
    }

    /// Divides it before the entry at `at`, which becomes the first of the right half, at a key that separates both. The right
    /// half still needs to be named by the left one.
    pub fn divide(mut self, at: usize, separator: Vec<u8>) -> (Content, Content) {
        let keys = self.keys.split_off(at);
        let refs = if self.refs.is_empty() { Vec::new() } else { self.refs.split_off(at) };
        let mut right = Content {
            level: self.level,
            low: Some(separator.clone()),
            high: self.high.take(),
            right: self.right,
            pending: Ref::NONE,
            keys,
            refs,
        };
        if right.level != 0
            && let Some(first) = right.keys.first_mut()
        {
            first.clear();
        }
        self.high = Some(separator);
        (self, right)
    }

    /// What this node holds and what the next one, `right`, holds, as one node in the place of `right`.
    pub fn merge(self, mut right: Content) -> Content {
        let Content { low, mut keys, mut refs, .. } = self;
        if right.level != 0 {
            // The same child under the low bound of the right node.
            if refs.last() == right.refs.first() {
                right.keys.remove(0);
                right.refs.remove(0);
            } else if let Some(first) = right.keys.first_mut() {
                *first = right.low.take().unwrap_or_default();
            }
        }
        keys.append(&mut right.keys);
        refs.append(&mut right.refs);
        Content { low, keys, refs, ..right }
    }

    /// Replaces references to one child by those to another, and drops what is twice then. Whether there were any.
    pub fn replace_child(&mut self, old: Ref, new: Ref) -> bool {
        let mut any = false;
        for child in &mut self.refs {
            if *child == old {
                *child = new;
                any = true;
            }
        }
        let mut at = 1;
        while any && at < self.refs.len() {
            if self.refs[at] == new && self.refs[at - 1] == new {
                self.refs.remove(at);
                self.keys.remove(at);
            } else {
                at += 1;
            }
        }
        any
    }
}

#[cfg(all(test, not(memora_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf(keys: &[Vec<u8>]) -> Node {
        Node::parse(Content { keys: keys.to_vec(), ..Content::default() }.build(false).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn a_leaf_gives_back_its_keys_and_finds_each_place(
            keys in proptest::collection::btree_set(proptest::collection::vec(0u8..3, 0..20), 0..40),
            prefix in proptest::collection::vec(any::<u8>(), 0..12),
            probes in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..20), 0..20),
        ) {
            let add = |key: &Vec<u8>| [prefix.clone(), key.clone()].concat();
            let keys: Vec<Vec<u8>> = keys.iter().map(add).collect();
            let node = leaf(&keys);
            prop_assert_eq!(&node.content().unwrap().keys, &keys);
            for probe in probes.iter().map(add).chain(keys.iter().cloned()).chain([vec![], vec![255; 30]]) {
                let (place, found) = node.find(&probe).unwrap();
                prop_assert_eq!(found, keys.binary_search(&probe).is_ok());
                prop_assert_eq!(place, keys.partition_point(|key| *key < probe));
            }
        }

        #[test]
        fn entries_come_and_go(
            keys in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..20), 1..40),
            level in 0u8..2,
        ) {
            let mut model = std::collections::BTreeMap::new();
            let mut start = Content { level, low: Some(b"".to_vec()), high: Some(vec![9]), ..Content::default() };
            if level > 0 {
                (start.keys, start.refs) = (vec![vec![]], vec![Ref::new(7, 7)]);
            }
            let mut node = Node::parse(start.build(false).unwrap()).unwrap();
            for (number, key) in keys.iter().enumerate() {
                let child = Ref::new(number as u32, 1);
                let (at, found) = node.find(key).unwrap();
                let bytes = if found {
                    model.remove(key);
                    node.without_entry(at)
                } else {
                    model.insert(key.clone(), child);
                    node.with_entry(at, key, (level > 0).then_some(child))
                };
                node = Node::parse(bytes.unwrap()).unwrap();
                let content = node.content().unwrap();
                let first = usize::from(level > 0);
                prop_assert_eq!(content.keys[first..].to_vec(), model.keys().cloned().collect::<Vec<_>>());
                if level > 0 {
                    prop_assert_eq!(content.refs[1..].to_vec(), model.values().copied().collect::<Vec<_>>());
                }
                prop_assert_eq!((node.low(), node.high()), (Some(&b""[..]), Some(&[9u8][..])));
            }
        }

        #[test]
        fn any_bytes_give_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(node) = Node::parse(bytes) {
                let _ = node.find(b"some key");
                let _ = node.content();
                let _ = node.with_entry(node.count(), b"some key", Some(Ref::new(1, 1)));
                let _ = node.child(0);
            }
        }

        #[test]
        fn a_separator_lies_between(one in proptest::collection::vec(0u8..3, 0..9), other in proptest::collection::vec(0u8..3, 0..9)) {
            if one != other {
                let (low, high) = if one < other { (one, other) } else { (other, one) };
                let between = separator(&low, &high);
                prop_assert!(low < between && between <= high, "{:?} {:?} {:?}", low, between, high);
            }
        }
    }

    #[test]
    fn halves_become_whole_again() {
        let keys: Vec<Vec<u8>> = (0..9u8).map(|number| vec![b'k', number]).collect();
        let whole = Content { keys, high: Some(b"z".to_vec()), right: Ref::new(3, 3), ..Content::default() };
        let (left, right) = whole.clone().divide(4, vec![b'k', 4]);
        assert_eq!((left.keys.len(), right.keys.len()), (4, 5));
        assert_eq!(left.high, right.low);
        assert_eq!(left.merge(right), whole);
        let children = |from: u32| (from..from + 3).map(|id| Ref::new(id, 1)).collect::<Vec<_>>();
        let inner = Content {
            level: 1,
            keys: vec![vec![], b"b".to_vec(), b"c".to_vec()],
            refs: children(5),
            ..Content::default()
        };
        let (left, right) = inner.clone().divide(1, b"b".to_vec());
        assert_eq!(right.keys[0], b"");
        assert_eq!(left.merge(right), inner);
        let mut replaced = inner;
        assert!(replaced.replace_child(Ref::new(5, 1), Ref::new(6, 1)));
        assert_eq!((replaced.keys, replaced.refs), (vec![vec![], b"c".to_vec()], children(6)[..2].to_vec()));
    }
}
