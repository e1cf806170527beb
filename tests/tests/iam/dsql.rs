//! Aurora DSQL.

use crate::ground::{Ground, refusal, text, who};

const ID: &str = "kiabtryygvodbuwxtb7lljaxae";
const HOST: &str = "kiabtryygvodbuwxtb7lljaxae.dsql.us-east-1.on.aws";

/// A database that takes tokens as the Aurora DSQL cluster of this name does.
fn ground(host: &'static str) -> Ground {
    let ground = Ground::with(|local| local, |remote| remote.server_names(&[host]));
    ground.role("admin");
    ground.verifier.expect_dsql(host);
    ground
}

fn connect(ground: &Ground, host: &str, user: &str, more: &str) -> String {
    let (port, options) = (ground.remote.port(), ground.options());
    format!("SELECT connect_with_iam('{host}', 'testdb', '{user}', {port}, options => '{options}'{more})")
}

#[test]
fn its_users_and_its_administrator() {
    let ground = ground(HOST);
    let mut client = ground.session();
    for (user, action) in [("app", "DbConnect"), ("admin", "DbConnectAdmin")] {
        // The identifier is enough, and the host name may be written in any manner.
        for host in [HOST, ID, &format!("{HOST}.")] {
            text(&mut client, &connect(&ground, host, user, ""));
            assert_eq!(who(&mut client), user);
            let verdicts = ground.verifier.take(user);
            assert_eq!(verdicts[0].refusal, None, "{verdicts:?}");
            assert!(verdicts[0].token.starts_with(&format!("{HOST}/?Action={action}&X-Amz-Algorithm=")));
        }
    }
    assert_eq!(text(&mut client, "SELECT host FROM remote_connections"), format!("{HOST}."));
    // Neither port nor user is signed. Users whose tokens are equal have tokens of their own all the same.
    assert_eq!(text(&mut client, "SELECT count(*) FROM secret_cache"), "2");
}

#[test]
fn behind_a_private_link() {
    const HOST: &str = "kiabtryygvodbuwxtb7lljaxae.dsql-gamma.us-east-1.on.aws";
    let ground = ground(HOST);
    let mut client = ground.session();
    text(&mut client, &connect(&ground, HOST, "admin", ", region => 'us-west-2'"));
    assert_eq!(who(&mut client), "admin");
    assert_eq!(ground.verifier.verdicts()[0].refusal, None);
}

#[test]
fn by_a_foreign_server() {
    let ground = ground(HOST);
    let mut client = ground.session();
    let (port, ca) = (ground.remote.port(), ground.remote.tls().ca.display());
    client
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (iam_auth 'on', host '{ID}', hostaddr '127.0.0.1', port '{port}', dbname 'testdb', sslrootcert '{ca}');
             CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'admin')"
        ))
        .unwrap();
    let sql = "SELECT v FROM dblink('s', 'SELECT current_user') AS t(v text)";
    assert_eq!(text(&mut client, sql), "admin");
    // By another name, too.
    client
        .batch_execute(&format!("ALTER SERVER s OPTIONS (SET host 'localhost', ADD iam_host '{HOST}')"))
        .unwrap();
    assert_eq!(text(&mut client, sql), "admin");
    assert!(ground.verifier.verdicts().iter().all(|verdict| verdict.refusal.is_none()));
}

#[test]
fn a_refusal_names_its_own_permission() {
    let ground = ground(HOST);
    let mut client = ground.session();
    ground.role("nobody");
    for (user, permission) in [("nobody", "dsql:DbConnect on"), ("admin", "dsql:DbConnectAdmin on")] {
        ground.verifier.forbid(user);
        let error = refusal(&mut client, &connect(&ground, HOST, user, ""));
        let hint = error.hint().unwrap();
        for part in [permission, "arn:aws:dsql:REGION:ACCOUNT:cluster/CLUSTER_ID", "AWS IAM GRANT", "clock"] {
            assert!(hint.contains(part), "{hint}");
        }
    }
    let rows = text(
        &mut client,
        &format!(
            "SELECT string_agg(concat_ws(' ', item, ok, detail), E'\\n') FROM secretlink_check('{ID}', 'admin', {}, options => '{}')",
            ground.remote.port(),
            ground.options()
        ),
    );
    assert!(rows.contains(&format!("dsql:DbConnectAdmin as admin@{HOST}")), "{rows}");
    assert!(rows.contains("region t us-east-1, from secretlink.region"), "{rows}");
    assert!(rows.contains("authentication t "), "{rows}");
}
