//! What is told of a failure.

use crate::lab::{Lab, detail};
use crate::servers::{generate, roles, tcp, with_every_method};
use postgres::Client;
use secretlink_e2e::{Cluster, TempDir, free_port};

#[test]
fn failures_are_told_in_libpqs_words() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_every_method(&tls);
    let mut lab = Lab::new();
    let nobody = free_port();
    for conninfo in [
        format!("host=127.0.0.1 port={nobody} user=x"),
        format!("host=localhost hostaddr=127.0.0.1 port={nobody} user=x"),
        "host=/nonexistent port=1 user=x".to_owned(),
        format!("{} user=scram password=wrong", tcp(&server)),
        format!("{} user=scram password=wrong sslmode=disable", tcp(&server)),
        format!("{} user=scram", tcp(&server)),
        format!("{} user=no_such_role", tcp(&server)),
        format!("host=127.0.0.1 port={} user=trusted dbname=no_such_database", server.port()),
        format!("{} user=trusted options='-c no_such_setting=1'", tcp(&server)),
        format!("{} user=trusted options='-c work_mem=nonsense'", tcp(&server)),
        format!("{} user=trusted sslmode=verify-full sslrootcert=/nonexistent", tcp(&server)),
        format!("{} user=md5 password=pass channel_binding=require sslmode=require", tcp(&server)),
        format!(
            "host={} port={} user=no_such_role dbname=postgres",
            server.socket_dir().display(),
            server.port()
        ),
        "nonsense=1".to_owned(),
        "host=127.0.0.1 port=70000".to_owned(),
        "host=127.0.0.1 port=x".to_owned(),
        "sslmode=sometimes".to_owned(),
        "channel_binding=maybe".to_owned(),
        "target_session_attrs=fast".to_owned(),
    ] {
        let (ours, libpq) = (detail(lab.ours(&conninfo)), detail(lab.libpq(&conninfo)));
        // libpq adds advice in a second line where we have a hint.
        let first = |text: &str| {
            text.lines().next().unwrap_or_default().replace('"', "").replace("fe_sendauth: ", "")
        };
        assert_eq!(first(&ours), first(&libpq), "{conninfo}");
    }
    // A name that cannot be found: the resolver's own words.
    let unknown = detail(lab.both("host=no.such.host.invalid user=x"));
    assert!(
        unknown.starts_with("could not translate host name \"no.such.host.invalid\" to address: "),
        "{unknown}"
    );
    // A server that has something to add.
    let full =
        Cluster::plain().tcp().conf("max_connections = 5").conf("superuser_reserved_connections = 0").start();
    roles(&full, &["app"]);
    let held: Vec<Client> = (0..5).map(|_| full.connect("postgres", "postgres")).collect();
    assert!(
        detail(lab.both(&format!("{} user=app", tcp(&full))))
            .ends_with("FATAL:  sorry, too many clients already")
    );
    drop(held);
}
