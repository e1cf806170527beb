//! The files of AWS's command line, read before the SDK would: it takes any number of bytes from a file, waits
//! for ever where that is a pipe, and keeps whatever a `credential_process` writes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use secretlink_core::{OutOfMemory, file};

use crate::AwsError;

/// The largest of these files that is read.
const MAX_FILE: usize = 1 << 20;

/// The longest output of a `credential_process`, in bytes. No credentials are as long.
const MAX_OUTPUT: usize = 64 * 1024;

/// The most bytes that the program may write about an error.
const MAX_COMPLAINT: usize = 4096;

/// The two files of profiles.
const PROFILES: [(EnvConfigFileKind, &str, &str); 2] = [
    (EnvConfigFileKind::Config, "AWS_CONFIG_FILE", "~/.aws/config"),
    (EnvConfigFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
];

/// Files whose names the environment gives, which the SDK reads when it needs them.
const TOKENS: [&str; 2] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];

/// What is in the files of profiles. One that is not there, cannot be read or is not a plain file counts as
/// empty, as in the SDK.
///
/// # Errors
/// If one of them is too large, or a file with a token that the environment or a profile names is no file to read
/// a token from.
pub(crate) fn files() -> Result<EnvConfigFiles, AwsError> {
    for variable in TOKENS {
        if let Some(path) = std::env::var_os(variable) {
            check(Path::new(&path))?;
        }
    }
    let mut files = EnvConfigFiles::builder();
    for (kind, variable, default) in PROFILES {
        let path = expand(&std::env::var(variable).unwrap_or_else(|_| default.to_owned()));
        let content = match file::read(&path, MAX_FILE) {
            Ok(content) => String::from_utf8(content).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                return Err(OutOfMemory { bytes: None }.into());
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                return Err(unusable(&path, "is too large"));
            }
            Err(_) => String::new(),
        };
        for token in values(&content, "web_identity_token_file") {
            check(Path::new(token))?;
        }
        files = files.with_contents(kind, with_bounded_processes(&content));
    }
    Ok(files.build())
}

/// Whether this is a file that can be read to its end; one that is not there is for the SDK to tell.
fn check(path: &Path) -> Result<(), AwsError> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(unusable(path, "is not a plain file")),
        Ok(metadata) if metadata.len() > MAX_FILE as u64 => Err(unusable(path, "is too large")),
        _ => Ok(()),
    }
}

fn unusable(path: &Path, why: &str) -> AwsError {
    AwsError::CredentialsFailed { reason: format!("{} {why}.", path.display()), unreachable: false }
}

/// The path, with the home directory in place of a `~` at its beginning.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

/// The file, with the output of each `credential_process` bounded.
fn with_bounded_processes(content: &str) -> String {
    let mut bounded = String::with_capacity(content.len());
    for line in content.lines() {
        match line.split_once('=') {
            Some((name, command)) if name.trim().eq_ignore_ascii_case("credential_process") => {
                bounded
                    .push_str(&format!("{name}= {}\n", with_bounded_output(without_comment(command).trim())));
            }
            _ => {
                bounded.push_str(line);
                bounded.push('\n');
            }
        }
    }
    bounded
}

/// What the lines of this name say, in whichever profile.
fn values<'a>(content: &'a str, wanted: &str) -> impl Iterator<Item = &'a str> {
    content.lines().filter_map(move |line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| without_comment(value).trim())
    })
}

/// A comment begins with a `#` or `;` behind white space.
fn without_comment(value: &str) -> &str {
    let begins = value.match_indices([' ', '\t']).find(|(at, _)| value[at + 1..].starts_with(['#', ';']));
    begins.map_or(value, |(at, _)| &value[..at])
}

/// A command that does what `command` does and ends as it does, but that writes only so much. What writes on
/// is ended by SIGPIPE. Needs no more than a POSIX shell.
fn with_bounded_output(command: &str) -> String {
    let quoted = command.replace('\'', r"'\''");
    // Three: where the output goes. Four: how the command ended. Five: from the command to what cuts its output.
    format!(
        "exec 3>&1; s=$({{ {{ {{ {{ sh -c '{quoted}'; echo $? >&4; }} 2>&1 >&5 3>&- | head -c {MAX_COMPLAINT} >&2; }} 5>&1 | head -c {MAX_OUTPUT} >&3; }} 4>&1; }}); exit $s"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn run(command: &str) -> (Option<i32>, String, String) {
        let output = Command::new("sh").args(["-c", &with_bounded_output(command)]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    #[test]
    fn a_process_does_what_it_did() {
        assert_eq!(run("echo \"it's\" 'a test' # really"), (Some(0), "it's a test\n".into(), String::new()));
        assert_eq!(run("echo no >&2; exit 7"), (Some(7), String::new(), "no\n".into()));
    }

    #[test]
    fn a_process_without_end_ends() {
        let (code, output, _) = run("yes");
        assert_eq!((code, output.len()), (Some(141), MAX_OUTPUT));
        let (code, output, complaint) = run("yes >&2; exit 3");
        assert_eq!((code, output.len(), complaint.len()), (Some(3), 0, MAX_COMPLAINT));
    }

    #[test]
    fn only_processes_are_changed() {
        let file = "[default]\nregion = x\ncredential_process = a 'b' #c\n[profile p]\n s3 =\n  a = b";
        let bounded = with_bounded_processes(file);
        let lines: Vec<&str> = bounded.lines().collect();
        assert_eq!(
            (lines[0], lines[1], lines[3], lines[5]),
            ("[default]", "region = x", "[profile p]", "  a = b")
        );
        assert_eq!(lines[2], format!("credential_process = {}", with_bounded_output("a 'b'")));
        assert_eq!(without_comment(lines[2]), lines[2], "nothing in it is taken for a comment");
        let named: Vec<&str> = values("a = b\n[p]\nA=c d #e\n# a = f\nab = g", "a").collect();
        assert_eq!(named, ["b", "c d"]);
    }
}
