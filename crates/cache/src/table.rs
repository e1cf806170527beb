//! Where the entries of the cache are: found by their keys, in the order in which they were last used.

use bytemuck::{Pod, Zeroable};
use std::hash::{DefaultHasher, Hasher};

use crate::chain::{Block, Blocks, Chain, FreeBlocks, blocks_for};
use crate::policy::{Life, Moment};

/// What is kept of one key.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Entry {
    hash: u64,
    /// A number that is another one each time that what is kept was changed, in this or any other entry.
    pub(crate) generation: u64,
    /// When the value was asked for.
    pub(crate) asked: u64,
    /// When the value came.
    pub(crate) answered: u64,
    /// When the value ends by itself; 0 if it does not.
    pub(crate) ends: u64,
    /// When the value was last wanted.
    pub(crate) used: u64,
    /// How often it was given out.
    pub(crate) hits: u64,
    /// When the request that is under way was sent, or 0.
    pub(crate) flight_began: u64,
    /// When the request is given up.
    pub(crate) flight_until: u64,
    /// When the last request failed; 0 if none has since one succeeded.
    pub(crate) failed: u64,
    /// For how long that one had been tried.
    pub(crate) failed_patience: u64,
    /// For how long that one had waited for a connection.
    pub(crate) failed_connect_patience: u64,
    /// How often that one had been tried.
    pub(crate) failed_attempts: u64,
    /// When the request is to be tried again, if the other side could not be reached.
    pub(crate) retry: u64,
    /// Before that, a doubted value is not asked for again.
    pub(crate) recheck: u64,
    /// The key's bytes.
    pub(crate) key: Chain,
    /// Sealed. Empty if there is none.
    pub(crate) value: Chain,
    /// Version id, ARN and name of the value.
    pub(crate) about: Chain,
    /// Why the last request failed.
    pub(crate) error: Chain,
    /// Who asks.
    pub(crate) flight_owner: i32,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// How often in a row a doubted value turned out to be the current one.
    pub(crate) confirmations: u32,
    /// Whether the last failure was that nobody could be asked.
    pub(crate) unreachable: u32,
    is_used: u32,
    next_in_bucket: u32,
    newer: u32,
    older: u32,
}

impl Entry {
    /// When the value was asked for and when it ends, for the rules of its age.
    pub(crate) fn life(&self) -> Life {
        Life { asked: Moment(self.asked), ends: (self.ends != 0).then_some(Moment(self.ends)) }
    }
}

/// What is known of the whole.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Header {
    /// The last generation given out.
    generation: u64,
    /// Entries that were used and given back, linked by `older`.
    free: u32,
    /// How many entries were ever used.
    touched: u32,
    newest: u32,
    oldest: u32,
}

/// The place of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// The entries, in memory that was all zeros at first. Numbers in it count from 1; 0 is none.
pub(crate) struct Table<'a> {
    header: &'a mut Header,
    buckets: &'a mut [u32],
    entries: &'a mut [Entry],
    blocks: Blocks<'a>,
}

/// Bytes of memory for which there is one entry: a secret with its name and ARN takes some 700.
const BYTES_FOR_AN_ENTRY: usize = 1024;

impl<'a> Table<'a> {
    /// The table in this memory. `None` if there is too little for one entry.
    pub(crate) fn over(memory: &'a mut [u64]) -> Option<Table<'a>> {
        let count = size_of_val(memory) / BYTES_FOR_AN_ENTRY;
        let (header, rest) = split::<Header>(memory, 1)?;
        let (free, rest) = split::<FreeBlocks>(rest, 1)?;
        let (buckets, rest) = split::<u32>(rest, count.next_multiple_of(2))?;
        let (entries, rest) = split::<Entry>(rest, count)?;
        let blocks = size_of_val(rest) / size_of::<Block>();
        let (blocks, _) = split::<Block>(rest, blocks)?;
        let blocks = Blocks { free: free.first_mut()?, blocks };
        (count > 0).then_some(Table { header: header.first_mut()?, buckets, entries, blocks })
    }

    /// The entry at a place.
    pub(crate) fn at(&mut self, place: Place) -> &mut Entry {
        &mut self.entries[place.0 as usize - 1]
    }

    /// An entry, to look at.
    pub(crate) fn peek(&self, place: Place) -> &Entry {
        &self.entries[place.0 as usize - 1]
    }

    /// The byte strings.
    pub(crate) fn blocks(&self) -> &Blocks<'a> {
        &self.blocks
    }

