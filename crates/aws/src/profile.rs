//! The files of AWS's command line, read before the SDK would: it takes any number of bytes from a file, waits
//! for ever where that is a pipe, and keeps whatever a `credential_process` writes.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use secretlink_core::{OutOfMemory, file};

use crate::{AwsError, Settings};

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
/// If one of them is too large, or a file with a token that the environment or the profile names is no file to read
/// a token from.
pub(crate) fn files(settings: &Settings) -> Result<EnvConfigFiles, AwsError> {
    let used = settings.profile.clone().or_else(|| std::env::var("AWS_PROFILE").ok());
    let used = used.as_deref().unwrap_or("default");
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
        files = files.with_contents(kind, bounded(&content, used)?);
    }
    Ok(files.build())
}

/// Whether this is a file that can be read to its end; one that is not there is for the SDK to tell.
fn check(path: &Path) -> Result<(), AwsError> {
    problem(path).map_or(Ok(()), |why| Err(unusable(path, why)))
}

fn problem(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Some("is not a plain file"),
        Ok(metadata) if metadata.len() > MAX_FILE as u64 => Some("is too large"),
        _ => None,
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

/// The file, with the output of each `credential_process` bounded, and with no file of a token that has no end.
///
/// # Errors
/// If the profile that is used names such a file.
fn bounded(content: &str, used: &str) -> Result<String, AwsError> {
    let mut bounded = String::with_capacity(content.len());
    let mut is_used = false;
    for line in content.lines() {
        is_used = profile_of(line).map_or(is_used, |profile| profile == used);
        match line.split_once('=') {
            Some((name, value)) => {
                bounded.push_str(&bounded_line(line, name, without_comment(value).trim(), is_used)?);
            }
            None => bounded.push_str(line),
        }
        bounded.push('\n');
    }
    Ok(bounded)
}

fn bounded_line<'a>(line: &'a str, name: &str, value: &str, is_used: bool) -> Result<Cow<'a, str>, AwsError> {
    let is = |wanted: &str| name.trim().eq_ignore_ascii_case(wanted);
    if is("credential_process") {
        return Ok(format!("{name}= {}", with_bounded_output(value)).into());
    }
    let why = if is("web_identity_token_file") { problem(Path::new(value)) } else { None };
    match why {
        Some(why) if is_used => Err(unusable(Path::new(value), why)),
        // Another profile may lead to this one. The SDK has no source of this name, tells it, and looks no further.
        Some(why) => Ok(format!("credential_source = {value} {why}").into()),
        None => Ok(line.into()),
    }
}

/// The profile that begins with this line, if one does: `[default]`, `[profile other]`.
fn profile_of(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.split(']').next()?.trim();
    let rest = name.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t']));
    Some(rest.unwrap_or(name).trim().trim_matches('"'))
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
    fn only_what_has_no_end_is_changed() {
        let file = "[default]\nregion = x\ncredential_process = a 'b' #c\n[profile p]\n s3 =\n  a = b\n\
                    Web_Identity_Token_File=/dev/zero ;d\nweb_identity_token_file = /dev/null/none";
        let refused = bounded(file, "p").unwrap_err();
        assert!(matches!(refused, AwsError::CredentialsFailed { .. }), "{refused:?}");
        let bounded = bounded(file, "default").unwrap();
        let lines: Vec<&str> = bounded.lines().collect();
        assert_eq!(
            (lines[0], lines[1], lines[3], lines[5]),
            ("[default]", "region = x", "[profile p]", "  a = b")
        );
        assert_eq!(lines[2], format!("credential_process = {}", with_bounded_output("a 'b'")));
        assert_eq!(without_comment(lines[2]), lines[2], "nothing in it is taken for a comment");
        assert_eq!(lines[6], "credential_source = /dev/zero is not a plain file");
        assert_eq!(profile_of("[profile \"a b\"] # c"), Some("a b"));
        assert_eq!(lines[7], "web_identity_token_file = /dev/null/none", "that is for the SDK to tell");
    }
}
