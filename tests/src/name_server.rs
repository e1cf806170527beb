//! A name server, and processes that ask no other.

use simple_dns::rdata::{A, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::ffi::CString;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use crate::{TempDir, private_file};

/// A name server on loopback that knows some aliases, and where they lead: to 127.0.0.1.
#[derive(Debug)]
pub struct NameServer {
    directory: TempDir,
}

impl NameServer {
    /// Starts one that knows these aliases and their targets. `None` for a user who may not take port 53.
    pub fn start(aliases: &[(&str, &str)]) -> Option<Self> {
        static STARTED: AtomicU8 = AtomicU8::new(1);
        let [.., process] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, process, STARTED.fetch_add(1, Ordering::Relaxed));
        let socket = match UdpSocket::bind((address, 53)) {
            Ok(socket) => socket,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                println!("skipped: only root may be a name server");
                return None;
            }
            Err(error) => panic!("no name server at {address}: {error}"),
        };
        let aliases: Vec<_> = aliases.iter().map(|&(name, to)| (name.to_owned(), to.to_owned())).collect();
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..length], &aliases) {
                    // Who asks may have gone.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let directory = TempDir::new();
        private_file(directory.path().join("resolv.conf"), &format!("nameserver {address}\n"));
        Some(Self { directory })
    }

    /// Runs `start`. The processes that it starts look up names here and nowhere else.
    pub fn asked_by<T: Send>(&self, start: impl FnOnce() -> T + Send) -> T {
        let file = self.directory.path().join("resolv.conf");
        let file = CString::new(file.as_os_str().as_bytes()).expect("a path has no NUL");
        thread::scope(|scope| {
            let started = scope.spawn(|| {
                mount_over_resolv_conf(&file);
                start()
            });
            started.join().expect("the processes start")
        })
    }
}

/// What this thread and its children see as `/etc/resolv.conf` is this file from now on.
fn mount_over_resolv_conf(file: &CString) {
    let check = |result: libc::c_int| {
        assert!(result == 0, "cannot mount: {}", std::io::Error::last_os_error());
    };
    let (none, over) = (ptr::null(), c"/etc/resolv.conf".as_ptr());
    // SAFETY: the three calls take flags and strings that end in NUL and live longer. They change the mounts of this
    // thread, which ends soon, and of no other: the first gives it mounts of its own.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS));
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, ptr::null()));
        check(libc::mount(file.as_ptr(), over, none, libc::MS_BIND, ptr::null()));
    }
}

/// What a name server that knows these aliases says to a question.
fn answer(query: &[u8], aliases: &[(String, String)]) -> Option<Vec<u8>> {
    let query = Packet::parse(query).ok()?;
    let question = query.questions.first()?.clone();
    let mut reply = query.into_reply();
    reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    let target_of = |name: &str| aliases.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    let mut name = question.qname.to_string();
    while let Some((alias, target)) = target_of(&name) {
        let record = RData::CNAME(CNAME(Name::new_unchecked(target)));
        reply.answers.push(ResourceRecord::new(Name::new_unchecked(alias), CLASS::IN, 60, record));
        name.clone_from(target);
    }
    let is_known = aliases.iter().any(|(_, target)| target.eq_ignore_ascii_case(&name));
    if !is_known {
        *reply.rcode_mut() = RCODE::NameError;
    } else if question.qtype == QTYPE::TYPE(TYPE::A) {
        let address = RData::A(A { address: Ipv4Addr::LOCALHOST.into() });
        reply.answers.push(ResourceRecord::new(Name::new_unchecked(&name), CLASS::IN, 60, address));
    }
    reply.build_bytes_vec_compressed().ok()
}