    /// Where the entry of this key is.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Place> {
        let hash = hash(key);
        let mut next = self.buckets[self.bucket(hash)];
        while next != 0 {
            let entry = self.peek(Place(next));
            if entry.hash == hash && self.blocks.equal(entry.key, key) {
                return Some(Place(next));
            }
            next = entry.next_in_bucket;
        }
        None
    }

    /// A new entry for a key that has none, which may push out those that were not used for longest. `None`
    /// if there is no room for it even so.
    pub(crate) fn insert(&mut self, key: &[u8]) -> Option<Place> {
        let chain = self.keep(key, None)?;
        let place = self.free_entry()?;
        let (hash, generation) = (hash(key), self.next_generation());
        let bucket = self.bucket(hash);
        let next_in_bucket = std::mem::replace(&mut self.buckets[bucket], place.0);
        *self.at(place) =
            Entry { hash, generation, key: chain, is_used: 1, next_in_bucket, ..Entry::default() };
        self.link(place);
        Some(place)
    }

    fn free_entry(&mut self) -> Option<Place> {
        if self.header.free == 0 && (self.header.touched as usize) < self.entries.len() {
            self.header.touched += 1;
            return Some(Place(self.header.touched));
        }
        if self.header.free == 0 {
            self.remove(self.oldest(None)?);
        }
        let place = Place(self.header.free);
        self.header.free = self.peek(place).older;
        Some(place)
    }

    /// Wipes an entry.
    pub(crate) fn remove(&mut self, place: Place) {
        let Entry { hash, next_in_bucket, .. } = *self.peek(place);
        self.unlink(place);
        let bucket = self.bucket(hash);
        if self.buckets[bucket] == place.0 {
            self.buckets[bucket] = next_in_bucket;
        } else {
            let mut before = self.buckets[bucket];
            while before != 0 && self.peek(Place(before)).next_in_bucket != place.0 {
                before = self.peek(Place(before)).next_in_bucket;
            }
            if before != 0 {
                self.at(Place(before)).next_in_bucket = next_in_bucket;
            }
        }
        self.set_key(place, Chain::default());
        self.set_value(place, Chain::default());
        self.set_about(place, Chain::default());
        self.set_error(place, Chain::default());
        *self.at(place) = Entry { older: self.header.free, ..Entry::default() };
        self.header.free = place.0;
    }

    /// Keeps bytes for the entry at `for_whom`, which may push out others. `None` if there is no room for
    /// them even so.
    pub(crate) fn keep(&mut self, bytes: &[u8], for_whom: Option<Place>) -> Option<Chain> {
        // Not at the price of all others, if it is in vain.
        let own = for_whom.map_or(0, |place| {
            let Entry { key, value, about, error, .. } = self.peek(place);
            [key, value, about, error].map(|chain| blocks_for(chain.len())).iter().sum()
        });
        if own + blocks_for(bytes.len()) > self.blocks.len() {
            return None;
        }
        while self.blocks.available() < blocks_for(bytes.len()) {
            self.remove(self.oldest(for_whom)?);
        }
        self.blocks.keep(bytes)
    }

    /// The entry that was not used for longest, but for one.
    fn oldest(&self, but: Option<Place>) -> Option<Place> {
        self.places_from_oldest().find(|place| Some(*place) != but)
    }

    fn places_from_oldest(&self) -> impl Iterator<Item = Place> {
        let mut next = self.header.oldest;
        std::iter::from_fn(move || {
            let place = (next != 0).then_some(Place(next))?;
            next = self.peek(place).newer;
            Some(place)
        })
    }

    /// All entries, those used last at the end.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.places_from_oldest().collect()
    }

    /// Notes that an entry was used.
    pub(crate) fn touch(&mut self, place: Place) {
        if self.header.newest != place.0 {
            self.unlink(place);
            self.link(place);
        }
    }

    fn link(&mut self, place: Place) {
        let newest = std::mem::replace(&mut self.header.newest, place.0);
        let entry = self.at(place);
        (entry.older, entry.newer) = (newest, 0);
        match newest {
            0 => self.header.oldest = place.0,
            newest => self.at(Place(newest)).newer = place.0,
        }
    }

    fn unlink(&mut self, place: Place) {
        let Entry { newer, older, .. } = *self.peek(place);
        match newer {
            0 => self.header.newest = older,
            newer => self.at(Place(newer)).older = older,
        }
        match older {
            0 => self.header.oldest = newer,
            older => self.at(Place(older)).newer = newer,
        }
    }

    fn set_key(&mut self, place: Place, chain: Chain) {
        let mut old = std::mem::replace(&mut self.at(place).key, chain);
        self.blocks.wipe(&mut old);
    }

    /// Puts a value in place of the one that was there.
    pub(crate) fn set_value(&mut self, place: Place, chain: Chain) {
        let mut old = std::mem::replace(&mut self.at(place).value, chain);
        self.blocks.wipe(&mut old);
    }

    /// Keeps what is known of the value, in place of what was known.
    pub(crate) fn set_about(&mut self, place: Place, chain: Chain) {
        let mut old = std::mem::replace(&mut self.at(place).about, chain);
        self.blocks.wipe(&mut old);
    }

    /// Keeps an error, in place of the one before.
    pub(crate) fn set_error(&mut self, place: Place, chain: Chain) {
        let mut old = std::mem::replace(&mut self.at(place).error, chain);
        self.blocks.wipe(&mut old);
    }

    /// A number that no entry has had yet.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.header.generation += 1;
        self.header.generation
    }

    /// The last generation that was given out: it has changed if anything that is kept has.
    pub(crate) fn generation(&self) -> u64 {
        self.header.generation
    }

    fn bucket(&self, hash: u64) -> usize {
        (hash % self.buckets.len() as u64) as usize
    }
}

