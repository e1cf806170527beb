//! Keywords as options of foreign servers and user mappings.

use super::keywords::{KEYWORDS, Keyword};

/// What an option is set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionOf {
    /// `CREATE SERVER`.
    Server,
    /// `CREATE USER MAPPING`.
    UserMapping,
}

/// The keywords that may be options of a server or of a user mapping, as far as libpq of that major
/// version knows them, in libpq's order (dblink.c, `is_valid_dblink_option`).
pub fn foreign_options(of: OptionOf, libpq: u16) -> impl Iterator<Item = &'static str> {
    KEYWORDS.iter().filter(move |k| k.since <= libpq && place(k) == Some(of)).map(|k| k.name)
}

/// Where a keyword belongs: who connects to the user mapping, the rest to the server, and nowhere
/// what is not for users to say.
fn place(keyword: &Keyword) -> Option<OptionOf> {
    match keyword.name {
        // The encoding is always that of the local database. libpq calls the next four debug options.
        "client_encoding" | "replication" | "scram_client_key" | "scram_server_key" | "sslkeylogfile" => None,
        name if name.starts_with("oauth_") => None,
        "user" => Some(OptionOf::UserMapping),
        _ if keyword.secret => Some(OptionOf::UserMapping),
        _ => Some(OptionOf::Server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_connects_belongs_to_the_mapping() {
        for version in [14, 19] {
            let found: Vec<_> = foreign_options(OptionOf::UserMapping, version).collect();
            assert_eq!(found, ["user", "password", "sslpassword"]);
        }
    }

    #[test]
    fn each_version_adds_its_own() {
        let added = |version| -> Vec<&str> {
            let before: Vec<_> = foreign_options(OptionOf::Server, version - 1).collect();
            foreign_options(OptionOf::Server, version).filter(|name| !before.contains(name)).collect()
        };
        assert_eq!(foreign_options(OptionOf::Server, 15).count(), 31);
        assert_eq!(added(15), [""; 0]);
        assert_eq!(added(16), ["sslcertmode", "require_auth", "gssdelegation", "load_balance_hosts"]);
        assert_eq!(added(17), ["sslnegotiation"]);
        assert_eq!(added(18), ["min_protocol_version", "max_protocol_version"]);
        assert_eq!(added(19), ["servicefile"]);
    }
}
