//! Several hosts, and which of them is taken.

use crate::lab::{Lab, Refusal, detail};
use crate::servers::roles;
use postgres::Client;
use secretlink_e2e::{Cluster, StopMode, db_error, free_port, private_file};

#[test]
fn several_hosts_are_tried_in_order() {
    let remote = Cluster::plain().tcp().auth("host", "unwanted", "reject").start();
    roles(&remote, &["unwanted"]);
    let mut lab = Lab::new();
    let (port, nobody) = (remote.port(), free_port());
    for conninfo in [
        format!("host=127.0.0.1,127.0.0.1 port={nobody},{port} user=postgres dbname=postgres"),
        format!("host=no.such.host.invalid,127.0.0.1 port={port} user=postgres dbname=postgres"),
        format!("host=/nonexistent,127.0.0.1 port={port} user=postgres dbname=postgres"),
        format!("postgresql://postgres@127.0.0.1:{nobody},127.0.0.1:{port}/postgres"),
    ] {
        assert_eq!(lab.both(&conninfo).unwrap().0, "postgres", "{conninfo}");
    }
    // Every attempt is told of.
    let refused =
        format!("host=127.0.0.1,localhost hostaddr=127.0.0.1,127.0.0.1 port={nobody} user=postgres");
    let (ours, libpq) = (detail(lab.ours(&refused)), detail(lab.libpq(&refused)));
    assert_eq!(ours.lines().count(), 2, "{ours}");
    for line in ours.lines() {
        assert!(libpq.contains(line), "not what libpq says:\n{ours}\n{libpq}");
    }
    // Being turned down is an answer: the next host is not asked.
    let conninfo =
        format!("host=127.0.0.1,{} port={port} user=unwanted dbname=postgres", remote.socket_dir().display());
    assert!(detail(lab.both(&conninfo)).contains("pg_hba.conf rejects connection"));
}

#[test]
fn a_server_of_the_kind_asked_for_is_found() {
    let primary = Cluster::plain().tcp().start();
    let read_only = Cluster::plain().tcp().conf("default_transaction_read_only = on").start();
    // Nobody to follow: it stays in recovery, and that is all it takes.
    let mut standby = Cluster::plain().tcp().start();
    standby.stop(StopMode::Fast);
    private_file(standby.data_dir().join("standby.signal"), "");
    standby.start();
    let mut lab = Lab::new();
    let ports = [primary.port(), read_only.port(), standby.port()];
    let names =
        |port: u16| ["primary", "read_only", "standby"][ports.iter().position(|p| *p == port).unwrap()];
    let found = |client: &mut Client, schema: &str, order: &[u16], wanted: &str| -> Result<&str, Refusal> {
        let hosts = vec!["127.0.0.1"; order.len()].join(",");
        let list: Vec<String> = order.iter().map(u16::to_string).collect();
        let conninfo = format!(
            "host={hosts} port={} user=postgres dbname=postgres target_session_attrs={wanted}",
            list.join(",")
        );
        let query = format!("SELECT p FROM {schema}.dblink($1, 'SHOW port') AS t(p text)");
        match client.query_one(&query, &[&conninfo]) {
            Ok(row) => Ok(names(row.get::<_, String>(0).parse().unwrap())),
            error @ Err(_) => Err(Box::new(db_error(error))),
        }
    };
    let [p, r, s] = ports;
    for (order, wanted, expected) in [
        (&[s, r, p][..], "any", Some("standby")),
        (&[s, r, p], "read-write", Some("primary")),
        (&[p, r, s], "read-only", Some("read_only")),
        (&[p, s, r], "read-only", Some("standby")),
        (&[s, r, p], "primary", Some("read_only")),
        (&[p, r, s], "standby", Some("standby")),
        (&[p, r, s], "prefer-standby", Some("standby")),
        (&[p, r], "prefer-standby", Some("primary")),
        (&[s, r], "read-write", None),
        (&[p], "read-only", None),
        (&[p, r], "standby", None),
        (&[s], "primary", None),
    ] {
        let ours = found(&mut lab.client, "secretlink", order, wanted);
        let libpq = found(&mut lab.client, "contrib", order, wanted);
        match expected {
            Some(expected) => {
                assert_eq!(ours.unwrap(), expected, "{wanted}");
                assert_eq!(libpq.unwrap(), expected, "{wanted}");
            }
            None => {
                let (ours, libpq) = (ours.unwrap_err(), libpq.unwrap_err());
                assert_eq!(ours.detail(), libpq.detail(), "{wanted}");
                assert_eq!(ours.code(), libpq.code());
            }
        }
    }
    // A server that is starting up or shutting down is passed over, too.
    let conninfo = format!(
        "host=127.0.0.1,127.0.0.1 port={s},{p} user=postgres dbname=postgres target_session_attrs=read-write"
    );
    assert_eq!(lab.ask(&conninfo, "SHOW port"), p.to_string());
}
