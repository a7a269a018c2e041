//! The hash tree of the convergence certificate: one hash over all records of a side, in whatever order they are met.
//!
//! A record goes to one of 256 leaves by a hash of its Keap id. A leaf counts its records and adds up, modulo 2^128, one
//! hash of (Keap id, canonical hash of the record) for each; the root is a hash over the leaves. Sums make the tree
//! independent of order and mergeable, and unlike exclusive or they show a record that was met twice.
//!
//! Invariants: the same records give the same tree in any order and in any number of merged parts; trees that differ in
//! one record differ in that record's leaf, so a comparison that finds different roots looks again at the records of the
//! [`HashTree::differing_leaves`] alone.
//!
//! **Bound.** Take two sides of at most n records that differ. Their roots are equal only if the canonical hashes of two
//! versions of one record collide (n chances of 2^-128), if different sums come out alike (256 chances of 2^-128), or if
//! the root's own hash collides (one chance of 2^-128): less than (n + 257) · 2^-128, which is 2^-98 for a billion
//! records. That holds for mistakes, which know nothing of the hash. It is no defence against somebody who makes up records
//! so that their sums collide: 128-bit sums of freely chosen hashes can be steered. Both sides of a sync belong to one owner.
//!
//! What it does not do: tell which records differ. It says where to look.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Leaves of a tree: as many as one byte tells apart.
pub const LEAVES: usize = 256;

/// Bytes of a sum, and of the root: 128 bits.
const SUM_BYTES: usize = 16;

/// Longest form of a tree: the number of leaves, then per leaf a count of at most ten bytes and a sum.
const BYTES_MAX: usize = 2 + LEAVES * (10 + SUM_BYTES);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Leaf {
    /// Records; wraps, as the sum does.
    records: u64,
    /// Their hashes' sum modulo 2^128.
    sum: u128,
}

/// Order-independent hash over the records of one side. As JSON it is one text of at most 9 kB: about 6 kB when each leaf
/// has records, 350 bytes when none has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashTree {
    leaves: Box<[Leaf; LEAVES]>,
}

impl Default for HashTree {
    fn default() -> Self {
        Self { leaves: Box::new([Leaf::default(); LEAVES]) }
    }
}

/// Why a text is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no hash tree of {LEAVES} leaves: compare both sides from the beginning")]
pub struct InvalidTree;

impl HashTree {
    /// A tree of no records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The leaf of a record.
    #[must_use]
    pub fn leaf_of(keap_id: &str) -> u8 {
        let digest = Sha256::digest(keap_id.as_bytes());
        digest.first().copied().unwrap_or_default()
    }

    /// Adds a record by its Keap id and [canonical hash](crate::canonical::record_hash). Twice adds it twice.
    pub fn insert(&mut self, keap_id: &str, record_hash: &str) {
        let mut digest = Sha256::new();
        // The length keeps an id from running into the hash behind it.
        digest.update((keap_id.len() as u64).to_be_bytes());
        digest.update(keap_id.as_bytes());
        digest.update(record_hash.as_bytes());
        if let Some(leaf) = self.leaves.get_mut(usize::from(Self::leaf_of(keap_id))) {
            leaf.records = leaf.records.wrapping_add(1);
            leaf.sum = leaf.sum.wrapping_add(first_bytes(&digest.finalize()));
        }
    }

    /// Adds the records of another tree: the result is that of inserting all of both.
    pub fn merge(&mut self, other: &Self) {
        for (leaf, added) in self.leaves.iter_mut().zip(other.leaves.iter()) {
            leaf.records = leaf.records.wrapping_add(added.records);
            leaf.sum = leaf.sum.wrapping_add(added.sum);
        }
    }

    /// How many records were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.leaves.iter().fold(0, |count, leaf| count.wrapping_add(leaf.records))
    }

    /// The hash of all: 32 hexadecimal digits.
    #[must_use]
    pub fn root(&self) -> String {
        let mut digest = Sha256::new();
        for leaf in self.leaves.iter() {
            digest.update(leaf.records.to_be_bytes());
            digest.update(leaf.sum.to_be_bytes());
        }
        hex::encode(first_bytes(&digest.finalize()).to_be_bytes())
    }

    /// The leaves in which both trees differ, in order: the records to look at again are those whose [`Self::leaf_of`] is
    /// among them.
    #[must_use]
    pub fn differing_leaves(&self, other: &Self) -> Vec<u8> {
        (0..=u8::MAX)
            .zip(self.leaves.iter().zip(other.leaves.iter()))
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(number, _)| number)
            .collect()
    }

    fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(BYTES_MAX);
        bytes.extend(u16::try_from(LEAVES).unwrap_or_default().to_be_bytes());
        for leaf in self.leaves.iter() {
            write_count(&mut bytes, leaf.records);
            if leaf.records != 0 {
                bytes.extend(leaf.sum.to_be_bytes());
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn from_text(text: &str) -> Result<Self, InvalidTree> {
        if text.len() > BYTES_MAX * 2 {
            return Err(InvalidTree);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidTree)?;
        let (leaves, mut rest) = bytes.split_first_chunk::<2>().ok_or(InvalidTree)?;
        if usize::from(u16::from_be_bytes(*leaves)) != LEAVES {
            return Err(InvalidTree);
        }
        let mut tree = Self::default();
        for leaf in tree.leaves.iter_mut() {
            leaf.records = read_count(&mut rest).ok_or(InvalidTree)?;
            if leaf.records != 0 {
                let (sum, behind) = rest.split_first_chunk::<SUM_BYTES>().ok_or(InvalidTree)?;
                (leaf.sum, rest) = (u128::from_be_bytes(*sum), behind);
            }
        }
        if rest.is_empty() { Ok(tree) } else { Err(InvalidTree) }
    }
}

impl Serialize for HashTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for HashTree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).map_err(serde::de::Error::custom)
    }
}

