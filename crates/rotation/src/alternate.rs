//! A role and its clone: `alternating_users`.

use secretlink_core::Secret;

use crate::Trouble;
use crate::admin_session::AdminSession;
use crate::statement::{identifier, literal};

/// What AWS's functions add to a role's name.
const SUFFIX: &str = "_clone";
/// The longest name of a role, in bytes (NAMEDATALEN - 1).
const MAX_NAME: usize = 63;

/// The base role of a pair, by the name of either.
pub(crate) fn base_of(role: &str) -> &str {
    role.strip_suffix(SUFFIX).filter(|base| !base.is_empty()).unwrap_or(role)
}

/// The other role of a pair.
///
/// # Errors
/// If it would have too long a name.
pub(crate) fn alternate_of(role: &str) -> Result<String, Trouble> {
    let base = base_of(role);
    match base == role {
        false => Ok(base.to_owned()),
        true if role.len() + SUFFIX.len() > MAX_NAME => Err(Trouble::CloneName { role: role.to_owned() }),
        true => Ok(format!("{role}{SUFFIX}")),
    }
}

/// The statements that give `pending`, one of a pair, a new password; its verifier goes where they need
/// it. A clone is made if there is none, and made equal to its base role in any case.
///
/// # Errors
/// If the two are no pair.
pub(crate) async fn statements(
    session: &mut AdminSession,
    current: &str,
    pending: &str,
    verifier: &Secret,
) -> Result<Secret, Trouble> {
    let base = base_of(pending);
    let clone = if base == pending { current } else { pending };
    let look = format!(
        "SELECT b.rolname IS NOT NULL, c.rolname IS NOT NULL, \
             EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = b.oid AND m.member = c.oid), \
             EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass \
                 AND d.refobjid = c.oid AND d.deptype = 'o'), \
             b.rolconnlimit, b.rolvaliduntil::text \
         FROM (SELECT) AS one LEFT JOIN pg_roles b ON b.rolname = {} LEFT JOIN pg_roles c ON c.rolname = {}",
        literal(base),
        literal(clone)
    );
    let rows = session.rows("look at the roles", &look).await?;
    let field = |place: usize| rows.first().and_then(|row| row.get(place)?.clone()).unwrap_or_default();
    let is = |place: usize| field(place) == "t";
    if !is(0) {
        // Of a role that has been called so from the beginning there is no base.
        return Err(Trouble::NoRole { role: base.to_owned() });
    }
    let pair = || (base.to_owned(), clone.to_owned());
    if is(1) && !is(2) {
        let (role, clone) = pair();
        return Err(Trouble::NotAClone { role, clone });
    }
    if is(3) {
        let (role, clone) = pair();
        return Err(Trouble::CloneOwns { role, clone });
    }
    let verifier = verifier.expose_str().unwrap_or_default();
    if base == pending {
        return Ok(Secret::new(format!("ALTER ROLE {} PASSWORD '{verifier}'", identifier(base))));
    }
    let (base_name, name) = (identifier(base), identifier(clone));
    let until = if field(5).is_empty() { "infinity".into() } else { field(5) };
    let mut sql = String::new();
    if !is(1) {
        sql.push_str(&format!("CREATE ROLE {name} LOGIN; GRANT {base_name} TO {name}; "));
    }
    sql.push_str(&format!(
        "ALTER ROLE {name} LOGIN CONNECTION LIMIT {} VALID UNTIL {} PASSWORD '{verifier}'",
        field(4),
        literal(&until)
    ));
    for statement in settings(session, base, clone).await? {
        sql.push_str("; ");
        sql.push_str(&statement);
    }
    Ok(Secret::new(sql))
}

