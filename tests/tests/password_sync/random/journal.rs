//! What happened to each secret, for the reader who has to find out why it is wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

pub struct Journal {
    began: Instant,
    entries: Mutex<BTreeMap<String, Vec<String>>>,
}

/// Enough to see how a secret came into its state.
const SHOWN: usize = 80;

impl Journal {
    pub fn new() -> Self {
        Self { began: Instant::now(), entries: Mutex::default() }
    }

    pub fn note(&self, secret: &str, what: impl std::fmt::Display) {
        let line = format!("{:9.3} {what}", self.began.elapsed().as_secs_f64());
        self.entries.lock().unwrap().entry(secret.to_owned()).or_default().push(line);
    }

    /// The last entries about a secret, and those about no secret in particular among them.
    pub fn about(&self, secret: &str) -> String {
        let entries = self.entries.lock().unwrap();
        let mut lines: Vec<&String> =
            entries.get(secret).into_iter().chain(entries.get("")).flatten().collect();
        lines.sort();
        let shown: Vec<&str> =
            lines[lines.len().saturating_sub(SHOWN)..].iter().map(|line| line.as_str()).collect();
        shown.join("\n")
    }
}
