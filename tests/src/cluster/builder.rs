//! What a cluster is to be like, before it starts.

use super::Cluster;
use crate::moto::Moto;
use crate::os_user::OsUser;
use crate::random_password;
use crate::temp_dir::TempDir;
use crate::template;
use crate::tls::TlsFiles;
use std::fs;

/// A cluster still to be started.
#[derive(Debug)]
pub struct ClusterBuilder {
    flavour: Flavour,
    conf: Vec<String>,
    hba: Vec<String>,
    environment: Vec<(String, String)>,
    listen_on_tcp: bool,
    address_space: Option<u64>,
    preload: bool,
    demo_tables: bool,
    server_names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    Plain,
    Local,
    Remote,
}

/// All a server under test knows of the world: nothing of the AWS settings, proxies, backtraces or
/// `PG*` variables of the user who runs the tests.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("LANG", "C.UTF-8"),
    ("TZ", "UTC"),
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
    // Off EC2, looking for its metadata service costs seconds.
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// Throw-away data need not survive a power cut, and 2 MB of buffers start faster than 128.
const CONF: [&str; 8] = [
    "fsync = off",
    "full_page_writes = off",
    "synchronous_commit = off",
    "shared_buffers = 16MB",
    "max_connections = 100",
    "logging_collector = off",
    "log_line_prefix = '%m [%p] %q%u@%d '",
    "timezone = 'UTC'",
];

/// The demo's data, in the remote database `testdb`, owned by `app`.
const DEMO_TABLES: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text NOT NULL);
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,
                         item text NOT NULL, amount numeric(10, 2) NOT NULL, ordered date NOT NULL);
    INSERT INTO customers VALUES (1, 'Ada', 'London'), (2, 'Grace', 'New York'), (3, 'Edsger', 'Rotterdam');
    INSERT INTO orders VALUES (101, 1, 'analytical engine', 1843.00, '2026-01-05'),
                              (102, 2, 'nanosecond wire', 0.30, '2026-01-06'),
                              (103, 2, 'moth tape', 12.50, '2026-01-09'),
                              (104, 3, 'shortest path', 20.00, '2026-01-11');";

impl Cluster {
    /// An ordinary Postgres: Unix socket only, everybody trusted.
    pub fn plain() -> ClusterBuilder {
        ClusterBuilder::new(Flavour::Plain)
    }

    /// A Postgres with the extension, which finds its secrets in `moto`.
    pub fn local(moto: &Moto) -> ClusterBuilder {
        Self::local_with_endpoint(&moto.endpoint())
    }

    /// A Postgres with the extension and the given Secrets Manager endpoint.
    pub fn local_with_endpoint(endpoint_url: &str) -> ClusterBuilder {
        ClusterBuilder::new(Flavour::Local)
            .conf("secretlink.region = 'us-east-1'")
            .conf(&format!("secretlink.endpoint_url = '{endpoint_url}'"))
    }

    /// A Postgres to connect to: 127.0.0.1 with TLS and SCRAM, a role `app` with a random password,
    /// and its database `testdb`. Only `postgres` is trusted, over the Unix socket.
    pub fn remote() -> ClusterBuilder {
        ClusterBuilder::new(Flavour::Remote).tcp()
    }
}

