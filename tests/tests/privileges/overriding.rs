//! What a server or a secret says, no surroundings can say otherwise.

use crate::ground::{WHO, elsewhere};
use postgres::Client;
use secretlink_e2e::{Cluster, Moto, Proxy, Stage, TempDir};
use serde_json::json;

/// A Postgres whose environment leads elsewhere in every way that libpq knows, and a role there that may
/// use the server `orders`.
fn misled(moto: &Moto, thief: &Proxy, directory: &TempDir) -> Cluster {
    let service = directory.path().join("services");
    let port = thief.port().to_string();
    let elsewhere =
        format!("host=localhost\nhostaddr=127.0.0.1\nport={port}\ndbname=postgres\nuser=postgres\n");
    std::fs::write(&service, format!("[everywhere]\n{elsewhere}password=x\nsslmode=disable\n")).unwrap();
    let mut cluster = Cluster::local(moto);
    for (name, value) in [
        ("PGHOST", "localhost"),
        ("PGHOSTADDR", "127.0.0.1"),
        ("PGDATABASE", "postgres"),
        ("PGUSER", "postgres"),
        ("PGPASSWORD", "x"),
        ("PGSSLMODE", "disable"),
        ("PGREQUIRESSL", "0"),
        ("PGSERVICE", "everywhere"),
        ("PGSERVICEFILE", service.to_str().unwrap()),
        ("PGPASSFILE", "/nowhere"),
        ("PGSSLROOTCERT", "/nowhere"),
    ] {
        cluster = cluster.env(name, value);
    }
    let cluster = cluster.start();
    cluster
        .connect("postgres", "postgres")
        .batch_execute("CREATE ROLE app LOGIN; GRANT EXECUTE ON FUNCTION connect_with_secret TO app")
        .unwrap();
    cluster
}

#[test]
fn the_environment_of_the_server_does_not_lead_a_secret_elsewhere() {
    let stage = Stage::shared();
    let (thief, moto, directory) = (elsewhere(), Moto::start(), TempDir::new());
    let local = misled(&moto, &thief, &directory);
    // The name leads to the right one on its own.
    let value = json!({ "host": "localhost", "port": stage.remote.port(), "dbname": "testdb", "username": "app",
                        "password": stage.remote.app_password() });
    moto.secrets().create_secret("orders", &value.to_string());
    local
        .connect("postgres", "postgres")
        .batch_execute(&format!(
            "CREATE SERVER orders FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (secret_id 'orders', sslmode 'verify-full', sslrootcert '{}');
             CREATE SERVER loose FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'orders');
             CREATE SERVER by_service FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'orders', service 'everywhere');
             GRANT USAGE ON FOREIGN SERVER orders, loose, by_service TO app",
            stage.remote.tls().ca.display()
        ))
        .unwrap();
    let mut client = local.connect("app", "postgres");
    let ask = |client: &mut Client, name: &str| -> String {
        client.query_one("SELECT v FROM dblink($1, $2) AS t(v text)", &[&name, &WHO]).unwrap().get(0)
    };
    for server in ["orders", "loose", "by_service"] {
        assert_eq!(ask(&mut client, server), "app testdb true", "{server}");
    }
    client.batch_execute("SELECT connect_with_secret('orders', connection_name => 'c')").unwrap();
    assert_eq!(ask(&mut client, "c"), "app testdb true");
    assert_eq!(thief.accepted(), 0);
}

/// `PGHOSTADDR` alone: the address of one host must not be taken for that of another.
#[test]
fn an_address_of_the_environment_is_not_that_of_the_secrets_host() {
    let stage = Stage::shared();
    let moto = Moto::start();
    let local = Cluster::local(&moto).env("PGHOSTADDR", "127.0.0.9").start();
    let value = json!({ "host": "localhost", "port": stage.remote.port(), "dbname": "testdb", "username": "app",
                        "password": stage.remote.app_password() });
    moto.secrets().create_secret("orders", &value.to_string());
    let mut client = local.connect("postgres", "postgres");
    client
        .batch_execute(
            "CREATE SERVER orders FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'orders')",
        )
        .unwrap();
    // Nobody listens at that address: a connection there would be an error.
    let who: String =
        client.query_one("SELECT v FROM dblink('orders', $1) AS t(v text)", &[&WHO]).unwrap().get(0);
    assert_eq!(who, "app testdb true");
    client.batch_execute("SELECT connect_with_secret('orders')").unwrap();
    // Without a secret it counts, as with libpq.
    let direct = format!(
        "SELECT dblink_connect('host=localhost port={} dbname=testdb user=app password={}')",
        stage.remote.port(),
        stage.remote.app_password()
    );
    assert!(client.batch_execute(&direct).is_err());
}
