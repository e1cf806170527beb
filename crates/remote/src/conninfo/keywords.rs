//! The keywords of a connection string.

/// One keyword (`PQconninfoOptions` in libpq's fe-connect.c).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Keyword {
    pub name: &'static str,
    /// The environment variable that stands in when the string does not give the keyword.
    pub variable: Option<&'static str>,
    /// Whether the value is never to be shown.
    pub secret: bool,
    /// The first major version of libpq that knows the keyword, 14 standing for any up to that.
    pub since: u16,
}

const fn plain(name: &'static str) -> Keyword {
    Keyword { name, variable: None, secret: false, since: 14 }
}

const fn with_variable(name: &'static str, variable: &'static str) -> Keyword {
    Keyword { variable: Some(variable), ..plain(name) }
}

const fn secret(name: &'static str) -> Keyword {
    Keyword { secret: true, ..plain(name) }
}

impl Keyword {
    const fn since(self, version: u16) -> Keyword {
        Keyword { since: version, ..self }
    }
}

/// Every keyword of libpq up to 19, in libpq's order.
pub(super) const KEYWORDS: &[Keyword] = &[
    with_variable("service", "PGSERVICE"),
    with_variable("servicefile", "PGSERVICEFILE").since(19),
    with_variable("user", "PGUSER"),
    Keyword { variable: Some("PGPASSWORD"), ..secret("password") },
    with_variable("passfile", "PGPASSFILE"),
    with_variable("channel_binding", "PGCHANNELBINDING"),
    with_variable("connect_timeout", "PGCONNECT_TIMEOUT"),
    with_variable("dbname", "PGDATABASE"),
    with_variable("host", "PGHOST"),
    with_variable("hostaddr", "PGHOSTADDR"),
    with_variable("port", "PGPORT"),
    with_variable("client_encoding", "PGCLIENTENCODING"),
    with_variable("options", "PGOPTIONS"),
    with_variable("application_name", "PGAPPNAME"),
    plain("fallback_application_name"),
    plain("keepalives"),
    plain("keepalives_idle"),
    plain("keepalives_interval"),
    plain("keepalives_count"),
    plain("tcp_user_timeout"),
    with_variable("sslmode", "PGSSLMODE"),
    with_variable("sslnegotiation", "PGSSLNEGOTIATION").since(17),
    with_variable("sslcompression", "PGSSLCOMPRESSION"),
    with_variable("sslcert", "PGSSLCERT"),
    with_variable("sslkey", "PGSSLKEY"),
    with_variable("sslcertmode", "PGSSLCERTMODE").since(16),
    secret("sslpassword"),
    with_variable("sslrootcert", "PGSSLROOTCERT"),
    with_variable("sslcrl", "PGSSLCRL"),
    with_variable("sslcrldir", "PGSSLCRLDIR"),
    with_variable("sslsni", "PGSSLSNI"),
    with_variable("requirepeer", "PGREQUIREPEER"),
    with_variable("require_auth", "PGREQUIREAUTH").since(16),
    with_variable("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    with_variable("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    with_variable("min_protocol_version", "PGMINPROTOCOLVERSION").since(18),
    with_variable("max_protocol_version", "PGMAXPROTOCOLVERSION").since(18),
    with_variable("gssencmode", "PGGSSENCMODE"),
    with_variable("krbsrvname", "PGKRBSRVNAME"),
    with_variable("gsslib", "PGGSSLIB"),
    with_variable("gssdelegation", "PGGSSDELEGATION").since(16),
    plain("replication"),
    with_variable("target_session_attrs", "PGTARGETSESSIONATTRS"),
    with_variable("load_balance_hosts", "PGLOADBALANCEHOSTS").since(16),
    secret("scram_client_key").since(18),
    secret("scram_server_key").since(18),
    plain("oauth_issuer").since(18),
    plain("oauth_client_id").since(18),
    secret("oauth_client_secret").since(18),
    plain("oauth_scope").since(18),
    plain("sslkeylogfile").since(18),
    plain("oauth_ca_file").since(19),
];

/// The keyword of that exact name.
pub(super) fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|k| k.name == name)
}

/// The keyword that somebody who wrote `name` probably meant.
pub(super) fn closest(name: &str) -> Option<&'static str> {
    closest_match(name, KEYWORDS.iter().map(|k| k.name), 3)
}

/// The first of the candidates nearest to `name`, at most so many edits and half the name away, as in
/// the server's own hints (varlena.c, `updateClosestMatch`).
pub fn closest_match<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    at_most: usize,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= at_most && *distance <= name.len() / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether `name` reads like a keyword, so that a message may repeat it.
pub(super) fn looks_like_one(name: &str) -> bool {
    // Postgres's own limit for names.
    (1..64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        // What the cells left and diagonally above of the next one hold.
        let (mut left, mut diagonal) = (i + 1, i);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (to, cell) in b.chars().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in
            [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("h\u{f6}st", "hots", 3)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        for (name, expected) in [
            ("sslmod", Some("sslmode")),
            ("hostname", None),
            ("usr", Some("user")),
            ("username", None),
            ("passwrd", Some("password")),
            ("db_name", Some("dbname")),
            ("x", None),
            ("", None),
            ("connection_timeout", Some("connect_timeout")),
        ] {
            assert_eq!(closest(name), expected, "{name}");
        }
    }

    #[test]
    fn names_are_unique_and_look_like_names() {
        for (i, keyword) in KEYWORDS.iter().enumerate() {
            assert!(looks_like_one(keyword.name));
            assert_eq!(KEYWORDS.iter().position(|k| k.name == keyword.name), Some(i));
        }
    }
}
