//! The URI syntax (fe-connect.c, `conninfo_uri_parse_options` and `conninfo_uri_parse_params`):
//! `postgresql://[user[:password]@][host][:port][,…][/dbname][?keyword=value[&…]]`.

use super::error::{ConnInfoError, UriProblem};
use super::keywords;
use super::options::{Options, without_requiressl};
use super::value::parse_int;

/// Adds what the URI says to `options`. `uri` is the URI behind its designator, `length` that of
/// all of it.
pub(super) fn parse(length: usize, uri: &str, options: &mut Options) -> Result<(), ConnInfoError> {
    let source = Source { length };
    let rest = source.user_and_password(uri, options)?;

    // libpq goes on here, with a piece of a password that was not encoded as host or database name.
    let before_query = rest.split('?').next().unwrap_or_default();
    if let Some(at) = before_query.find('@') {
        return Err(problem(UriProblem::StrayAt, source.byte(rest) + at));
    }

    let rest = source.hosts_and_ports(rest, options)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let dbname = path.strip_prefix('/').unwrap_or_default();
    // "host/" asks for the default database, and PGDATABASE is part of that.
    if !dbname.is_empty() {
        store(options, "dbname", &decode(dbname, source.byte(rest) + 1)?)?;
    }
    source.parameters(query, options)
}

/// Tells positions in the URI.
struct Source {
    length: usize,
}

impl Source {
    /// The position, from 1, at which `rest` starts, which must reach to the end of the URI.
    fn byte(&self, rest: &str) -> usize {
        self.length - rest.len() + 1
    }

    /// Reads what comes before "@", if there is one before the first "/".
    fn user_and_password<'a>(&self, uri: &'a str, options: &mut Options) -> Result<&'a str, ConnInfoError> {
        let (authority, _) = uri.split_once('/').unwrap_or((uri, ""));
        let Some((user, _)) = authority.split_once('@') else { return Ok(uri) };
        let (_, rest) = uri.split_once('@').unwrap_or((uri, ""));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        if !user.is_empty() {
            store(options, "user", &decode(user, self.byte(uri))?)?;
        }
        if !password.is_empty() {
            store(options, "password", &decode(password, self.byte(uri) + user.len() + 1)?)?;
        }
        Ok(rest)
    }

    /// Reads `host:port,host:port…`.
    fn hosts_and_ports<'a>(
        &self,
        mut rest: &'a str,
        options: &mut Options,
    ) -> Result<&'a str, ConnInfoError> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        loop {
            let host;
            let start = self.byte(rest);
            if let Some(inside) = rest.strip_prefix('[') {
                let Some((address, behind)) = inside.split_once(']') else {
                    return Err(problem(UriProblem::UnclosedBracket, start));
                };
                if address.is_empty() {
                    return Err(problem(UriProblem::EmptyBrackets, start));
                }
                if !behind.is_empty() && !behind.starts_with([':', '/', '?', ',']) {
                    return Err(problem(UriProblem::AfterBracket, self.byte(behind)));
                }
                host = decode(address, start + 1)?;
                rest = behind;
            } else {
                let text;
                (text, rest) = split_before(rest, &[':', '/', '?', ',']);
                host = decode(text, start)?;
            }
            hosts.extend(host);

            if let Some(behind) = rest.strip_prefix(':') {
                let start = self.byte(behind);
                let text;
                (text, rest) = split_before(behind, &['/', '?', ',']);
                let port = decode(text, start)?;
                if !port.is_empty() && !is_port(&port) {
                    return Err(problem(UriProblem::Port, start));
                }
                ports.extend(port);
            }

            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
            hosts.push(b',');
            ports.push(b',');
        }
        if !hosts.is_empty() {
            store(options, "host", &hosts)?;
        }
        if !ports.is_empty() {
            store(options, "port", &ports)?;
        }
        Ok(rest)
    }

    /// Reads `keyword=value&keyword=value…`.
    fn parameters(&self, mut rest: &str, options: &mut Options) -> Result<(), ConnInfoError> {
        while !rest.is_empty() {
            let start = self.byte(rest);
            let (parameter, next) = rest.split_once('&').unwrap_or((rest, ""));
            rest = next;

            let known = |name| keywords::find(name).map(|k| k.name);
            let Some((name, value)) = parameter.split_once('=') else {
                return Err(problem(UriProblem::MissingSeparator(known(parameter)), start));
            };
            if value.contains('=') {
                return Err(problem(UriProblem::ExtraSeparator(known(name)), start));
            }
            let value = decode(value, start + name.len() + 1)?;
            let name = String::from_utf8(decode(name, start)?)
                .map_err(|_| problem(UriProblem::UnknownParameter, start))?;
            let (name, value): (&str, &[u8]) = match (name.as_str(), value.as_slice()) {
                // As JDBC has it.
                ("ssl", b"true") => ("sslmode", b"require"),
                (name, value) => without_requiressl(name, value),
            };
            match keywords::find(name) {
                Some(keyword) => options.store(keyword, value)?,
                None if keywords::looks_like_one(name) => {
                    return Err(ConnInfoError::UnknownParameter { name: name.to_owned() });
                }
                None => return Err(problem(UriProblem::UnknownParameter, start)),
            }
        }
        Ok(())
    }
}

