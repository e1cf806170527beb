//! What the references in `docs/` list is what there is, and every link leads somewhere.

use postgres::Client;
use secretlink_e2e::{Cluster, Moto};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The cells of each row of the tables in a page, without the backquotes around a whole cell.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cell = |cell: &str| {
        let cell = cell.trim();
        cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap_or(cell).to_owned()
    };
    page.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(cell).collect())
        .collect()
}

fn names(client: &mut Client, sql: &str) -> BTreeSet<String> {
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// A value of `pg_settings` in the largest unit that it is a whole number of, as SHOW has it.
fn shown(value: &str, unit: Option<&str>) -> String {
    let units: &[(u64, &str)] = match unit {
        Some("ms") => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")],
        Some("s") => &[(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")],
        Some("min") => &[(1440, "d"), (60, "h"), (1, "min")],
        Some("kB") => &[(1024, "MB"), (1, "kB")],
        _ => return if value.is_empty() { "unset".into() } else { value.to_owned() },
    };
    let number: u64 = value.parse().unwrap();
    match units.iter().find(|(size, _)| number > 0 && number.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", number / size),
        None => value.to_owned(),
    }
}

#[test]
fn the_references_list_what_there_is() {
    let moto = Moto::start();
    let server = Cluster::local(&moto).preload(true).start();
    let mut client = server.connect("postgres", "postgres");

    // Without the types of defaults, which are the arguments'.
    let there = names(
        &mut client,
        r"SELECT format('%s(%s)', proname, (
             SELECT string_agg(a, ', ' ORDER BY n)
             FROM regexp_split_to_table(
                 regexp_replace(pg_get_function_arguments(p.oid), '::[a-z ]+(\[\])?', '', 'g'), ', (?=(?:OUT )?\w+ )')
                 WITH ORDINALITY AS arguments(a, n)
             WHERE a NOT LIKE 'OUT %'))
           FROM pg_depend d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
           WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
             AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')",
    );
    let listed: BTreeSet<_> = rows(&page("reference-functions.md"))
        .into_iter()
        .map(|row| row[0].clone())
        .filter(|cell| cell.contains('('))
        .collect();
    assert_eq!(listed.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new(), "listed, and not there");
    assert_eq!(there.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "there, and not listed");

    let settings = client
        .query(
            "SELECT name, coalesce(boot_val, ''), unit, context FROM pg_settings WHERE name LIKE 'secretlink.%'",
            &[],
        )
        .unwrap();
    let there: BTreeSet<_> = settings
        .iter()
        .map(|row| {
            let who = match row.get(3) {
                "user" => "any role, for its session",
                "superuser" => "superusers",
                "sighup" => "the configuration; needs a reload",
                "postmaster" => "the configuration; needs a restart",
                other => other,
            };
            (row.get::<_, String>(0), shown(row.get(1), row.get(2)), who.to_owned())
        })
        .collect();
    let listed: BTreeSet<_> = rows(&page("reference-settings.md"))
        .into_iter()
        .filter(|row| row[0].starts_with("secretlink."))
        .map(|row| (row[0].clone(), row[1].clone(), row[3].clone()))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn the_page_of_views_has_every_column() {
    let moto = Moto::start();
    let server = Cluster::local(&moto).preload(true).start();
    let there = names(
        &mut server.connect("postgres", "postgres"),
        "SELECT format('%s.%s', relname, attname)
         FROM pg_depend d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND relkind = 'v'
         JOIN pg_attribute ON attrelid = c.oid AND attnum > 0
         WHERE d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
           AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'secretlink')",
    );
    let page = page("monitoring.md");
    let mut listed = BTreeSet::new();
    for section in page.split("\n### ").skip(1) {
        let view = section.lines().next().unwrap();
        // The first cell of a row names one column, or several.
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let columns = row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2);
            listed.extend(columns.map(|column| format!("{view}.{column}")));
        }
    }
    assert_eq!(listed, there);
}

/// What looks like a SQLSTATE in the sources: five digits and capital letters between quotes, in files that
/// speak of SQLSTATEs.
fn sqlstates(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                sqlstates(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            if !code.contains("SqlState") {
                continue;
            }
            let is_sqlstate = |word: &&str| {
                word.len() == 5
                    && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
                    && word.bytes().any(|b| b.is_ascii_digit())
            };
            found.extend(code.split('"').filter(is_sqlstate).map(str::to_owned));
        }
    }
}

#[test]
fn the_reference_of_errors_has_every_sqlstate() {
    let mut there = BTreeSet::new();
    sqlstates(&root().join("src"), &mut there);
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        sqlstates(&entry.unwrap().path().join("src"), &mut there);
    }
    assert!(there.contains("55006") && there.len() > 30, "{there:?}");
    let page = page("reference-errors.md");
    let missing: Vec<_> = there.iter().filter(|code| !page.contains(code.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new());
    let listed = rows(&page).into_iter().filter_map(|row| row.get(1).cloned());
    for code in listed.flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>()) {
        let is_sqlstate = code.len() == 5 && code.bytes().any(|b| b.is_ascii_digit());
        assert!(!is_sqlstate || there.contains(&code), "{code} is listed, and nowhere in the code");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        pages.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|p| root().join(p)));
    let mut dead = Vec::new();
    for path in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !link.contains("://") && !path.parent().unwrap().join(file).exists() {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}
