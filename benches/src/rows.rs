//! Reading many rows.

use crate::Setting;
use crate::measure::{Candidate, Ratio, Subject, Unit, timed};
use postgres::Client;

/// A remote table and how it is read.
struct Table {
    title: &'static str,
    name: &'static str,
    make: &'static str,
    columns: &'static str,
    /// An expression over all columns, so that postgres_fdw has to fetch them, too.
    count: &'static str,
}

const TABLES: [Table; 3] = [
    Table {
        title: "1,000,000 rows of int4, text, timestamptz, numeric, float8",
        name: "mixed",
        make: "SELECT i AS a, 'customer ' || i AS b, '2024-01-01'::timestamptz + i * interval '1.001 s' AS c,
                      (i * 1.37)::numeric(12, 2)::numeric AS d, sqrt(i::float8) AS e
               FROM generate_series(1, 1000000) AS i",
        columns: "a int, b text, c timestamptz, d numeric, e float8",
        count: "count(a), count(b), count(c), count(d), count(e)",
    },
    Table {
        title: "100,000 rows of ten text columns",
        name: "texts",
        make: "SELECT md5(i::text) AS a, 'customer ' || i AS b, repeat('x', i % 40) AS c, 'e' || i AS d,
                      md5((i + 1)::text) AS e, 'some street ' || i % 300 AS f, 'a city' AS g, 'DE' AS h,
                      md5((i + 2)::text) AS i, 'a note' AS j
               FROM generate_series(1, 100000) AS i",
        columns: "a text, b text, c text, d text, e text, f text, g text, h text, i text, j text",
        count: "count(a), count(b), count(c), count(d), count(e), count(f), count(g), count(h), count(i), count(j)",
    },
    Table {
        title: "1,000 rows of 1 MB bytea",
        name: "blobs",
        make: "SELECT i AS a, decode(repeat(md5(i::text), 32768), 'hex') || decode(repeat(md5(i::text), 32768), 'hex') AS b
               FROM generate_series(1, 1000) AS i",
        columns: "a int, b bytea",
        count: "count(a), count(b)",
    },
];

/// Makes the tables at the remote server.
pub fn make_tables(remote: &mut Client) {
    for table in &TABLES {
        let Table { name, make, .. } = table;
        remote
            .batch_execute(&format!("CREATE TABLE {name} AS {make}; GRANT SELECT ON {name} TO app"))
            .expect("the table is made");
    }
}

pub fn subjects<'a>(setting: &'a Setting<'a>) -> impl Iterator<Item = Subject<'a>> {
    TABLES.iter().map(|table| subject(setting, table))
}

fn subject<'a>(setting: &'a Setting<'a>, table: &Table) -> Subject<'a> {
    let Table { name, columns, count, .. } = table;
    let dblink =
        |schema| format!("SELECT count(*) FROM {schema}.dblink('c', 'SELECT * FROM {name}') AS t({columns})");
    let mut fdw = setting.session();
    fdw.batch_execute(&format!("CREATE FOREIGN TABLE {name} ({columns}) SERVER remote"))
        .expect("a foreign table");
    // The outer query must not be pushed down, nor a column left out.
    let foreign = format!("SELECT {count} FROM (SELECT * FROM {name} OFFSET 0) AS t");
    let candidate = |name, mut client: Client, sql: String| Candidate {
        name,
        once: Box::new(move || timed(|| client.batch_execute(&sql).expect("the statement works"))),
    };
    Subject {
        title: table.title.into(),
        unit: Unit::Seconds,
        repeats: 1,
        candidates: vec![
            candidate(CONTRIB, setting.connected("contrib"), dblink("contrib")),
            candidate(OURS, setting.connected("public"), dblink("public")),
            candidate(FDW, fdw, foreign),
        ],
        ratios: vec![
            Ratio { title: "contrib / secretlink", over: CONTRIB, less: None, under: OURS },
            Ratio { title: "postgres_fdw / secretlink", over: FDW, less: None, under: OURS },
        ],
        differences: Vec::new(),
    }
}

const CONTRIB: &str = "contrib dblink";
const OURS: &str = "secretlink dblink";
const FDW: &str = "postgres_fdw";
