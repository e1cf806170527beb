//! Databases with other names in the DNS.

use crate::ground::{HOST, refusal, signed, text, who};
use postgres::Client;
use secretlink_e2e::{Cluster, ClusterBuilder, NameServer, TokenVerifier};

/// The end of every chain: what AWS calls the machine, and not the database.
const MACHINE: &str = "ec2-127-0-0-1.compute-1.amazonaws.com";

/// Another name that AWS gave the database: an instance of the cluster.
const INSTANCE: &str = "one.abc.us-east-1.rds.amazonaws.com";

struct Ground {
    local: Cluster,
    remote: Cluster,
    verifier: TokenVerifier,
}

impl Ground {
    fn with(
        aliases: &[(&str, &str)],
        names: &[&str],
        adjust: impl FnOnce(ClusterBuilder) -> ClusterBuilder + Send,
    ) -> Option<Ground> {
        let names_server = NameServer::start(aliases)?;
        let local = names_server
            .asked_by(|| adjust(Cluster::local_with_endpoint("http://127.0.0.1:9").preload(true)).start());
        let verifier = TokenVerifier::start();
        let remote = Cluster::remote().server_names(names);
        let remote = remote.hba(&format!("hostssl all all 127.0.0.1/32 {}", verifier.hba_method())).start();
        verifier.expect(HOST, remote.port());
        Some(Ground { local, remote, verifier })
    }

    fn session(&self) -> Client {
        self.local.connect("postgres", "postgres")
    }

    fn connect(&self, host: &str) -> String {
        let (port, ca) = (self.remote.port(), self.remote.tls().ca.display());
        format!("SELECT connect_with_iam('{host}', 'testdb', 'app', {port}, options => 'sslrootcert={ca}')")
    }
}

#[test]
fn the_first_name_in_the_chain_that_aws_gave_is_signed() {
    let chain = [
        ("db.example.com", "internal.example.com"),
        ("internal.example.com", HOST),
        (HOST, INSTANCE),
        (INSTANCE, MACHINE),
    ];
    let Some(ground) = Ground::with(&chain, &[HOST], |local| local) else { return };
    let mut client = ground.session();
    for host in ["db.example.com", "DB.Example.com", "db.example.com.", "internal.example.com", HOST] {
        text(&mut client, &ground.connect(host));
        assert_eq!(who(&mut client), "app");
        assert_eq!(text(&mut client, "SELECT host FROM remote_connections"), host);
    }
    assert!(ground.verifier.verdicts().iter().all(|verdict| verdict.refusal.is_none()));
    // Whatever the database is called, the token is one.
    assert_eq!(signed(&mut client), 1);

    // The check says which name it is.
    let sql = format!(
        "SELECT string_agg(concat_ws(' ', item, ok, detail), E'\\n') FROM secretlink_check('db.example.com', 'app', {}, options => 'sslrootcert={}')",
        ground.remote.port(),
        ground.remote.tls().ca.display()
    );
    let rows = text(&mut client, &sql);
    for part in [
        "region t us-east-1, from the host name",
        &format!("as app@{HOST}:"),
        &format!("proved to be {HOST}"),
    ] {
        assert!(rows.contains(part), "{part}: {rows}");
    }
    // By a foreign server, too; and what it says itself comes first.
    client
        .batch_execute(&format!(
            "CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw
                 OPTIONS (iam_auth 'on', host 'db.example.com', port '{}', dbname 'testdb', sslrootcert '{}');
             CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'app')",
            ground.remote.port(),
            ground.remote.tls().ca.display()
        ))
        .unwrap();
    let sql = "SELECT v FROM dblink('s', 'SELECT current_user') AS t(v text)";
    assert_eq!(text(&mut client, sql), "app");
    client.batch_execute(&format!("ALTER SERVER s OPTIONS (ADD iam_host '{INSTANCE}')")).unwrap();
    let error = refusal(&mut client, sql);
    assert!(error.detail().unwrap().contains(INSTANCE), "{error:?}");
}

/// The name in the chain must be in the certificate. So who forges the DNS gets no token that is good elsewhere.
#[test]
fn a_chain_that_leads_to_somebody_else() {
    let chain = [("db.example.com", HOST), (HOST, MACHINE)];
    let Some(ground) = Ground::with(&chain, &["db.example.com"], |local| local) else { return };
    let mut client = ground.session();
    let error = refusal(&mut client, &ground.connect("db.example.com"));
    assert!(error.detail().unwrap().contains(&format!("does not match host name \"{HOST}\"")), "{error:?}");
    assert!(ground.verifier.verdicts().is_empty(), "no token has left");
}

#[test]
fn names_of_nothing_that_aws_gave() {
    let chain = [("db.example.com", "other.example.com")];
    let Some(ground) =
        Ground::with(&chain, &["db.example.com"], |local| local.conf("secretlink.region = ''"))
    else {
        return;
    };
    let mut client = ground.session();
    let error = refusal(&mut client, &ground.connect("db.example.com"));
    assert_eq!(
        (error.code().code(), error.message()),
        ("22023", "AWS region of host \"db.example.com\" is not known")
    );
    // With a region, the name is signed as it is.
    ground.verifier.expect("db.example.com", ground.remote.port());
    let connect = ground.connect("db.example.com").replace("options =>", "region => 'us-east-1', options =>");
    text(&mut client, &connect);
    assert_eq!(ground.verifier.verdicts()[0].refusal, None);
    let error = refusal(
        &mut client,
        &ground.connect("no-such.example.com").replace("options =>", "region => 'us-east-1', options =>"),
    );
    assert!(error.detail().unwrap().contains("could not translate host name"), "{error:?}");
}
