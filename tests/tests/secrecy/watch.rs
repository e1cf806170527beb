//! A look at `pg_stat_activity`.

use crate::ground::ground;
use secretlink_e2e::eventually;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Looks at `pg_stat_activity` of every server, all the time.
pub struct Watch {
    stop: Arc<AtomicBool>,
    found: Arc<AtomicBool>,
    watcher: JoinHandle<Vec<String>>,
}

impl Watch {
    pub fn start(marker: &str, id: &str) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let ground = ground();
        let servers = [&ground.local, &ground.remote, &ground.plain];
        let mut clients = servers.map(|server| server.connect("postgres", "postgres"));
        let mut look = {
            let (marker, id, found) = (marker.to_owned(), id.to_owned(), Arc::clone(&found));
            move || {
                let mut seen = Vec::new();
                for client in &mut clients {
                    for row in client.query("SELECT a::text FROM pg_stat_activity a", &[]).unwrap() {
                        let row: String = row.get(0);
                        found.fetch_or(row.contains(&id), Ordering::SeqCst);
                        if row.contains(&marker) {
                            seen.push(format!("pg_stat_activity: {row}"));
                        }
                    }
                }
                thread::sleep(Duration::from_millis(5));
                seen
            }
        };
        eventually("the sessions that create the roles end", Duration::from_secs(5), || {
            let seen = look();
            if seen.is_empty() { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        let watcher = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    seen.extend(look());
                }
                seen
            }
        });
        Self { stop, found, watcher }
    }

    /// What was seen of the marker, by a watch that was awake.
    pub fn end(self) -> Vec<String> {
        eventually("the trial's own session is seen", Duration::from_secs(5), || {
            self.found.load(Ordering::SeqCst).then_some(()).ok_or("not in pg_stat_activity".to_owned())
        });
        self.stop.store(true, Ordering::SeqCst);
        self.watcher.join().unwrap()
    }
}
