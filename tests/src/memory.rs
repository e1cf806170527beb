//! Searching the memory of a process for what must not be there.

use crate::process::Process;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Where a pattern was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryHit {
    /// The address in the process.
    pub address: u64,
    /// The name of the mapping, for example `[heap]`, `[stack]`, a file, or nothing.
    pub mapping: String,
}

/// How much is read at once.
const CHUNK: usize = 1 << 20;

impl Process {
    /// Find every occurrence of `pattern` in the readable memory of the process. Needs root, or to
    /// be an ancestor of the process under the same user.
    pub fn find_in_memory(self, pattern: &[u8]) -> Vec<MemoryHit> {
        assert!(!pattern.is_empty(), "nothing to search for");
        let maps = fs::read_to_string(self.file("maps"))
            .unwrap_or_else(|e| panic!("cannot see the memory of process {}: {e}", self.pid()));
        let memory = File::open(self.file("mem"))
            .unwrap_or_else(|e| panic!("cannot read the memory of process {}: {e}", self.pid()));
        let mut hits = Vec::new();
        for mapping in maps.lines().filter_map(Mapping::parse) {
            mapping.search(&memory, pattern, &mut hits);
        }
        hits
    }
}

struct Mapping<'a> {
    start: u64,
    end: u64,
    name: &'a str,
}

impl<'a> Mapping<'a> {
    /// A line such as `55d0…-55d1… rw-p 00000000 00:00 0    [heap]`, if its memory can be read.
    fn parse(line: &'a str) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let (word, after) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
            rest = after;
            word
        };
        let range = word();
        let permissions = word();
        for _offset_device_inode in 0..3 {
            word();
        }
        let name = rest.trim();
        // The kernel's own pages: no process can put anything there.
        let of_the_kernel = name.starts_with("[vvar") || name == "[vsyscall]";
        if !permissions.starts_with('r') || of_the_kernel {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(Self { start: address(start)?, end: address(end)?, name })
    }

    fn search(&self, memory: &File, pattern: &[u8], hits: &mut Vec<MemoryHit>) {
        // Each chunk repeats the end of the one before, for a pattern that lies across the border.
        let overlap = pattern.len() - 1;
        let mut buffer = vec![0; CHUNK + overlap];
        let mut at = self.start;
        while at < self.end {
            let wanted = buffer.len().min(usize::try_from(self.end - at).expect("a 64-bit machine"));
            // A page can be beyond the end of its file, or gone since `maps` was read: skip it.
            let read = memory.read_at(&mut buffer[..wanted], at).unwrap_or(0);
            if read == 0 {
                at = (at / 4096 + 1) * 4096;
                continue;
            }
            for offset in offsets(&buffer[..read], pattern) {
                hits.push(MemoryHit { address: at + offset as u64, mapping: self.name.to_owned() });
            }
            if at + read as u64 >= self.end {
                break;
            }
            at += read.saturating_sub(overlap).max(1) as u64;
        }
    }
}

/// Where `pattern` begins in `memory`. Looks for its first byte alone first: fast even unoptimised.
fn offsets(memory: &[u8], pattern: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(step) = find_byte(&memory[from..], pattern[0]) {
        let at = from + step;
        if memory[at..].starts_with(pattern) {
            found.push(at);
        }
        from = at + 1;
    }
    found
}

fn find_byte(memory: &[u8], byte: u8) -> Option<usize> {
    // SAFETY: memchr reads at most `len` bytes from a slice that has as many.
    let found = unsafe { libc::memchr(memory.as_ptr().cast(), i32::from(byte), memory.len()) };
    (!found.is_null()).then(|| found as usize - memory.as_ptr() as usize)
}