impl ClusterBuilder {
    fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            conf: CONF.map(str::to_owned).to_vec(),
            hba: Vec::new(),
            environment: ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            listen_on_tcp: false,
            address_space: None,
            preload: false,
            demo_tables: false,
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        }
    }

    /// Add a line to `postgresql.conf`. Of two lines for one setting the later one counts.
    pub fn conf(mut self, line: &str) -> Self {
        self.conf.push(line.to_owned());
        self
    }

    /// Add a line to `pg_hba.conf`, before the default ones.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// How `user` logs in over TCP: `connection` is `hostssl`, `hostnossl` or `host`, `method` is
    /// `md5`, `password`, `trust`, `cert`, `reject` and so on.
    pub fn auth(self, connection: &str, user: &str, method: &str) -> Self {
        self.hba(&format!("{connection} all {user} 127.0.0.1/32 {method}"))
    }

    /// Set a variable of the server's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self = self.without_env(name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Take a variable out of the server's environment, for example `AWS_ACCESS_KEY_ID`.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Has the server listen on 127.0.0.1, too.
    pub fn tcp(mut self) -> Self {
        self.listen_on_tcp = true;
        self
    }

    /// Give the postmaster, and each of its children, so many bytes of address space and no more, as
    /// `ulimit -v` does: what goes beyond it fails as where memory has run out.
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.address_space = Some(bytes);
        self
    }

    /// Load the extension's library with the server: `shared_preload_libraries`.
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// Fill a remote cluster's `testdb` with the demo's tables `customers` and `orders`.
    pub fn demo_tables(mut self) -> Self {
        self.demo_tables = true;
        self
    }

    /// The names in a remote cluster's certificate, instead of `localhost` and `127.0.0.1`.
    pub fn server_names(mut self, names: &[&str]) -> Self {
        self.server_names = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Make and start it.
    pub fn start(mut self) -> Cluster {
        let directory = TempDir::new();
        for name in ["s", "home"] {
            let path = directory.path().join(name);
            fs::create_dir(&path).expect("cannot make a directory");
            OsUser::for_servers().own(&path);
        }
        if !self.environment.iter().any(|(name, _)| name == "HOME") {
            // An empty one: the AWS files of the user who runs the tests are not the server's.
            self = self.env("HOME", &directory.path().join("home").display().to_string());
        }
        if self.preload {
            self = self.conf("shared_preload_libraries = 'secretlink'");
        }

        let tls = (self.flavour == Flavour::Remote)
            .then(|| TlsFiles::generate(directory.path(), &self.server_names, "app"));
        if let Some(tls) = &tls {
            self.conf.extend([
                "ssl = on".to_owned(),
                format!("ssl_ca_file = '{}'", tls.ca.display()),
                format!("ssl_cert_file = '{}'", tls.server_cert.display()),
                format!("ssl_key_file = '{}'", tls.server_key.display()),
                "password_encryption = 'scram-sha-256'".to_owned(),
            ]);
        }
        self.hba.extend(self.default_hba().iter().map(|&line| line.to_owned()));

        let mut cluster = Cluster {
            server: None,
            port: 0,
            listen_on_tcp: self.listen_on_tcp,
            address_space: self.address_space,
            environment: self.environment,
            tls,
            app_password: (self.flavour == Flavour::Remote).then(random_password),
            directory,
        };
        template::copy_to(&cluster.data_dir());
        cluster.append_conf(&self.conf);
        fs::write(cluster.data_dir().join("pg_hba.conf"), self.hba.join("\n") + "\n")
            .expect("cannot write pg_hba.conf");
        cluster.start_on_free_port();

        match self.flavour {
            Flavour::Plain => {}
            Flavour::Local => cluster
                .connect("postgres", "postgres")
                .batch_execute("CREATE EXTENSION secretlink")
                .unwrap_or_else(|e| {
                    panic!("CREATE EXTENSION failed (is it installed? `make install-dev`): {e:?}")
                }),
            Flavour::Remote => {
                cluster.create_login("app", cluster.app_password(), "scram-sha-256");
                let mut client = cluster.connect("postgres", "postgres");
                client.batch_execute("CREATE DATABASE testdb OWNER app").expect("cannot create testdb");
                if self.demo_tables {
                    cluster
                        .connect("postgres", "testdb")
                        .batch_execute(&format!("SET ROLE app; {DEMO_TABLES}"))
                        .expect("cannot create the demo's tables");
                }
            }
        }
        cluster
    }

    fn default_hba(&self) -> &'static [&'static str] {
        match self.flavour {
            Flavour::Plain | Flavour::Local => &[
                "local all all trust",
                "local replication postgres trust",
                "host all all 127.0.0.1/32 trust",
            ],
            Flavour::Remote => &["local all postgres trust", "hostssl all all 127.0.0.1/32 scram-sha-256"],
        }
    }
}
