//! Results that come in binary: to the last bit those of the text path, and of contrib dblink.

use crate::cluster::cluster;
use crate::pair::Pair;
use crate::random_value::{ALIKE, RANGES, TYPES, extremes, random, random_array};
use fastrand::Rng;
use postgres::Client;
use secretlink_e2e::Cluster;

/// What the values depend on; `SEED` in the environment changes it.
fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

/// What the remote server has logged as run by the extended protocol.
fn described(cluster: &Cluster, sql: &str) -> usize {
    cluster.log().matches(&format!("LOG:  execute <unnamed>: {sql}\n")).count()
}

/// Puts values into a remote table, and has both paths and contrib read them.
struct Reading<'a> {
    remote: Client,
    local: Client,
    cluster: &'a Cluster,
    tables: usize,
}

impl<'a> Reading<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let mut remote = cluster.connect("postgres", "remote_secretlink");
        // Of money, so that its text has no sign in it that depends on the locale.
        remote.batch_execute("SET lc_monetary = 'C'").unwrap();
        let mut local = cluster.connect("postgres", "local");
        let conninfo = cluster.conninfo("postgres", "remote_secretlink") + " options='-c log_statement=all'";
        local
            .batch_execute(&format!(
                "SELECT contrib.dblink_connect('c', '{0}'); SELECT secretlink.dblink_connect('c', '{0}')",
                conninfo.replace('\'', "''")
            ))
            .unwrap();
        Self { remote, local, cluster, tables: 0 }
    }

    fn compare(&mut self, kind: &str, values: &[String], expressions: &[&str]) {
        self.tables += 1;
        // Without digits: statements that differ in numbers only count as one, and whose result was
        // small comes as text the next time.
        let table: String =
            self.tables.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        let table = format!("values_{table}");
        self.remote.batch_execute(&format!("CREATE TABLE {table} (id serial, v {kind})")).unwrap();
        let literals = values.iter().map(|value| format!("('{}'::{kind})", value.replace('\'', "''")));
        let rows: Vec<_> = literals.chain(expressions.iter().map(|e| format!("({e})"))).collect();
        let rows = rows.join(", ");
        self.remote
            .batch_execute(&format!("INSERT INTO {table} (v) VALUES {rows}, (NULL)"))
            .unwrap_or_else(|e| panic!("{kind}: {e:?}\n{rows}"));

        let sql = format!("SELECT id::text, v FROM {table} ORDER BY id");
        // Two statements at once come as text.
        let reads = [
            ("binary_path", "secretlink", sql.clone()),
            ("text_path", "secretlink", format!("RESET work_mem; {sql}")),
            ("contrib_path", "contrib", sql.clone()),
        ];
        for (name, schema, sql) in reads {
            self.local
                .batch_execute(&format!(
                    "DROP TABLE IF EXISTS {name};
                     CREATE TEMP TABLE {name} AS SELECT * FROM {schema}.dblink('c', '{sql}') AS t(id text, v {kind})"
                ))
                .unwrap_or_else(|e| panic!("{kind}, {name}: {e:?}"));
        }
        // *= compares as they are stored, not by a type's own idea of equality.
        let differing = self
            .local
            .query(
                "SELECT b.id, b.v::text, t.v::text, c.v::text
                 FROM binary_path b FULL JOIN text_path t USING (id) FULL JOIN contrib_path c USING (id)
                 WHERE NOT (b OPERATOR(pg_catalog.*=) t AND b OPERATOR(pg_catalog.*=) c) IS TRUE
                    OR b.id IS NULL OR t.id IS NULL OR c.id IS NULL",
                &[],
            )
            .unwrap();
        for row in &differing {
            let [binary, text, contrib]: [Option<String>; 3] = [row.get(1), row.get(2), row.get(3)];
            eprintln!("{kind}: {binary:?} in binary, {text:?} as text, {contrib:?} with contrib");
        }
        assert!(differing.is_empty(), "{kind} differs; SEED={}", seed());
        let count: i64 = self.local.query_one("SELECT count(*) FROM binary_path", &[]).unwrap().get(0);
        assert_eq!(count as usize, values.len() + expressions.len() + 1);
        let base = kind.trim_end_matches("[]");
        assert_eq!(
            described(self.cluster, &sql) == 1,
            IN_BINARY.contains(&base),
            "whether {kind} came in binary"
        );
    }
}

/// The types whose values come in binary, and those of arrays of them.
const IN_BINARY: [&str; 14] = [
    "bool",
    "bytea",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "numeric",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
];

