//! Sessions that connect with a secret, ask something and disconnect, again and again.

use crate::ground::{Ground, connect};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

pub struct Load {
    shared: Arc<Shared>,
    sessions: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    good: AtomicUsize,
    errors: Mutex<Vec<String>>,
}

impl Load {
    pub fn start(ground: &Ground, sessions: usize, secret: &str, port: u16) -> Load {
        let shared = Arc::new(Shared::default());
        let work = format!(
            "{}; SELECT * FROM dblink('c', 'SELECT 1') AS t(a int); SELECT dblink_disconnect('c')",
            connect(secret, port)
        );
        let begin = |_| {
            let (shared, work, mut session) = (Arc::clone(&shared), work.clone(), ground.session());
            thread::spawn(move || {
                while !shared.stop.load(Ordering::SeqCst) {
                    match session.batch_execute(&work) {
                        Ok(()) => {
                            shared.good.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            shared.errors.lock().unwrap().push(format!("{error:?}"));
                        }
                    }
                }
            })
        };
        Load { sessions: (0..sessions).map(begin).collect(), shared }
    }

    /// How many rounds have gone well so far.
    pub fn good(&self) -> usize {
        self.shared.good.load(Ordering::SeqCst)
    }

    /// Ends it. How many rounds went well, and the errors of the others.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for session in self.sessions {
            session.join().unwrap();
        }
        let errors = std::mem::take(&mut *self.shared.errors.lock().unwrap());
        (self.shared.good.load(Ordering::SeqCst), errors)
    }
}
