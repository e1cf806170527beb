//! The servers that all trials share.

use secretlink_e2e::{Cluster, Moto, SecretsApi, unique};
use std::sync::OnceLock;

/// The servers, all as talkative as they can be.
pub struct Ground {
    pub local: Cluster,
    /// TLS, and for members of the roles `md5` and `cleartext` these ways to log in.
    pub remote: Cluster,
    /// A remote without TLS.
    pub plain: Cluster,
    pub moto: Moto,
}

/// Never dropped: guardians end its servers when the process ends.
pub fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let moto = Moto::start();
        let loud = [
            "log_min_messages = debug5",
            "log_error_verbosity = verbose",
            "log_min_error_statement = error",
            "log_connections = on",
            "log_disconnections = on",
        ];
        let local = loud.iter().fold(Cluster::local(&moto), |builder, line| builder.conf(line)).start();
        let remote = Cluster::remote()
            .auth("hostssl", "+md5", "md5")
            .auth("hostssl", "+cleartext", "password")
            .auth("hostssl", "+rejected", "reject")
            .auth("hostnossl", "+unencrypted", "scram-sha-256");
        let remote = loud.iter().fold(remote, |builder, line| builder.conf(line)).start();
        let groups = "CREATE ROLE md5; CREATE ROLE cleartext; CREATE ROLE rejected; CREATE ROLE unencrypted";
        remote.connect("postgres", "postgres").batch_execute(groups).unwrap();
        let plain = Cluster::plain().tcp().auth("host", "all", "scram-sha-256");
        let plain = loud.iter().fold(plain, |builder, line| builder.conf(line)).start();
        Ground { local, remote, plain, moto }
    })
}

pub fn api() -> SecretsApi {
    ground().moto.secrets()
}

/// A role of the remote with this password, in `group` if that is not empty.
pub fn remote_role(password: &str, group: &str) -> String {
    let (remote, role) = (&ground().remote, unique("role"));
    let encryption = if group == "md5" { "md5" } else { "scram-sha-256" };
    remote.create_login(&role, password, encryption);
    if !group.is_empty() {
        let grant = format!("GRANT {group} TO \"{role}\"");
        remote.connect("postgres", "postgres").batch_execute(&grant).unwrap();
    }
    role
}

/// Arguments of `connect_with_secret` after the secret, for the remote.
pub fn at_remote() -> String {
    at_port(ground().remote.port())
}

pub fn at_port(port: u16) -> String {
    format!("'127.0.0.1', 'testdb', remote_port => {port}")
}