#[test]
fn values_of_all_built_in_types_are_those_of_the_text_path_to_the_last_bit() {
    let cluster = cluster();
    let mut reading = Reading::new(&cluster);
    println!("SEED={}", seed());
    let mut rng = Rng::with_seed(seed());

    // That none is missing.
    let sql = "SELECT typname::text, typdelim::text FROM pg_type
               WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r') AND typsend <> 0
                 AND NOT (typelem <> 0 AND typcategory = 'A' AND typname LIKE '\\_%')
                 AND typname !~ '^pg_(node_tree|ndistinct|dependencies|mcv_list|brin_.*)$'
               ORDER BY oid";
    let there = reading.remote.query(sql, &[]).unwrap();
    for row in there {
        let (name, delimiter): (String, String) = (row.get(0), row.get(1));
        let kind = if name == "char" { "\"char\"" } else { &name };
        if ALIKE.contains(&kind) {
            continue;
        }
        assert!(
            TYPES.contains(&kind) || RANGES.iter().any(|(range, _)| *range == kind),
            "{kind} is not tested"
        );
        let mut values: Vec<String> = extremes(kind).iter().map(|value| (*value).to_owned()).collect();
        values.extend((0..60).map(|_| random(kind, &mut rng)));
        let nan: &[&str] = match kind {
            // A NaN as a processor makes it, with its sign set.
            "float4" => &["'Infinity'::float4 - 'Infinity'::float4"],
            "float8" => &["'Infinity'::float8 - 'Infinity'::float8"],
            _ => &[],
        };
        // A bit without a length is one bit.
        let declared = if kind == "bit" { "bit(8)" } else { kind };
        reading.compare(declared, &values, nan);
        let nan: Vec<String> = nan.iter().map(|e| format!("ARRAY[[{e}, 1], [2, {e}]]")).collect();
        let nan: Vec<&str> = nan.iter().map(String::as_str).collect();
        let delimiter = delimiter.chars().next().unwrap();
        let values: Vec<String> = (0..40).map(|_| random_array(kind, delimiter, &mut rng)).collect();
        reading.compare(&format!("{declared}[]"), &values, &nan);
    }
    // Multiranges are all alike.
    let values: Vec<String> =
        (0..20).map(|_| format!("{{{}}}", random("numrange", &mut rng).replace("empty", ""))).collect();
    reading.compare("nummultirange", &values, &[]);
}

/// A statement of its own kind each time, so that none is sent as text because the last was small.
fn fetch(number: usize, remote: &str, columns: &str) -> String {
    let name: String = number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
    format!("SELECT * FROM dblink('c', $q${remote} /* {name} */$q$) AS t({columns})")
}

#[test]
fn settings_that_change_text_change_the_result_as_with_contrib() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let moment = "SELECT '2001-02-03 04:05:06.789+00'::timestamptz, '2001-02-03 04:05:06'::timestamp, '2001-02-03'::date, \
                  ARRAY['2001-02-03'::date], 0.1::float8 + 0.2::float8, 0.1::float4, ARRAY[0.1::float8 + 0.2::float8], 1, \
                  '12.5'::numeric, '\\x00ff'::bytea, '04:05:06.7'::time";
    let columns = "a timestamptz, b timestamp, c date, d date[], e float8, f float4, g float8[], h int, \
                   i numeric, j bytea, k time";
    let settings = [
        "DateStyle = 'ISO, DMY'",
        "DateStyle = 'German'",
        "DateStyle = 'SQL, DMY'",
        "DateStyle = 'Postgres, MDY'",
        "TimeZone = 'Asia/Kolkata'",
        "DateStyle = 'ISO'",
        "extra_float_digits = 0",
        "extra_float_digits = -5",
        "extra_float_digits = 3",
        "bytea_output = 'escape'",
        "lc_numeric = 'C'",
    ];
    for (number, setting) in settings.into_iter().enumerate() {
        pair.same(&format!("SELECT dblink_exec('c', $q$SET {setting}$q$)"));
        for local in ["DateStyle = 'ISO, MDY'", "DateStyle = 'German'", "TimeZone = 'America/New_York'"] {
            pair.same(&format!("SET {local}"));
            pair.same(&fetch(number, moment, columns));
            // Small as it is, it now comes as text.
            pair.same(&fetch(number, moment, columns));
        }
    }
}

