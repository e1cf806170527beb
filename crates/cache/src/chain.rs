//! Byte strings in a fixed number of small blocks.

use bytemuck::{Pod, Zeroable};
use zeroize::Zeroize;

/// Bytes of a block, of which 128 make a cache line or two.
const BYTES: usize = 124;

/// A piece of a byte string.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Block {
    /// The next block, counted from 1; 0 after the last.
    next: u32,
    bytes: [u8; BYTES],
}

/// A byte string: its first block, counted from 1, and its length. All zeros is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Chain {
    first: u32,
    length: u32,
}

/// Which blocks are free. All zeros: all of them.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct FreeBlocks {
    /// The first block that was used and given back; 0 if there is none.
    first: u32,
    /// How many were ever used.
    touched: u32,
    /// How many are in use.
    in_use: u32,
    _unused: u32,
}

/// The blocks.
pub(crate) struct Blocks<'a> {
    /// Which blocks are not in use.
    pub(crate) free: &'a mut FreeBlocks,
    /// Every block, used or not.
    pub(crate) blocks: &'a mut [Block],
}

impl Chain {
    /// Whether the chain has no byte.
    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
    }

    /// How many bytes the chain has.
    pub(crate) fn len(self) -> usize {
        self.length as usize
    }
}

/// How many blocks so many bytes take.
pub(crate) fn blocks_for(bytes: usize) -> usize {
    bytes.div_ceil(BYTES)
}

impl Blocks<'_> {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// How many are free.
    pub(crate) fn available(&self) -> usize {
        self.blocks.len().saturating_sub(self.free.in_use as usize)
    }

    /// Keeps a copy of `bytes`. `None` if there is no room.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Option<Chain> {
        let length = u32::try_from(bytes.len()).ok()?;
        if blocks_for(bytes.len()) > self.available() {
            return None;
        }
        let mut chain = Chain { first: 0, length };
        // From the last piece to the first, so that each knows the next.
        for piece in bytes.chunks(BYTES).rev() {
            let number = self.take()?;
            let block = self.blocks.get_mut(number as usize - 1)?;
            block.bytes[..piece.len()].copy_from_slice(piece);
            block.next = chain.first;
            chain.first = number;
        }
        Some(chain)
    }

    fn take(&mut self) -> Option<u32> {
        let number = if self.free.first != 0 {
            let number = self.free.first;
            self.free.first = self.blocks.get(number as usize - 1)?.next;
            number
        } else {
            self.free.touched += 1;
            self.free.touched
        };
        self.free.in_use += 1;
        Some(number)
    }

    /// A copy of the bytes.
    pub(crate) fn read(&self, chain: Chain) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(chain.len());
        for piece in self.pieces(chain) {
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    /// Whether these are the bytes.
    pub(crate) fn equal(&self, chain: Chain, mut bytes: &[u8]) -> bool {
        chain.len() == bytes.len()
            && self.pieces(chain).all(|piece| match bytes.split_at_checked(piece.len()) {
                Some((same, rest)) => {
                    bytes = rest;
                    same == piece
                }
                None => false,
            })
    }

    fn pieces(&self, chain: Chain) -> impl Iterator<Item = &[u8]> {
        let (mut next, mut left) = (chain.first, chain.len());
        std::iter::from_fn(move || {
            let block = self.blocks.get((next as usize).checked_sub(1)?)?;
            let length = left.min(BYTES);
            (next, left) = (block.next, left - length);
            (length > 0).then(|| &block.bytes[..length])
        })
    }

    /// Wipes the bytes and gives the blocks back.
    pub(crate) fn wipe(&mut self, chain: &mut Chain) {
        let mut next = chain.first;
        for _ in 0..blocks_for(chain.len()) {
            let Some(block) = (next as usize).checked_sub(1).and_then(|i| self.blocks.get_mut(i)) else {
                break;
            };
            block.bytes.zeroize();
            let number = std::mem::replace(&mut next, block.next);
            block.next = std::mem::replace(&mut self.free.first, number);
            self.free.in_use -= 1;
        }
        *chain = Chain::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_read_and_wiped() {
        let (mut free, mut memory) = (FreeBlocks::default(), vec![Block::zeroed(); 10]);
        let mut blocks = Blocks { free: &mut free, blocks: &mut memory };
        let long: Vec<u8> = (0..=255).cycle().take(3 * BYTES + 1).collect();
        let mut kept: Vec<(Chain, Vec<u8>)> = Vec::new();
        for round in 0..50 {
            for bytes in [&b""[..], b"x", &long, &long[..BYTES], &long[..2 * BYTES]] {
                if let Some(chain) = blocks.keep(bytes) {
                    kept.push((chain, bytes.to_vec()));
                }
            }
            for (chain, bytes) in &kept {
                assert_eq!(&blocks.read(*chain), bytes);
                assert!(blocks.equal(*chain, bytes));
                assert!(!blocks.equal(*chain, b"y") && !blocks.equal(*chain, &[bytes, &b"z"[..]].concat()));
            }
            assert!(blocks.available() < 3);
            // Every other one, and in another order each time.
            for _ in 0..kept.len() / 2 {
                let (mut chain, _) = kept.remove((round * 7) % kept.len());
                blocks.wipe(&mut chain);
                assert!(chain.is_empty());
            }
        }
        for (mut chain, _) in kept {
            blocks.wipe(&mut chain);
        }
        assert_eq!(blocks.available(), 10);
        assert!(memory.iter().all(|block| block.bytes == [0; BYTES]), "nothing of it is left");
    }
}
