//! Which statements gave little the last time.

/// What a result has to have, in bytes, to be worth a round trip that asks for its types first.
const SMALL: usize = 64 * 1024;

/// How many statements are remembered, at most.
const PLACES: usize = 256;

/// The fingerprints of statements whose last result was small. A hint and no more: of two statements
/// that share a place the later one is remembered.
pub(crate) struct SmallResults(Box<[u64; PLACES]>);

impl SmallResults {
    /// An account of no results so far.
    pub(crate) fn new() -> SmallResults {
        SmallResults(Box::new([0; PLACES]))
    }

    /// Whether the statement's last result was small.
    pub(crate) fn contain(&self, fingerprint: u64) -> bool {
        self.0[place(fingerprint)] == fingerprint
    }

    /// The statement's result had so many bytes.
    pub(crate) fn note(&mut self, fingerprint: u64, bytes: usize) {
        let place = &mut self.0[place(fingerprint)];
        if bytes < SMALL {
            *place = fingerprint;
        } else if *place == fingerprint {
            *place = 0;
        }
    }
}

fn place(fingerprint: u64) -> usize {
    fingerprint as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_result_counts() {
        let mut small = SmallResults::new();
        assert!(!small.contain(7));
        small.note(7, 100);
        assert!(small.contain(7));
        small.note(7, SMALL);
        assert!(!small.contain(7));
        small.note(7, 0);
        small.note(7 + PLACES as u64, SMALL);
        assert!(small.contain(7), "another one's large result is not its");
        small.note(7 + PLACES as u64, 0);
        assert!(!small.contain(7), "the later one is remembered");
    }
}