fn first_bytes(digest: &[u8]) -> u128 {
    digest.first_chunk::<SUM_BYTES>().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

/// Seven bits to the byte, the lowest first; the highest bit says that more follow.
fn write_count(bytes: &mut Vec<u8>, mut count: u64) {
    loop {
        let low = count.to_le_bytes().first().copied().unwrap_or_default() & 0x7f;
        count >>= 7;
        if count == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn read_count(bytes: &mut &[u8]) -> Option<u64> {
    let mut count = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        count |= part << shift;
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(records: &[(u16, u8)]) -> HashTree {
        let mut tree = HashTree::new();
        for (id, version) in records {
            tree.insert(&id.to_string(), &format!("{version:032x}"));
        }
        tree
    }

    #[test]
    fn a_record_that_was_met_twice_shows() {
        let once = tree(&[(7, 1)]);
        let twice = tree(&[(7, 1), (7, 1)]);
        let thrice = tree(&[(7, 1), (7, 1), (7, 1)]);
        assert_eq!(once.differing_leaves(&twice), [HashTree::leaf_of("7")]);
        // Exclusive or would make one and three alike, and none and two.
        assert_ne!(once.root(), thrice.root());
        assert_ne!(twice.root(), HashTree::new().root());
        assert_eq!(thrice.count(), 3);
    }

    #[test]
    fn ids_do_not_run_into_hashes() {
        let (mut left, mut right) = (HashTree::new(), HashTree::new());
        // Two pairs with one text that fall into one leaf would otherwise be the same.
        for number in 0..1_000_u32 {
            let id = number.to_string();
            let (start, end) = id.split_at(1);
            if HashTree::leaf_of(&id) == HashTree::leaf_of(start) {
                left.insert(&id, "");
                right.insert(start, end);
            }
        }
        assert!(left.count() > 0);
        assert_ne!(left.root(), right.root());
    }

    #[test]
    fn the_root_is_the_same_in_every_version() {
        assert_eq!(HashTree::new().root(), "fd9243e1ba57263ed469c3bdbd7ade6e");
        assert_eq!(tree(&[(1, 1), (2, 2), (300, 3)]).root(), "bb4b8080181c8aaf0d347f6ccd24c901");
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let text = tree(&[(1, 1)]).to_text();
        for broken in
            ["", "AQA", &text[..text.len() - 2], &format!("{text}AAAA"), &text.replacen("AQ", "AA", 1), "??"]
        {
            assert_eq!(HashTree::from_text(broken), Err(InvalidTree), "{broken}");
        }
        assert!(serde_json::from_str::<HashTree>("\"x\"").is_err());
    }

    #[test]
    fn a_full_tree_is_small() {
        let records: Vec<(u16, u8)> = (0..20_000).map(|id| (id, 0)).collect();
        let length = tree(&records).to_text().len();
        assert!((5_000..7_000).contains(&length), "{length}");
        assert!(HashTree::new().to_text().len() < 360);
    }

    #[test]
    fn records_spread_over_all_leaves() {
        let records: Vec<(u16, u8)> = (0..20_000).map(|id| (id, 0)).collect();
        assert_eq!(tree(&records).differing_leaves(&HashTree::new()).len(), LEAVES);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            (records, shuffled) in prop::collection::vec(any::<(u16, u8)>(), 0..60)
                .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        ) {
            prop_assert_eq!(tree(&records), tree(&shuffled));
        }

        #[test]
        fn merging_is_inserting_all(left in prop::collection::vec(any::<(u16, u8)>(), 0..40), right in prop::collection::vec(any::<(u16, u8)>(), 0..40)) {
            let mut merged = tree(&left);
            merged.merge(&tree(&right));
            prop_assert_eq!(merged, tree(&[left, right].concat()));
        }

        /// One record more, one less, or another version of one: the root moves, and so does that record's leaf alone.
        #[test]
        fn any_single_change_moves_the_root(
            records in prop::collection::btree_map(any::<u16>(), any::<u8>(), 1..60), at in any::<prop::sample::Index>(), version in any::<u8>(), added in any::<(u16, u8)>(),
        ) {
            let records: Vec<(u16, u8)> = records.into_iter().collect();
            let before = tree(&records);
            let at = at.index(records.len());
            let mut less = records.clone();
            let (id, _) = less.remove(at);
            let mut more = records.clone();
            more.push(added);
            let mut changes = vec![(less, id), (more, added.0)];
            if records[at].1 != version {
                let mut changed = records.clone();
                changed[at].1 = version;
                changes.push((changed, id));
            }
            for (changed, id) in changes {
                let after = tree(&changed);
                prop_assert_ne!(after.root(), before.root());
                prop_assert_eq!(after.differing_leaves(&before), vec![HashTree::leaf_of(&id.to_string())]);
            }
        }

        #[test]
        fn json_gives_the_tree_back(records in prop::collection::vec(any::<(u16, u8)>(), 0..300)) {
            let tree = tree(&records);
            let json = serde_json::to_string(&tree).unwrap();
            prop_assert_eq!(serde_json::from_str::<HashTree>(&json).unwrap(), tree);
        }

        #[test]
        fn counts_of_any_size_come_back(count in any::<u64>()) {
            let mut bytes = Vec::new();
            write_count(&mut bytes, count);
            prop_assert_eq!(read_count(&mut bytes.as_slice()), Some(count));
        }
    }
}
