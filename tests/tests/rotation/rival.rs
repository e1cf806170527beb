//! A rotation function, called as AWS calls it: one of our own by the steps that AWS documents, or AWS's own
//! code. `ROTATION_LAMBDAS` is where a clone of github.com/aws-samples/aws-secrets-manager-rotation-lambdas is.

use crate::ground::{Subject, api, log_in};
use secretlink_e2e::{Moto, SecretsApi, random_password, unique};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

/// Where AWS's own functions are, if they are to be tried.
pub fn aws_functions() -> Option<PathBuf> {
    std::env::var_os("ROTATION_LAMBDAS").map(PathBuf::from)
}

/// AWS, which calls a rotation function for one secret.
pub struct Rival<'a> {
    api: SecretsApi,
    subject: &'a Subject<'a>,
    /// AWS's own function; else ours.
    function: Option<Function>,
    /// The version that the rotation is about.
    token: String,
}

impl<'a> Rival<'a> {
    pub fn of(subject: &'a Subject<'a>) -> Rival<'a> {
        let is_pair = subject.at("AWSCURRENT").get("masterarn").is_some();
        let function = aws_functions().map(|directory| {
            let kind = if is_pair { "MultiUser" } else { "SingleUser" };
            let directory = directory.join(format!("SecretsManagerRDSPostgreSQLRotation{kind}"));
            Function::start(directory.join("lambda_function.py"))
        });
        Rival { api: api(), subject, function, token: String::new() }
    }

    fn has_begun(&self) -> bool {
        self.api.version_at(&self.subject.secret, "AWSPENDING").as_deref() == Some(&self.token)
            && self.api.version_at(&self.subject.secret, "AWSCURRENT").as_deref() != Some(&self.token)
    }

    /// Begins a rotation, or goes on with the one that has begun: AWS calls a function that has failed again, with
    /// the same token.
    pub fn rotate(&mut self) -> Result<(), String> {
        if !self.has_begun() {
            self.token = unique("rival-function-token");
            let input = json!({
                "SecretId": self.subject.secret, "ClientRequestToken": self.token,
                "RotationLambdaARN": "arn:aws:lambda:us-east-1:123456789012:function:rival",
            });
            self.api.call("RotateSecret", input).map_err(|e| format!("{e:?}"))?;
        }
        for step in STEPS {
            match &mut self.function {
                Some(function) => function.call(&self.subject.secret, &self.token, step)?,
                None => self.step(step)?,
            }
        }
        Ok(())
    }

    /// Brings the rotation that has begun to its end.
    pub fn come_to_rest(&mut self) {
        for _ in 0..100 {
            if !self.has_begun() {
                return;
            }
            let _ = self.rotate();
        }
        panic!("the function does not come to its end: {:?}", self.rotate());
    }

    fn read(&self, version: Value) -> Result<Value, String> {
        let mut input = version;
        input["SecretId"] = json!(self.subject.secret);
        let answer = self.api.call("GetSecretValue", input).map_err(|e| format!("{e:?}"))?;
        let text = answer["SecretString"].as_str().ok_or("no text")?;
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    fn pending(&self) -> Result<Value, String> {
        self.read(json!({ "VersionId": self.token, "VersionStage": "AWSPENDING" }))
    }

    /// A step of a function without a lock, a rollback, or a look at what others do.
    fn step(&self, step: &str) -> Result<(), String> {
        let Subject { secret, server, role, .. } = self.subject;
        let current = self.read(json!({ "VersionStage": "AWSCURRENT" }))?;
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let logs_in = |login: &Value| log_in(server, &text(login, "username"), &text(login, "password"));
        match step {
            "createSecret" if self.pending().is_err() => {
                let mut value = current.clone();
                let user = text(&current, "username");
                if current.get("masterarn").is_some() {
                    let other = user.strip_suffix("_clone").map(str::to_owned);
                    value["username"] = json!(other.unwrap_or_else(|| format!("{user}_clone")));
                }
                value["password"] = json!(random_password());
                let input = json!({ "SecretId": secret, "ClientRequestToken": self.token,
                                    "SecretString": value.to_string(), "VersionStages": ["AWSPENDING"] });
                self.api.call("PutSecretValue", input).map_err(|e| format!("{e:?}"))?;
            }
            "setSecret" if !logs_in(&self.pending()?) => {
                let pending = self.pending()?;
                let mut logins = vec![current.clone()];
                let master = current.get("masterarn").and_then(Value::as_str);
                if master.is_none() {
                    logins.extend(self.read(json!({ "VersionStage": "AWSPREVIOUS" })));
                }
                let mut login = logins.into_iter().find(logs_in).ok_or("no password logs in")?;
                if let Some(master) = master {
                    login = serde_json::from_str(&self.api.get_secret_value(master).unwrap()).unwrap();
                }
                let conninfo = format!(
                    "host=127.0.0.1 port={} user={} password={} dbname=postgres",
                    server.port(),
                    text(&login, "username"),
                    text(&login, "password")
                );
                let (user, password) = (text(&pending, "username"), text(&pending, "password"));
                let make = format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'; GRANT {role} TO {user}");
                let alter = format!("ALTER ROLE {user} PASSWORD '{password}'");
                let is_set = server.psql_with(&conninfo, &alter).success
                    || master.is_some() && server.psql_with(&conninfo, &make).success;
                if !is_set {
                    return Err("the password could not be set".into());
                }
            }
            "testSecret" if !logs_in(&self.pending()?) => {
                return Err("the new password does not log in".into());
            }
            "finishSecret" => {
                let holder = self.api.version_at(secret, "AWSCURRENT").ok_or("no current version")?;
                let moved = self.api.move_label(secret, "AWSCURRENT", Some(&holder), Some(&self.token));
                moved.map_err(|e| format!("{e:?}"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// AWS's own function, as it is.
struct Function {
    process: Child,
    events: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Function {
    fn start(file: PathBuf) -> Function {
        assert!(file.is_file(), "{} is not there", file.display());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rotation_function.py");
        let mut process = Command::new(Moto::python())
            .arg(script)
            .arg(file)
            .env("SECRETS_MANAGER_ENDPOINT", crate::ground::moto().endpoint())
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its log.
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run Python");
        let (events, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Function { process, events, answers: BufReader::new(answers) }
    }

    fn call(&mut self, secret: &str, token: &str, step: &str) -> Result<(), String> {
        let event = json!({ "SecretId": secret, "ClientRequestToken": token, "Step": step });
        writeln!(self.events, "{event}").unwrap();
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer).unwrap();
        assert_ne!(read, 0, "the function has ended; are its modules there? (pip install PyGreSQL==5.2.5)");
        match answer.trim() {
            "" => Ok(()),
            error => Err(format!("{step}: {error}")),
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
