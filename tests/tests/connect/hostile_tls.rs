//! Servers that misuse TLS: a backend is neither kept busy nor led astray.

use crate::lab::{Lab, detail};
use crate::servers::generate;
use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod};
use secretlink_e2e::{TempDir, TlsFiles};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// More tickets than anybody needs; a server may send any number.
const TICKETS: usize = 50_000;

/// Serves one client after the other as `serve` says, behind its request for TLS. Gives its port. The
/// thread ends with the process.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            if stream.read_exact(&mut [0; 8]).is_ok() && stream.write_all(b"S").is_ok() {
                serve(stream);
            }
        }
    });
    port
}

fn context(tls: &TlsFiles, tickets: usize) -> SslContext {
    let mut context = SslContext::builder(SslMethod::tls_server()).unwrap();
    context.set_certificate_chain_file(&tls.server_cert).unwrap();
    context.set_private_key_file(&tls.server_key, SslFiletype::PEM).unwrap();
    context.set_num_tickets(tickets).unwrap();
    context.build()
}

#[test]
fn messages_without_end_end_the_connection() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let flood = context(&tls, TICKETS);
    let tickets = server(move |stream| {
        // The handshake is over for the client when the tickets come.
        let _ = Ssl::new(&flood).unwrap().accept(stream);
    });
    // A message of a record, over and over.
    let repeated = |record: &'static [u8]| {
        server(move |mut stream| {
            let block = record.repeat(1_000);
            while stream.write_all(&block).is_ok() {}
        })
    };
    let mut lab = Lab::new();
    for (what, port, told) in [
        ("session tickets", tickets, "TLS messages without end"),
        ("changes of cipher", repeated(b"\x14\x03\x03\x00\x01\x01"), "SSL error: "),
        ("warnings", repeated(b"\x15\x03\x03\x00\x02\x01\x00"), "SSL error: "),
        ("requests for a handshake", repeated(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"), "SSL error: "),
        ("a certificate of 16 MB", repeated(b"\x16\x03\x03\x00\x05\x02\xff\xff\xff\x00"), "SSL error: "),
        ("empty records", repeated(b"\x16\x03\x03\x00\x00"), "SSL error: "),
        ("nonsense", repeated(b"nonsense"), "SSL error: "),
    ] {
        let began = Instant::now();
        let conninfo = format!("host=127.0.0.1 port={port} dbname=postgres user=x");
        let told_us = detail(lab.ours(&conninfo));
        assert!(told_us.contains(told), "{what}: {told_us}");
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
    }
}

#[test]
fn a_handshake_that_comes_to_no_end_can_be_interrupted() {
    let silent = server(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    // A record whose end does not come, byte by byte.
    let slow = server(|mut stream| {
        let _ = stream.write_all(b"\x16\x03\x03\x3f\xff");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut lab = Lab::new();
    lab.client.batch_execute("SET statement_timeout = 500").unwrap();
    for port in [silent, slow] {
        let error = lab.ours(&format!("host=127.0.0.1 port={port} dbname=postgres user=x")).unwrap_err();
        assert_eq!(error.code().code(), "57014", "{error:?}");
    }
    lab.client.batch_execute("SET statement_timeout = '60s'").unwrap();
    for port in [silent, slow] {
        let conninfo = format!("host=127.0.0.1 port={port} dbname=postgres user=x connect_timeout=2");
        assert!(detail(lab.ours(&conninfo)).ends_with("timeout expired"));
    }
}

/// Somebody in between who changes what is encrypted.
#[test]
fn what_was_changed_on_the_way_is_told_in_words() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let ordinary = context(&tls, 2);
    let port = server(move |stream| {
        let mut raw = stream.try_clone().unwrap();
        if Ssl::new(&ordinary).unwrap().accept(stream).is_ok() {
            // A record of data, or so it says.
            let _ = raw.write_all(b"\x17\x03\x03\x00\x20nonsensenonsensenonsensenonsense");
            let _ = raw.read_to_end(&mut Vec::new());
        }
    });
    let told = detail(Lab::new().ours(&format!("host=127.0.0.1 port={port} dbname=postgres user=x")));
    assert!(told.ends_with("SSL error: decryption failed or bad record mac"), "{told}");
}

#[test]
fn a_server_that_goes_away_is_told_so() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let gone = server(drop);
    let ordinary = context(&tls, 2);
    let gone_later = server(move |stream| {
        // Without a word: no close_notify.
        let _ = Ssl::new(&ordinary).unwrap().accept(stream);
    });
    let mut lab = Lab::new();
    for (port, told) in [
        (gone, "server closed the connection during the handshake"),
        (gone_later, "server closed the connection unexpectedly"),
    ] {
        let detail = detail(lab.ours(&format!("host=127.0.0.1 port={port} dbname=postgres user=x")));
        // A reset, if it was quicker than what we sent.
        assert!(detail.ends_with(told) || detail.ends_with("Connection reset by peer"), "{detail}");
    }
}
