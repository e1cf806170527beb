//! Open connections whose secret has a new version.

use crate::ground::{Ground, connect, login, put, remote, secret, text};
use postgres::error::DbError;
use postgres::{Client, NoTls};
use secretlink_e2e::{Cluster, random_password, unique};
use std::sync::{Arc, Mutex};

const PID: &str = "SELECT pg_backend_pid()";

struct Scene {
    ground: Ground,
    remote: Cluster,
    secret: String,
    server: String,
    client: Client,
    told: Arc<Mutex<Vec<DbError>>>,
}

impl Scene {
    fn start() -> Scene {
        let ground = Ground::start();
        let remote = remote(|remote| remote);
        let password = random_password();
        remote.create_login("app", &password, "scram-sha-256");
        let (secret, server) = (secret(&login("app", &password)), unique("server"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut config: postgres::Config = ground.local.conninfo("postgres", "postgres").parse().unwrap();
        config.notice_callback({
            let told = Arc::clone(&told);
            move |notice| told.lock().unwrap().push(notice)
        });
        let mut client = config.connect(NoTls).unwrap();
        client
            .batch_execute(&format!(
                "CREATE SERVER \"{server}\" FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (secret_id '{secret}', host '127.0.0.1', port '{}', dbname 'postgres', sslmode 'disable')",
                remote.port()
            ))
            .unwrap();
        Scene { ground, remote, secret, server, client, told }
    }

    /// Another version, with the same password, which this server gets to know.
    fn new_version(&self) {
        put(&self.secret, &crate::ground::api().get_secret_value(&self.secret).unwrap());
        text(&mut self.ground.session(), &format!("SELECT refresh_secret('{}')", self.secret));
    }

    fn ask(&mut self, connection: &str, sql: &str) -> String {
        text(&mut self.client, &format!("SELECT v FROM dblink('{connection}', $q${sql}$q$) AS t(v text)"))
    }

    fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        told.iter().map(|notice| notice.message().to_owned()).collect()
    }
}

#[test]
fn those_by_a_foreign_server_are_made_again_outside_transactions() {
    let mut scene = Scene::start();
    let again = "connection \"s\" was out of date and has been made again";
    let server = scene.server.clone();
    text(&mut scene.client, &format!("SELECT dblink_connect('s', '{server}')"));
    let connect = connect(&scene.secret, scene.remote.port());
    text(&mut scene.client, &connect);
    let (by_server, with_secret) = (scene.ask("s", PID), scene.ask("c", PID));

    // The same version again is nothing new.
    text(&mut scene.ground.session(), &format!("SELECT refresh_secret('{}')", scene.secret));
    assert_eq!(scene.ask("s", PID), by_server);
    assert!(scene.told().is_empty());

    scene.new_version();
    let new = scene.ask("s", PID);
    assert_ne!(new, by_server);
    assert_eq!(scene.told(), [again]);
    assert_eq!(scene.ask("s", PID), new);
    assert_eq!(scene.ask("c", PID), with_secret);
    assert!(scene.told().is_empty(), "once, and only this one");

    for (begin, end) in [
        ("SELECT dblink_exec('s', 'BEGIN')", "SELECT dblink_exec('s', 'COMMIT')"),
        ("SELECT dblink_open('s', 'cur', 'SELECT 1')", "SELECT dblink_close('s', 'cur')"),
    ] {
        let before = scene.ask("s", PID);
        text(&mut scene.client, begin);
        scene.new_version();
        assert_eq!(scene.ask("s", PID), before, "{begin}");
        text(&mut scene.client, end);
        assert!(scene.told().is_empty(), "{begin}");
        assert_ne!(scene.ask("s", PID), before, "{begin}");
        assert_eq!(scene.told(), [again]);
    }

    // While nobody knows the new one, nothing changes.
    let before = scene.ask("s", PID);
    text(&mut scene.client, &format!("SELECT forget_secret('{}')", scene.secret));
    assert_eq!(scene.ask("s", PID), before);
    assert_eq!(scene.ask("c", PID), with_secret);
    assert!(scene.told().is_empty());

    // A password that does not log in any more: the connection is not lost for that.
    let good = crate::ground::api().get_secret_value(&scene.secret).unwrap();
    put(&scene.secret, &login("app", "wrong"));
    text(&mut scene.client, &format!("SELECT refresh_secret('{}')", scene.secret));
    let query = "SELECT v FROM dblink('s', 'SELECT 1') AS t(v text)";
    assert!(scene.client.batch_execute(query).is_err());
    put(&scene.secret, &good);
    text(&mut scene.client, &format!("SELECT refresh_secret('{}')", scene.secret));
    assert_eq!(scene.ask("s", "SELECT 42"), "42");
    // A rotation that goes by the name of the server.
    let password = random_password();
    let admin = format!("ALTER ROLE app PASSWORD '{password}'");
    scene.remote.connect("postgres", "postgres").batch_execute(&admin).unwrap();
    put(&scene.secret, &login("app", &password));
    scene.told();
    let value = format!("SELECT v FROM dblink('{server}', 'SELECT 42') AS t(v text)");
    assert_eq!(text(&mut scene.client, &value), "42");
    let before = scene.ask("s", PID);
    assert_eq!(scene.told(), [again], "that one has found the new version");
    assert_eq!(scene.ask("s", PID), before);
}
