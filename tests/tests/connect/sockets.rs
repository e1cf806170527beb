//! How long to wait, and what keeps a connection alive.

use crate::lab::{Lab, detail};
use crate::servers::tcp;
use secretlink_e2e::{Cluster, NeverAnswers, Proxy};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn connect_timeout_bounds_the_wait_for_each_host() {
    let nowhere = NeverAnswers::new();
    let remote = Cluster::plain().tcp().start();
    let mut lab = Lab::new();
    let began = Instant::now();
    let conninfo = format!("host=127.0.0.1 port={} user=postgres connect_timeout=2", nowhere.port());
    let told = detail(lab.ours(&conninfo));
    let took = began.elapsed();
    assert!(told.ends_with("timeout expired"), "{told}");
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    // Then it is the next one's turn. One second is as good as two: libpq says so.
    let began = Instant::now();
    let conninfo = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=postgres connect_timeout=1",
        nowhere.port(),
        remote.port()
    );
    assert_eq!(lab.ours(&conninfo).unwrap().0, "postgres");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    // A server that accepts and then says nothing, with and without TLS, is no better.
    let hole = Proxy::black_hole();
    for mode in ["disable", "require"] {
        let began = Instant::now();
        let conninfo =
            format!("host=127.0.0.1 port={} user=postgres sslmode={mode} connect_timeout=2", hole.port());
        assert!(detail(lab.ours(&conninfo)).ends_with("timeout expired"));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}

#[test]
fn keepalives_are_set_on_the_socket() {
    if Command::new("ss").arg("-V").output().is_err() {
        println!("skipped: there is no ss program to look at sockets with");
        return;
    }
    let remote = Cluster::plain().tcp().conf("tcp_keepalives_idle = 3000").start();
    let mut lab = Lab::new();
    let mut timer = |more: &str| {
        lab.client
            .execute(
                "SELECT secretlink.dblink_connect('k', $1)",
                &[&format!("{} user=postgres {more}", tcp(&remote))],
            )
            .unwrap();
        let output = Command::new("ss")
            .args(["-Htno", "dst", "127.0.0.1", "and", "dport", "=", &format!(":{}", remote.port())])
            .output()
            .unwrap();
        lab.client.execute("SELECT secretlink.dblink_disconnect('k')", &[]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("ESTAB")).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let by_default = timer("");
    assert!(by_default.contains("timer:(keepalive,"), "{by_default}");
    let soon = timer("keepalives_idle=77 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=9000");
    assert!(
        ["timer:(keepalive,1min1", "timer:(keepalive,76", "timer:(keepalive,77"]
            .iter()
            .any(|t| soon.contains(t)),
        "{soon}"
    );
    let off = timer("keepalives=0 keepalives_idle=77");
    assert!(!off.is_empty() && !off.contains("keepalive"), "{off}");
}
