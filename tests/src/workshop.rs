//! Certificates by the program `openssl`, which makes all kinds of them.

use crate::os_user::OsUser;
use crate::private_file::private_file;
use crate::temp_dir::TempDir;
use crate::version_1::{Issuer, version_1};
use std::cell::Cell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// A directory with an authority (`root.crt`, `root.key`), where more is made.
#[derive(Debug)]
pub struct Workshop {
    directory: TempDir,
    made: Cell<usize>,
}

impl Workshop {
    /// `None` if there is no such program.
    pub fn open() -> Option<Workshop> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("skipped: there is no openssl program to make certificates with");
            return None;
        }
        let workshop = Workshop { directory: TempDir::new(), made: Cell::new(0) };
        let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
        workshop.root("root", "RSA", authority);
        Some(workshop)
    }

    /// Where the files are.
    pub fn directory(&self) -> &TempDir {
        &self.directory
    }

    /// The path of a file there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file, which is text.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs `openssl` with these arguments, separated by blanks.
    pub fn run(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output =
            command.args(arguments.split_whitespace()).current_dir(self.directory.path()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// For a file that `openssl` has made: as [`private_file`].
    pub fn make_private(&self, name: &str) {
        let path = self.path(name);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        OsUser::for_servers().own(&path);
    }

    /// An authority of its own: `name.crt`, `name.key`. Without extensions it is of version 1.
    pub fn root(&self, name: &str, algorithm: &str, extensions: &str) {
        self.request(name, algorithm, &format!("/CN={name} authority"));
        if extensions.is_empty() {
            return version_1(self.directory.path(), name, Issuer::Own(name), 30, name);
        }
        let extensions = self.extensions(name, extensions);
        self.run(&format!(
            "x509 -req -in {name}.csr -days 30 -signkey {name}.key {extensions} -out {name}.crt"
        ));
    }

    /// An authority below `root`.
    pub fn intermediate(&self, name: &str, extensions: &str) {
        let subject = format!("/CN={name}_authority");
        let (cert, key) = self.signed_by("root", "RSA", &subject, extensions, "");
        private_file(self.path(&format!("{name}.crt")), &cert);
        private_file(self.path(&format!("{name}.key")), &key);
    }

    /// Certificate and key of a server `localhost` below `root`.
    pub fn leaf(&self, algorithm: &str, extensions: &str) -> (String, String) {
        self.leaf_below("root", algorithm, extensions, "")
    }

    /// Certificate and key of a server `localhost` below `issuer`.
    pub fn leaf_below(
        &self,
        issuer: &str,
        algorithm: &str,
        extensions: &str,
        serial: &str,
    ) -> (String, String) {
        self.signed_by(issuer, algorithm, "/CN=localhost", extensions, serial)
    }

    /// Certificate and key signed by `issuer`. Without extensions it is of version 1, and `serial` does not count.
    pub fn signed_by(
        &self,
        issuer: &str,
        algorithm: &str,
        subject: &str,
        extensions: &str,
        serial: &str,
    ) -> (String, String) {
        let name = self.fresh();
        self.request(&name, algorithm, subject);
        if extensions.is_empty() {
            version_1(self.directory.path(), &name, Issuer::Authority(issuer), 30, &name);
        } else {
            let extensions = self.extensions(&name, extensions);
            let number = self.made.get();
            let serial = if serial.is_empty() { format!("{}", 1000 + number) } else { serial.to_owned() };
            self.run(&format!(
                "x509 -req -in {name}.csr -days 30 -CA {issuer}.crt -CAkey {issuer}.key -set_serial {serial} {extensions} -out {name}.crt"
            ));
        }
        (self.read(&format!("{name}.crt")), self.read(&format!("{name}.key")))
    }

    /// Certificate and key of a server `localhost` that nobody else has signed.
    pub fn self_signed(&self, algorithm: &str) -> (String, String) {
        let name = self.fresh();
        self.request(&name, algorithm, "/CN=localhost");
        self.run(&format!("x509 -req -in {name}.csr -days 30 -signkey {name}.key -out {name}.crt"));
        (self.read(&format!("{name}.crt")), self.read(&format!("{name}.key")))
    }

    fn fresh(&self) -> String {
        self.made.set(self.made.get() + 1);
        format!("made{}", self.made.get())
    }

    fn request(&self, name: &str, algorithm: &str, subject: &str) {
        let subject = subject.replace(' ', "_");
        self.run(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
        self.run(&format!("req -new -key {name}.key -subj {subject} -out {name}.csr"));
    }

    fn extensions(&self, name: &str, extensions: &str) -> String {
        fs::write(self.path(&format!("{name}.ext")), format!("{extensions}\n")).unwrap();
        format!("-extfile {name}.ext")
    }
}
