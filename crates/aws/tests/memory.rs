//! After a call nothing of a secret is left in this process's memory, given the allocator that the
//! extension uses, which wipes whatever is freed.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::settings;
use secretlink_aws::{Client, DatabaseSecret, SecretId, VersionSelector};
use secretlink_core::Secret;

#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

const MARKER_LEN: usize = 40;

const PADDING: [usize; 5] = [0, 3_000, 9_000, 30_000, 64_000];

/// The marker, a byte at a time: whole, it must be nowhere in this process until it is fetched.
fn marker_byte(i: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[(i * i * 7 + i * 3 + 5) % 26]
}

const PAGE: usize = 4096;
const TAIL: usize = MARKER_LEN - 1;

/// The last bytes of one page and then the next one; on pages of its own, so as not to find itself.
#[repr(align(4096))]
struct Window([u8; 2 * PAGE]);

/// How often the marker is in this process's writable memory.
fn copies() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut window = Box::new(Window([0; 2 * PAGE]));
    let own = window.0.as_ptr_range();
    let own = own.start as usize..own.end as usize;
    let mut found = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|p| p.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let address = |hex| usize::from_str_radix(hex, 16).unwrap();
        window.0.fill(0);
        for page in (address(start)..address(end)).step_by(PAGE).filter(|page| !own.contains(page)) {
            let bytes = &mut window.0[..TAIL + PAGE];
            if memory.read_exact_at(&mut bytes[TAIL..], page as u64).is_ok() {
                let hit = |at: &[u8]| at.iter().enumerate().all(|(i, b)| *b == marker_byte(i));
                found += bytes.windows(MARKER_LEN).filter(|at| hit(at)).count();
            }
            bytes.copy_within(PAGE.., 0);
        }
    }
    found
}

/// The server runs in a process of its own: its memory does hold the secret.
struct Server(Child, String);

impl Server {
    fn start() -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serve", "--ignored", "--nocapture"])
            .env("SECRETLINK_TEST_SERVE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let endpoint = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, url)| url.to_owned()))
            .unwrap();
        Server(child, endpoint)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keeps connections open, so that it is the client that has to close them.
fn serve_one(mut stream: TcpStream) {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let marker: String = (0..MARKER_LEN).map(|i| char::from(marker_byte(i))).collect();
    let mut request = [0; 65536];
    while stream.read(&mut request).is_ok_and(|n| n > 0) {
        // It depends on the length which buffers take part.
        let padding = " ".repeat(PADDING[REQUESTS.fetch_add(1, Ordering::Relaxed) % PADDING.len()]);
        let body = format!(
            r#"{{"ARN":"a","Name":"x","VersionId":"v","SecretString":"{{\"password\":\"{marker}\"}}{padding}"}}"#
        );
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }
}

#[test]
#[ignore = "the server of the other test"]
fn serve() {
    if std::env::var_os("SECRETLINK_TEST_SERVE").is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(|| serve_one(stream));
    }
}

#[test]
fn nothing_is_left() {
    let server = Server::start();
    let settings = settings(&server.1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let manager = Client::new(settings);
    let id = SecretId::parse("x").unwrap();
    assert_eq!(copies(), 0, "before");

    let fetch = async || {
        let value = manager.get_secret_value(&id, &VersionSelector::default()).await.unwrap();
        let secret = DatabaseSecret::from_value(&value).unwrap();
        drop(value);
        // As in a backend, the runtime lives on; the connection's task ends as soon as it is polled.
        tokio::time::sleep(Duration::from_millis(20)).await;
        secret
    };
    for padding in PADDING {
        let kept = runtime.block_on(fetch());
        assert_eq!(copies(), 1, "only the one that is kept, of {padding}");
        drop(kept);
        assert_eq!(copies(), 0, "{padding}");
    }

    let kept = runtime.block_on(fetch());
    runtime.block_on(async {
        let value = Secret::new(kept.password.expose());
        drop(kept);
        manager.put_secret_value(&id, value, vec!["AWSCURRENT".into()], None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    assert_eq!(copies(), 0, "after everything was dropped");
}
