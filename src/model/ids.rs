//! The ids that a range brought so far, to know those that come twice.

use std::collections::HashSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ids that are known for certain. A range is smaller, unless the service lets it not be cut; then an
/// id that comes again more than so many assets later is not recognised, and the counts disagree.
pub const IDS_MAX: usize = 1 << 18;

/// Hashes of ids, 64 bits each. Among a quarter of a million the chance that two are equal by accident
/// is one in five hundred million.
///
/// Memory is bounded: beyond [`IDS_MAX`] the oldest are forgotten, half at a time. Written as Base64
/// of the hashes, 8 bytes each, little-endian, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Ids {
    /// Takes `id` in. `false`: it is known.
    pub fn insert(&mut self, id: u64) -> bool {
        if self.old.contains(&id) {
            return false;
        }
        if self.young.len() == IDS_MAX / 2 && !self.young.contains(&id) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id)
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted: Vec<u64> = self.young.iter().chain(&self.old).copied().collect();
        sorted.sort_unstable();
        let bytes: Vec<u8> = sorted.into_iter().flat_map(u64::to_le_bytes).collect();
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("ids are not Base64"))?;
        let (hashes, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(serde::de::Error::custom("an id is cut off"));
        }
        let mut ids = Self::default();
        for hash in hashes {
            ids.insert(u64::from_le_bytes(*hash));
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_from_their_text() {
        let mut ids = Ids::default();
        for id in [7, u64::MAX, 0, 7] {
            ids.insert(id);
        }
        let text = serde_json::to_string(&ids).expect("JSON");
        assert_eq!(text, r#""AAAAAAAAAAAHAAAAAAAAAP//////////""#);
        let mut back: Ids = serde_json::from_str(&text).expect("ids");
        assert_eq!(back, ids);
        assert!(!back.insert(7) && back.insert(8));
        assert!(serde_json::from_str::<Ids>(r#""AAAA""#).is_err());
        assert!(serde_json::from_str::<Ids>(r#""?""#).is_err());
    }

    #[test]
    fn the_newest_are_known_and_memory_ends() {
        let mut ids = Ids::default();
        let n_ids = 3 * IDS_MAX as u64;
        for id in 0..n_ids {
            assert!(ids.insert(id));
            assert!(!ids.insert(id), "just seen");
        }
        assert!(ids.len() <= IDS_MAX);
        assert!(!ids.insert(n_ids - IDS_MAX as u64 / 2), "still known");
    }
}
