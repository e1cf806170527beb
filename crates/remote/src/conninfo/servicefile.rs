//! Service files (PostgreSQL documentation, "The Connection Service File"; fe-connect.c,
//! `parseServiceInfo` and `parseServiceFile`).

use std::io;
use std::path::{Path, PathBuf};

use secretlink_core::file;

use super::environment::Environment;
use super::error::ConnInfoError;
use super::keywords;
use super::options::Options;
use super::value::is_space;

/// More than any service file holds.
const MAX_SIZE: usize = 1024 * 1024;

/// Where Debian's libpq looks when `PGSYSCONFDIR` is not set.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// What the service named in `given` or by the environment says; nothing if none is named.
pub(super) fn look_up(given: &Options, environment: &Environment) -> Result<Options, ConnInfoError> {
    let service = given.get("service").or_else(|| environment.var("PGSERVICE")).unwrap_or_default();
    if service.is_empty() {
        return Ok(Options::default());
    }

    let named = given.get("servicefile").or_else(|| environment.var("PGSERVICEFILE"));
    let home = || environment.home().map(|home| home.join(".pg_service.conf")).filter(|path| path.exists());
    if let Some(path) = named.map(PathBuf::from).or_else(home)
        && let Some(options) = read_service(&path, service)?
    {
        return Ok(options);
    }

    let directory = environment.var("PGSYSCONFDIR").unwrap_or(SYSTEM_DIRECTORY);
    let path = Path::new(directory).join("pg_service.conf");
    if path.exists()
        && let Some(options) = read_service(&path, service)?
    {
        return Ok(options);
    }
    Err(ConnInfoError::ServiceNotFound { service: service.to_owned() })
}

/// The options of one service in one file; `None` if the file does not define it.
fn read_service(path: &Path, service: &str) -> Result<Option<Options>, ConnInfoError> {
    let content = file::read(path, MAX_SIZE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ConnInfoError::ServiceFileNotFound { path: path.to_owned() },
        _ => ConnInfoError::ServiceFileUnreadable { path: path.to_owned(), source: error },
    })?;

    let mut options: Option<Options> = None;
    for (index, line) in content.split(|b| *b == b'\n').enumerate() {
        let line = trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(group) = line.strip_prefix(b"[") {
            if options.is_some() {
                break;
            }
            if group.strip_prefix(service.as_bytes()).is_some_and(|rest| rest.starts_with(b"]")) {
                options = Some(Options::default());
            }
            continue;
        }
        if let Some(options) = &mut options {
            add_line(line, options).map_err(|problem| ConnInfoError::ServiceFileLine {
                problem,
                path: path.to_owned(),
                line: index + 1,
            })?;
        }
    }
    Ok(options)
}

/// Adds one `keyword=value` line, unless the keyword is there: the first one counts.
fn add_line(line: &[u8], options: &mut Options) -> Result<(), &'static str> {
    const SYNTAX_ERROR: &str = "syntax error";
    if line.starts_with(b"ldap") {
        return Err("unsupported LDAP lookup");
    }
    let at = line.iter().position(|b| *b == b'=').ok_or(SYNTAX_ERROR)?;
    let (name, value) = line.split_at_checked(at).ok_or(SYNTAX_ERROR)?;
    let value = value.strip_prefix(b"=").unwrap_or_default();
    if matches!(name, b"service" | b"servicefile") {
        return Err("unsupported nested service specification");
    }
    let keyword = std::str::from_utf8(name).ok().and_then(keywords::find).ok_or(SYNTAX_ERROR)?;
    if value.contains(&0) {
        return Err(SYNTAX_ERROR);
    }
    if !options.contains(keyword) {
        options.store(keyword, value).map_err(|_| "invalid value")?;
    }
    Ok(())
}

fn trim(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b] = line
        && is_space(*b)
    {
        line = rest;
    }
    while let [b, rest @ ..] = line
        && is_space(*b)
    {
        line = rest;
    }
    line
}
