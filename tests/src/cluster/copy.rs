//! Copies of a running cluster.

use super::Cluster;
use crate::os_user::OsUser;
use crate::port::free_port;
use crate::postgres_bin::PostgresBin;
use crate::private_file::private_file;
use crate::temp_dir::TempDir;
use std::fs;
use std::process::Command;

impl Cluster {
    /// A base backup of this running server, with a port of its own, still to be started. The server's
    /// `pg_hba.conf` must let `postgres` replicate over the Unix socket, as that of a local cluster does.
    pub fn base_backup(&self) -> Cluster {
        let directory = TempDir::new();
        let sockets = directory.path().join("s");
        fs::create_dir(&sockets).expect("cannot make a directory");
        OsUser::for_servers().own(&sockets);
        let copy = Cluster {
            server: None,
            port: free_port(),
            listen_on_tcp: self.listen_on_tcp,
            address_space: self.address_space,
            environment: self.environment.clone(),
            tls: None,
            app_password: None,
            directory,
        };
        let mut command = Command::new(PostgresBin::get().program("pg_basebackup"));
        command
            .args(["--checkpoint=fast", "--no-sync", "--username=postgres", "--pgdata"])
            .arg(copy.data_dir())
            .args(["--port", &self.port.to_string(), "--host"])
            .arg(self.socket_dir())
            .current_dir("/");
        let output = OsUser::for_servers().apply(&mut command).output().expect("cannot run pg_basebackup");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        copy
    }

    /// A running standby of this server that no commit waits for.
    pub fn standby(&self) -> Cluster {
        let mut standby = self.base_backup();
        standby.follow(self);
        standby.start();
        standby
    }

    /// Makes this server, which does not run, a standby of that one.
    pub fn follow(&self, primary: &Cluster) {
        let primary = primary.conninfo("postgres", "postgres");
        self.append_conf(&[format!("primary_conninfo = '{primary} application_name=second'")]);
        private_file(self.data_dir().join("standby.signal"), "");
    }

    /// Brings this server, which was the primary and does not run, to the state of the new one, which runs.
    pub fn rewind_to(&self, primary: &Cluster) {
        let mut command = Command::new(PostgresBin::get().program("pg_rewind"));
        command
            .arg("--target-pgdata")
            .arg(self.data_dir())
            .args(["--source-server", &primary.conninfo("postgres", "postgres")])
            .current_dir("/");
        let output = OsUser::for_servers().apply(&mut command).output().expect("cannot run pg_rewind");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A running standby of this server that commits wait for: `synchronous_standby_names` has it.
    pub fn synchronous_standby(&self) -> Cluster {
        let standby = self.standby();
        let mut session = self.connect("postgres", "postgres");
        session.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'second'").expect("ALTER SYSTEM");
        session.batch_execute("SELECT pg_reload_conf()").expect("cannot reload");
        crate::eventually("commits wait for the standby", std::time::Duration::from_secs(60), || {
            let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            let found: i64 = session.query_one(sql, &[]).expect("no answer").get(0);
            if found == 1 { Ok(()) } else { Err(format!("{found}")) }
        });
        standby
    }
}