/// The statements that give a clone the settings of its base role, and only those.
async fn settings(session: &mut AdminSession, base: &str, clone: &str) -> Result<Vec<String>, Trouble> {
    let look = format!(
        "SELECT r.rolname = {}, d.datname, s.setting \
         FROM pg_db_role_setting r0 JOIN pg_roles r ON r.oid = r0.setrole \
             LEFT JOIN pg_database d ON d.oid = r0.setdatabase \
             CROSS JOIN LATERAL unnest(r0.setconfig) WITH ORDINALITY AS s(setting, place) \
         WHERE r.rolname IN ({}, {}) ORDER BY d.datname NULLS FIRST, s.place",
        literal(base),
        literal(base),
        literal(clone)
    );
    let (mut of_base, mut of_clone) = (Vec::new(), Vec::new());
    for row in session.rows("look at the roles' settings", &look).await? {
        let mut row = row.into_iter();
        let mut next = || row.next().flatten();
        let (is_base, database, setting) = (next(), next(), next().unwrap_or_default());
        let Some((name, value)) = setting.split_once('=') else { continue };
        // It is the clone's own, and what makes it act as its base role.
        if name.eq_ignore_ascii_case("role") {
            if is_base.as_deref() != Some("t") && database.is_none() && value == base {
                of_clone.push((None, "role".to_owned(), base.to_owned()));
            }
            continue;
        }
        let list = if is_base.as_deref() == Some("t") { &mut of_base } else { &mut of_clone };
        list.push((database, name.to_owned(), value.to_owned()));
    }
    of_base.push((None, "role".to_owned(), base.to_owned()));
    let alter = |database: &Option<String>| match database {
        Some(database) => format!("ALTER ROLE {} IN DATABASE {}", identifier(clone), identifier(database)),
        None => format!("ALTER ROLE {}", identifier(clone)),
    };
    let mut statements = Vec::new();
    // Only what differs: some settings are for superusers, and a master that is none need not touch them
    // once they are right.
    for (database, name, _) in of_clone.iter().filter(|(database, name, _)| {
        !of_base.iter().any(|(in_database, of, _)| in_database == database && of == name)
    }) {
        statements.push(format!("{} RESET {}", alter(database), setting_name(name)));
    }
    for setting in of_base.iter().filter(|setting| !of_clone.contains(setting)) {
        let (database, name, value) = setting;
        statements.push(format!(
            "{} SET {} TO {}",
            alter(database),
            setting_name(name),
            setting_value(name, value)
        ));
    }
    Ok(statements)
}

/// A setting's name, which may have a dot in it.
fn setting_name(name: &str) -> String {
    name.split('.').map(identifier).collect::<Vec<_>>().join(".")
}

/// Settings whose value is a list of quoted names (GUC_LIST_QUOTE in guc_tables.c), as pg_dump knows them.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

fn setting_value(name: &str, value: &str) -> String {
    if !LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        return literal(value);
    }
    let names = split_list(value);
    if names.is_empty() {
        "''".into()
    } else {
        names.iter().map(|n| literal(n)).collect::<Vec<_>>().join(", ")
    }
}

/// The names of a list such as `"$user", public` (varlena.c, SplitGUCList).
fn split_list(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = list.trim();
    while !rest.is_empty() {
        let mut name = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut characters = quoted.char_indices().peekable();
            let mut end = quoted.len();
            while let Some((place, c)) = characters.next() {
                if c != '"' {
                    name.push(c);
                } else if characters.next_if(|(_, next)| *next == '"').is_some() {
                    name.push('"');
                } else {
                    end = place + 1;
                    break;
                }
            }
            rest = quoted[end..].trim_start();
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            name.push_str(rest[..end].trim_end());
            rest = &rest[end..];
        }
        names.push(name);
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        assert_eq!(alternate_of("app").unwrap(), "app_clone");
        assert_eq!(alternate_of("app_clone").unwrap(), "app");
        assert_eq!(alternate_of("_clone").unwrap(), "_clone_clone");
        assert_eq!(alternate_of(&"x".repeat(57)).unwrap().len(), 63);
        assert!(matches!(alternate_of(&"x".repeat(58)), Err(Trouble::CloneName { .. })));
        assert!(matches!(alternate_of(&"é".repeat(29)), Err(Trouble::CloneName { .. })));
    }

    #[test]
    fn lists_of_names() {
        assert_eq!(split_list("\"$user\", public"), ["$user", "public"]);
        assert_eq!(split_list("\"a\"\"b,c\" , d"), ["a\"b,c", "d"]);
        assert!(split_list("").is_empty());
        assert_eq!(split_list("\"open"), ["open"]);
        assert_eq!(setting_value("search_path", "\"$user\", public"), "'$user', 'public'");
        assert_eq!(setting_value("search_path", ""), "''");
        assert_eq!(setting_value("work_mem", "4MB"), "'4MB'");
        assert_eq!(setting_name("my.x\"y"), "\"my\".\"x\"\"y\"");
    }
}
