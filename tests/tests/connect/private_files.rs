//! Files that a connection string names are opened by the server's user. What is in them is not for everybody.

use crate::lab::Lab;
use crate::servers::{generate, with_tls};
use postgres::Client;
use secretlink_e2e::{OsUser, TempDir, db_error};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const CONTENT: &str = "top-secret-content";

/// All that an ERROR tells.
fn told(client: &mut Client, conninfo: &str) -> String {
    let sql = format!("SELECT secretlink.dblink_connect($c${conninfo}$c$)");
    let error = db_error(client.simple_query(&sql));
    format!("{error:?}")
}

#[test]
fn errors_do_not_tell_what_is_in_a_file() {
    let directory = TempDir::new();
    let tls = generate(&directory, &["localhost"]);
    let server = with_tls(&tls).auth("host", "anyone", "md5").start();
    server.create_login("anyone", "x", "md5");
    let mut lab = Lab::new();
    let mut client = lab.login("somebody");

    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        OsUser::for_servers().own(&path);
        path.display().to_string()
    };
    let lines = file("lines", &format!("{CONTENT}: 1\nport = {CONTENT}\n"));
    let half = file("half", &format!("-----BEGIN CERTIFICATE-----\n{CONTENT}\n-----END {CONTENT}-----\n"));
    let key = file("key", &format!("-----BEGIN PRIVATE KEY-----\n{CONTENT}\n-----END PRIVATE KEY-----\n"));
    let locked = file(
        "locked",
        &format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{CONTENT}\n-----END ENCRYPTED PRIVATE KEY-----\n"),
    );
    let empty = file("empty", "");
    let base = format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname=postgres user=anyone password=x",
        server.port()
    );
    let mut texts = Vec::new();
    for path in [&lines, &half, &key, &locked, &empty] {
        let name = path.rsplit('/').next().unwrap();
        for option in [
            format!("sslmode=verify-full sslrootcert={path}"),
            format!("sslmode=require sslcert={path} sslkey={path}"),
            format!("sslmode=require sslcert={} sslkey={path}", tls.ca.display()),
            format!("sslmode=verify-full sslrootcert={} sslcrl={path}", tls.ca.display()),
        ] {
            let error = told(&mut client, &format!("{base} {option}"));
            assert!(!error.contains(CONTENT), "{option}: {error}");
            texts.push((option.replace(path, "FILE"), name.to_owned(), error.replace(path, "FILE")));
        }
    }
    // An error is the same for every content: even whether it is a key, or locked, is not told.
    for (option, name, error) in &texts {
        let (_, first, other) = texts.iter().find(|(same, ..)| same == option).unwrap();
        assert_eq!(error, other, "{option}: {name} and {first}");
    }
    // A superuser, whose files they are, is told all.
    let error = told(
        &mut lab.client,
        &format!("{base} sslmode=require sslcert={} sslkey={locked}", tls.ca.display()),
    );
    assert!(!error.contains("The server log says why"), "{error}");
    // So is the log, of the others, too.
    assert!(lab.local.log().contains("LOG:  could not establish connection"), "{}", lab.local.log());
}

#[test]
fn errors_do_not_tell_what_is_in_a_service_file() {
    let directory = TempDir::new();
    let mut lab = Lab::new();
    let mut client = lab.login("somebody");
    let mut texts = Vec::new();
    for (number, line) in
        [format!("port={CONTENT}"), format!("sslmode={CONTENT}"), format!("{CONTENT}=1"), CONTENT.to_owned()]
            .iter()
            .enumerate()
    {
        let path = directory.path().join(format!("services-{number}"));
        fs::write(&path, format!("# a comment\n[client]\nhost=127.0.0.1\n{line}\n")).unwrap();
        let path = path.display().to_string();
        let conninfo = format!("servicefile={path} service=client user=u password=x");
        let error = told(&mut client, &conninfo);
        assert!(!error.contains(CONTENT), "{line}: {error}");
        texts.push(error);
        // A superuser is told what is wrong, as far as it is no secret.
        assert!(!told(&mut lab.client, &conninfo).contains("could not use service"));
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
    assert!(texts[0].contains("could not use service"), "{}", texts[0]);
}