#[test]
fn what_a_statement_does_and_says_is_the_same() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    pair.same("SELECT dblink_exec('c', 'CREATE SEQUENCE counter; CREATE TABLE u (id int); INSERT INTO u VALUES (7)')");
    // Ours alone passes notices on.
    pair.same("SELECT dblink_exec('c', 'SET client_min_messages = error')");
    for (number, (remote, columns)) in [
        // Once each.
        ("SELECT nextval('counter')", "n int8"),
        ("SELECT nextval('counter')::int", "n int8"),
        ("WITH i AS (INSERT INTO u VALUES (8) RETURNING id) SELECT * FROM i", "n int"),
        ("SELECT id FROM u ORDER BY id FOR UPDATE", "n int"),
        ("VALUES (1, 1.5), (2, NULL)", "a int, b numeric"),
        ("TABLE u", "id int"),
        ("(SELECT 1) UNION (SELECT 2) ORDER BY 1;", "id int"),
        // No columns, or others than expected.
        ("SELECT", "a int"),
        ("SELECT 1, 2", "a int"),
        ("SELECT 1", "a int, b int"),
        ("SELECT 1 INTO made", "a int"),
        ("SELECT 1 INTO made", "a text"),
        ("WITH i AS (INSERT INTO u VALUES (9) RETURNING id) UPDATE u SET id = 10 WHERE id = 9", "a text"),
        // Wrong at each step.
        ("SELECT $1", "a int"),
        ("SELECT $1::int", "a int"),
        ("SELECT * FROM nothing", "a int"),
        ("SELECT FROM WHERE", "a int"),
        ("SELECT 1/0", "a int"),
        ("SELECT 10 / (5 - i) FROM generate_series(1, 9) AS i", "a int"),
        ("SELECT plain_complaint()", "a int"),
        ("SELECT complain('SL123', 'detail', 'hint')", "a int"),
        ("SELECT 1; SELECT 2", "a int"),
        ("SELECT 'unterminated", "a int"),
        ("FETCH 5 FROM nowhere", "a int"),
        // Modifiers.
        ("SELECT 1.005::numeric, 'NaN'::numeric", "a numeric(5,2), b numeric(5,2)"),
        ("SELECT 123456.7::numeric", "a numeric(5,2)"),
        ("SELECT 'Infinity'::numeric", "a numeric(5,2)"),
        ("SELECT '2001-02-03 04:05:06.789'::timestamp, '04:05:06.789'::time", "a timestamp(0), b time(1)"),
        ("SELECT ARRAY[1.005::numeric]", "a numeric(3,1)[]"),
        ("SELECT 'toolong', 1", "a varchar(3), b int"),
        // Other types than there.
        ("SELECT 1, 2::int8, 3::int2", "a int8, b int4, c text"),
        ("SELECT 3000000000, 1", "a int4, b int4"),
        ("SELECT 1.5::float8, true", "a numeric, b text"),
        ("SELECT ARRAY[1, 2], '{}'::int[]", "a int8[], b int[]"),
        ("SELECT 1::oid, 'pg_class'::regclass", "a oid, b oid"),
    ]
    .into_iter()
    .enumerate()
    {
        let statement = fetch(number, remote, columns);
        pair.same(&statement);
        pair.same(&statement);
        let no_fail = statement.replace("$q$) AS", "$q$, false) AS");
        // Rows before an error are none of a result, unlike with contrib.
        if !remote.contains("10 /") {
            pair.same(&no_fail);
        }
        // In a transaction, which an error ends and nothing else.
        for rest in ["COMMIT", "ROLLBACK"] {
            pair.same("SELECT dblink_exec('c', 'BEGIN')");
            let outcome = pair.both(&fetch(number + 100, remote, columns)).1;
            if outcome.result.is_ok() {
                pair.same("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)");
                // No portal holds a table.
                pair.same(
                    "SELECT dblink_exec('c', 'ALTER TABLE u ADD COLUMN v int; ALTER TABLE u DROP COLUMN v')",
                );
            }
            pair.same(&format!("SELECT dblink_exec('c', '{rest}')"));
        }
        pair.same("SELECT dblink_exec('c', 'DROP TABLE IF EXISTS made')");
    }
    pair.same("SELECT * FROM dblink('c', 'SELECT last_value, count(*) FROM counter, u GROUP BY 1') AS t(a int8, b int8)");
}

#[test]
fn cursors_are_read_in_binary_too() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let columns = "i int, x float8, n numeric, t text";
    pair.same("SELECT dblink_open('c', 'cur', 'SELECT i, i * 0.1::float8, i * 0.1, ''row '' || i FROM generate_series(1, 5000) AS i')");
    for howmany in [0, 1, 1, 4000, 5, 10_000, 3] {
        pair.same(&format!("SELECT * FROM dblink_fetch('c', 'cur', {howmany}) AS t({columns})"));
    }
    assert!(described(&cluster, "FETCH 0 FROM cur") == 0, "nothing is logged by default");
    pair.same("SELECT dblink_close('c', 'cur')");
}

#[test]
fn binary_cursors_can_be_read() {
    let cluster = cluster();
    let mut ours = Pair::connected(&cluster, "local").ours;
    ours.run("SELECT dblink_exec('c', $$BEGIN; DECLARE b BINARY CURSOR FOR SELECT i, 'row ' || i FROM generate_series(1, 9) AS i$$)");
    for expected in 1..4 {
        let row = ours.run("SELECT * FROM dblink_fetch('c', 'b', 1) AS t(i int, t text)");
        let (number, text) = (expected.to_string(), format!("row {expected}"));
        assert_eq!(row.rows(), [[Some(number.as_str()), Some(text.as_str())]]);
    }
    let misfit = ours.run("SELECT * FROM dblink_fetch('c', 'b', 1) AS t(i int8, t text)");
    assert_eq!(misfit.error().code, "0A000");
}