fn problem(problem: UriProblem, byte: usize) -> ConnInfoError {
    ConnInfoError::Uri { problem, byte }
}

fn store(options: &mut Options, name: &str, value: &[u8]) -> Result<(), ConnInfoError> {
    match keywords::find(name) {
        Some(keyword) => options.store(keyword, value),
        None => Ok(()),
    }
}

/// Splits before the first of `ends`.
fn split_before<'a>(text: &'a str, ends: &[char]) -> (&'a str, &'a str) {
    text.find(ends).and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""))
}

fn is_port(text: &[u8]) -> bool {
    let number = std::str::from_utf8(text).ok().and_then(|text| parse_int("port", text).ok());
    number.is_some_and(|n| (1..=65535).contains(&n))
}

/// Percent-decodes `text`, which starts at position `byte`.
fn decode(text: &str, byte: usize) -> Result<Vec<u8>, ConnInfoError> {
    // As much as can be needed, so that no piece of a password is left behind by growing.
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().enumerate();
    while let Some((at, b)) = bytes.next() {
        if b != b'%' {
            decoded.push(b);
            continue;
        }
        let mut digit = || bytes.next().and_then(|(_, b)| char::from(b).to_digit(16));
        match (digit(), digit()) {
            (Some(0), Some(0)) => return Err(problem(UriProblem::PercentZero, byte + at)),
            (Some(high), Some(low)) => decoded.extend(u8::try_from(high * 16 + low)),
            _ => return Err(problem(UriProblem::PercentToken, byte + at)),
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Report;

    /// The options as `keyword=value` pairs, in alphabetical order.
    fn pairs(uri: &str) -> Result<String, ConnInfoError> {
        let options = Options::parse(uri)?;
        let value = |k: &str| match options.password() {
            Some(password) if k == "password" => String::from_utf8_lossy(password.expose()).into_owned(),
            _ => options.get(k).unwrap_or("?").to_owned(),
        };
        Ok(options.keywords().map(|k| format!("{k}={}", value(k))).collect::<Vec<_>>().join(" "))
    }

    /// Inputs from libpq's own tests (src/interfaces/libpq/t/001_uri.pl), and more of the kind.
    #[test]
    fn accepts() {
        for (uri, expected) in [
            ("postgresql://", ""),
            ("postgres://", ""),
            ("postgres:///", ""),
            ("postgres:///db", "dbname=db"),
            ("postgresql://host", "host=host"),
            ("postgresql://host/", "host=host"),
            ("postgresql://host?", "host=host"),
            ("postgresql://host/db", "dbname=db host=host"),
            ("postgresql://host:12345/db", "dbname=db host=host port=12345"),
            ("postgres://host:/", "host=host"),
            ("postgres://:12345/", "port=12345"),
            ("postgresql://u@", "user=u"),
            ("postgres://@host", "host=host"),
            ("postgres://u@/db", "dbname=db user=u"),
            ("postgresql://u:pw@host:1/db", "dbname=db host=host password=pw port=1 user=u"),
            ("postgresql://:pw@host", "host=host password=pw"),
            ("postgresql://u:@host", "host=host user=u"),
            ("postgresql://u:a:b?c@host", "host=host password=a:b?c user=u"),
            ("postgresql://u%40x:p%40%2F%3a%25w@host", "host=host password=p@/:%w user=u@x"),
            ("postgresql://%68ost/%C3%A9", "dbname=é host=host"),
            ("postgresql://?hostaddr=127.0.0.1", "hostaddr=127.0.0.1"),
            ("postgresql://h?hostaddr=63.1.2.4", "host=h hostaddr=63.1.2.4"),
            ("postgresql://h/db?user=u&port=2", "dbname=db host=h port=2 user=u"),
            ("postgresql://h:1/?port=2&", "host=h port=2"),
            ("postgresql://h/db?u%73er=u", "dbname=db host=h user=u"),
            ("postgresql://[::1]:12345/db", "dbname=db host=::1 port=12345"),
            ("postgresql://[2001:db8::1234]/", "host=2001:db8::1234"),
            ("postgresql://[::1]", "host=::1"),
            ("postgresql://[::1]?user=u", "host=::1 user=u"),
            ("postgres://?host=/path/to/dir", "host=/path/to/dir"),
            ("postgres://u@:12345/db?host=/d", "dbname=db host=/d port=12345 user=u"),
            ("postgres://%2Fvar%2Flib/db", "dbname=db host=/var/lib"),
            ("postgres://%40abstract/db", "dbname=db host=@abstract"),
            ("postgres://a:1,b:2,[::1]:3/db", "dbname=db host=a,b,::1 port=1,2,3"),
            ("postgres://a,b:2/db", "dbname=db host=a,b port=,2"),
            ("postgres://a,b", "host=a,b port=,"),
            ("postgres://h/d?ssl=true", "dbname=d host=h sslmode=require"),
            ("postgres://h/d?requiressl=1", "dbname=d host=h sslmode=require"),
            ("postgres://h/d?options=-c%20a%3Db", "dbname=d host=h options=-c a=b"),
            ("postgres://h/d?user=me@corp", "dbname=d host=h user=me@corp"),
            ("postgres://h/a/b", "dbname=a/b host=h"),
            ("postgres://h/d?password=p@w%26", "dbname=d host=h password=p@w&"),
        ] {
            let found = pairs(uri).unwrap_or_else(|e| panic!("{uri}: {e}"));
            assert_eq!(found, expected, "{uri}");
        }
    }

    #[test]
    fn a_password_may_be_any_bytes() {
        let options = Options::parse("postgres://u:%ff%01@h").unwrap();
        assert_eq!(options.password().map(|p| p.expose().to_vec()), Some(vec![0xff, 1]));
    }

    #[test]
    fn rejects() {
        for (uri, message) in [
            ("postgre://", "missing \"=\" at byte 1 in connection info string"),
            (
                "postgres://[::1",
                "end of string reached when looking for matching \"]\" in IPv6 host address in URI, at byte 12",
            ),
            ("postgres://[]", "IPv6 host address may not be empty in URI, at byte 12"),
            ("postgres://[::1]z", "unexpected character in URI (expected \":\" or \"/\"), at byte 17"),
            ("postgresql://host?zzz", "missing key/value separator \"=\" in URI query parameter, at byte 19"),
            (
                "postgresql://host?port&user=x",
                "missing key/value separator \"=\" in URI query parameter \"port\", at byte 19",
            ),
            (
                "postgresql://host?user=x&&port=1",
                "missing key/value separator \"=\" in URI query parameter, at byte 26",
            ),
            (
                "postgresql://host?password=a=b",
                "extra key/value separator \"=\" in URI query parameter \"password\", at byte 19",
            ),
            ("postgresql://host?uzer=", "invalid URI query parameter: \"uzer\""),
            ("postgresql://host/?u%7aer=x", "invalid URI query parameter: \"uzer\""),
            ("postgresql://host?Pw1=x", "invalid URI query parameter, at byte 19"),
            ("postgresql://host?ssl=false", "invalid URI query parameter: \"ssl\""),
            ("postgres://host?dbname=%XXfoo", "invalid percent-encoded token in URI, at byte 24"),
            ("postgresql://a%00b", "forbidden value %00 in percent-encoded value in URI, at byte 15"),
            ("postgresql://u:pa%zz@h", "invalid percent-encoded token in URI, at byte 18"),
            ("postgresql://%1", "invalid percent-encoded token in URI, at byte 14"),
            ("postgresql://%", "invalid percent-encoded token in URI, at byte 14"),
            ("postgresql://%é", "invalid percent-encoded token in URI, at byte 14"),
            ("postgresql://h/%ff", "value of connection option \"dbname\" is not valid UTF-8"),
            ("postgresql://h?%ff=", "invalid URI query parameter, at byte 16"),
            ("postgresql://h:70000/db", "invalid port number in URI, at byte 16"),
            ("postgresql://h:0", "invalid port number in URI, at byte 16"),
            ("postgres://user:password", "invalid port number in URI, at byte 17"),
            ("postgres://u:p@ss@h/db", "unexpected \"@\" in URI, at byte 18"),
            ("postgres://u:1/2@h/db", "unexpected \"@\" in URI, at byte 17"),
        ] {
            let error = pairs(uri).unwrap_err();
            assert_eq!(error.to_string(), message, "{uri}");
            assert_eq!(error.sqlstate().as_str(), "22023");
        }
        assert!(pairs("postgres://u:p/w@h").unwrap_err().hint().unwrap_or_default().contains("%2F"));
        assert_eq!(
            pairs("postgres://h?uzer=").unwrap_err().hint().as_deref(),
            Some("Perhaps you meant the option \"user\".")
        );
    }
}
