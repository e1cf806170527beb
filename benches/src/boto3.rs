//! boto3 in PL/Python, as people read secrets in SQL without this extension.

use postgres::Client;
use std::fs;
use std::path::{Path, PathBuf};

/// A function of PL/Python that reads a secret with boto3, and keeps the client.
pub struct Boto3(());

impl Boto3 {
    /// The function, if there is PL/Python and it finds boto3.
    pub fn install(session: &mut Client, endpoint: &str) -> Option<Boto3> {
        let made = session.batch_execute(&format!(
            "CREATE EXTENSION plpython3u;
             CREATE FUNCTION boto3_get_secret_value(secret_id text) RETURNS json LANGUAGE plpython3u AS $$
                 if 'client' not in GD:
                     import boto3
                     GD['client'] = boto3.client('secretsmanager', region_name='us-east-1',
                                                 endpoint_url='{endpoint}')
                 return GD['client'].get_secret_value(SecretId=secret_id)['SecretString']
             $$;
             SELECT boto3_get_secret_value('{}')",
            crate::SECRET
        ));
        made.map_err(|error| eprintln!("boto3 in PL/Python is left out: {error}")).ok().map(|()| Boto3(()))
    }

    /// A call of it.
    pub fn call(&self) -> String {
        format!("boto3_get_secret_value('{}')", crate::SECRET)
    }
}

/// Where the Python packages of the moto environment are, boto3 among them.
pub fn python_path() -> Option<PathBuf> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/moto-venv/lib");
    let mut versions = fs::read_dir(lib).ok()?.flatten().map(|entry| entry.path().join("site-packages"));
    versions.find_map(|path| path.join("boto3").is_dir().then(|| path.canonicalize().ok())?)
}