/// The first `count` of `T` in this memory, and the rest.
fn split<T: Pod>(memory: &mut [u64], count: usize) -> Option<(&mut [T], &mut [u64])> {
    let words = (count * size_of::<T>()).div_ceil(size_of::<u64>());
    let (first, rest) = memory.split_at_mut_checked(words)?;
    let first = bytemuck::try_cast_slice_mut::<u64, T>(first).ok()?;
    Some((first, rest))
}

/// A key's hash, which is equal in every process: one library is mapped by all.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &Table<'_>) -> Vec<String> {
        let key = |place| String::from_utf8(table.blocks().read(table.peek(place).key)).unwrap();
        table.places().into_iter().map(key).collect()
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut memory = vec![0; 4 * BYTES_FOR_AN_ENTRY / 8];
        let mut table = Table::over(&mut memory).unwrap();
        for key in ["a", "b", "c", "d"] {
            table.insert(key.as_bytes()).unwrap();
        }
        table.touch(table.find(b"a").unwrap());
        table.insert(b"e").unwrap();
        assert_eq!(keys(&table), ["c", "d", "a", "e"]);
        table.remove(table.find(b"d").unwrap());
        assert_eq!(table.find(b"d"), None);
        table.insert(b"f").unwrap();
        assert_eq!(keys(&table), ["c", "a", "e", "f"]);
        // What would not fit even so pushes out nobody.
        let total = table.blocks.len();
        assert_eq!(table.keep(&vec![1; total * 124 + 1], None), None);
        assert_eq!(table.keep(&vec![1; total * 124], table.find(b"c")), None);
        assert_eq!(keys(&table), ["c", "a", "e", "f"]);
        // A value that needs room pushes out the others, but not its own entry.
        let c = table.find(b"c").unwrap();
        let most = table.blocks.available() + 3;
        let chain = table.keep(&vec![1; most * 124], Some(c)).unwrap();
        table.set_value(c, chain);
        assert_eq!(keys(&table), ["c"]);
        assert_eq!(table.keep(&[1], Some(c)), None, "there is no more to push out");
        table.remove(c);
        assert_eq!(keys(&table), [""; 0]);
        let words = memory.iter().filter(|word| **word != 0).count();
        assert!(words < 60, "{words} words are left: the links of free entries and blocks");
    }

    #[test]
    fn many_keys() {
        let mut memory = vec![0; 64 * 1024 / 8];
        let mut table = Table::over(&mut memory).unwrap();
        for round in 0..10_000_u32 {
            let key = (round * 7919 % 100).to_string();
            match table.find(key.as_bytes()) {
                Some(place) if round % 3 == 0 => table.remove(place),
                Some(place) => table.touch(place),
                None => drop(table.insert(key.as_bytes()).unwrap()),
            }
            assert!(keys(&table).len() <= 64);
        }
        let (mut all, count) = (keys(&table), table.places().len());
        assert!(all.iter().all(|key| table.find(key.as_bytes()).is_some()));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn too_little_memory() {
        assert!(Table::over(&mut []).is_none());
        assert!(Table::over(&mut [0; 100]).is_none());
    }
}
