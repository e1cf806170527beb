//! The functions that read the local catalogs and write SQL, next to contrib's.

use crate::cluster::cluster;
use crate::outcome::Outcome;
use crate::pair::{Pair, Side};
use secretlink_e2e::Cluster;

/// Tables of every kind, in a database that both sides see.
const TABLES: &str = r#"
    CREATE TABLE plain (id int PRIMARY KEY, v text, at timestamp);
    INSERT INTO plain VALUES (1, 'one', '2024-03-04'), (2, NULL, NULL), (3, E'it''s \\ caf\u00e9', 'infinity');
    CREATE TABLE dropped (gone int, b text, gone2 int, a int, c text, PRIMARY KEY (a, b));
    ALTER TABLE dropped DROP COLUMN gone, DROP COLUMN gone2;
    INSERT INTO dropped VALUES ('x', 1, 'c1'), ('y', 1, NULL);
    CREATE SCHEMA "Other Schema";
    CREATE TABLE "Other Schema"."Mixed ""T" ("Key" int, "select" text, "ü" text, PRIMARY KEY ("select", "Key") INCLUDE ("ü"));
    INSERT INTO "Other Schema"."Mixed ""T" VALUES (1, 'k', 'v');
    CREATE TABLE nokey (a int, b text);
    INSERT INTO nokey VALUES (1, 'x'), (1, 'y'), (NULL, 'z');
    CREATE TABLE generated (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY DEFERRABLE, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);
    INSERT INTO generated (a) VALUES (21);
    CREATE VIEW seen AS SELECT * FROM plain;
    CREATE MATERIALIZED VIEW stored AS SELECT * FROM plain;
    CREATE SEQUENCE counter;
    CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY LIST (id);
    CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
    INSERT INTO parts VALUES (1, 'p');
    CREATE TABLE nothing ();
    CREATE TABLE shadowed (id int PRIMARY KEY);
    CREATE SCHEMA first_in_path;
    CREATE TABLE first_in_path.shadowed (other text PRIMARY KEY);
    CREATE EXTENSION citext;
    CREATE DOMAIN small AS varchar(3);
    CREATE DOMAIN soft AS citext;
    CREATE TABLE kinds (i int2, n numeric, t varchar(5), c char(5), na name, ci citext, d small, s soft, e mood,
        p pair, ar int[], jb jsonb, u uuid, r regclass, rg int4range, ts timestamptz, bo bool, by bytea,
        ip inet, iv interval, bx box, j json, pt point, ja json[], x xml, bt bit(3), f float8, o oid, m money);
    INSERT INTO kinds VALUES (1, 1.50, 'v', 'c', 'n', 'CI', 'd', 'So', 'ok', '(1,a)', '{1,2}', '{"a": 1}',
        'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'plain', '[1,2)', '2024-03-04 05:06:07+00', true, '\x00ff',
        '10.0.0.1', '1 day', '(1,1),(0,0)', '{}', '(1,2)', '{"{}"}', '<a/>', '101', 0.1, 7, '1');
    CREATE ROLE reader LOGIN; CREATE ROLE nobody LOGIN;
    GRANT USAGE ON SCHEMA contrib, secretlink, "Other Schema" TO reader, nobody;
    GRANT SELECT ON plain TO reader;
    GRANT SELECT (a) ON nokey TO reader;
    ALTER TABLE parts ENABLE ROW LEVEL SECURITY;
    GRANT SELECT ON parts TO reader;
"#;

fn pair(cluster: &Cluster) -> Pair {
    cluster.connect("postgres", "local").batch_execute(TABLES).unwrap();
    Pair::new(cluster, "local")
}

/// Rows, or SQLSTATE and message.
fn gist(outcome: &Outcome) -> Result<Vec<Vec<Option<String>>>, (String, String)> {
    outcome.result.clone().map_err(|told| (told.code, told.message))
}

/// What both say, but for the CONTEXT of a query that is not worded the same.
#[track_caller]
fn same(pair: &mut Pair, sql: &str) -> Result<Vec<Vec<Option<String>>>, (String, String)> {
    let (theirs, ours) = pair.both(sql);
    assert_eq!(gist(&ours), gist(&theirs), "ours (left) differs from contrib's (right) for: {sql}");
    gist(&ours)
}

#[test]
fn the_primary_key_of_each_kind_of_relation() {
    let cluster = cluster();
    let mut pair = pair(&cluster);
    for (relation, columns) in [
        ("plain", 1),
        ("public.plain", 1),
        ("local.public.plain", 1),
        ("PLAIN", 1),
        (" plain ", 1),
        ("dropped", 2),
        (r#""Other Schema"."Mixed ""T""#, 2),
        ("nokey", 0),
        ("generated", 1),
        ("seen", 0),
        ("stored", 0),
        ("counter", 0),
        ("parts", 1),
        ("part1", 1),
        ("nothing", 0),
        ("pg_class", 1),
        ("pg_stat_activity", 0),
    ] {
        let sql = format!("SELECT * FROM dblink_get_pkey('{relation}')");
        assert_eq!(same(&mut pair, &sql).unwrap().len(), columns, "{relation}");
    }
    for sql in [
        "SELECT dblink_get_pkey('dropped')",
        "SELECT (dblink_get_pkey('dropped')).*, 1",
        "SELECT colname, position FROM dblink_get_pkey('dropped') WITH ORDINALITY ORDER BY 1 LIMIT 1",
        "SELECT relname, k.* FROM pg_class, dblink_get_pkey(oid::regclass::text) AS k WHERE relname IN ('plain', 'dropped') ORDER BY 1, 2",
        "SELECT * FROM dblink_get_pkey(NULL)",
    ] {
        same(&mut pair, sql).unwrap();
    }
    let description = pair.same("SELECT * FROM dblink_get_pkey('plain')");
    assert_eq!(description.columns, ["position", "colname"]);
}

#[test]
fn relations_that_cannot_be_used() {
    let cluster = cluster();
    let mut pair = pair(&cluster);
    for relation in [
        "",
        " ",
        "absent",
        "public.absent",
        "absent.plain",
        "other.public.plain",
        "a.b.c.d",
        "plain.",
        ".plain",
        "\"plain",
        "a b",
        "plain_pkey",
        "pair",
        "1",
        "\"\"",
    ] {
        for call in [
            "dblink_get_pkey('{}')",
            "dblink_build_sql_insert('{}', '1', 1, '{1}', '{1}')",
            "dblink_build_sql_delete('{}', '1', 1, '{1}')",
            "dblink_build_sql_update('{}', '1', 1, '{1}', '{1}')",
        ] {
            let sql = format!("SELECT {}", call.replacen("{}", relation, 1));
            same(&mut pair, &sql).expect_err(&sql);
        }
    }
    for user in ["reader", "nobody"] {
        let mut pair = Pair {
            contrib: Side::new(&cluster, user, "local", "contrib"),
            ours: Side::new(&cluster, user, "local", "secretlink"),
        };
        for relation in
            ["plain", "nokey", "seen", "counter", "stored", "parts", r#""Other Schema"."Mixed ""T""#]
        {
            for call in [
                "dblink_get_pkey('{}')",
                "dblink_build_sql_insert('{}', '1', 1, '{1}', '{1}')",
                "dblink_build_sql_delete('{}', '1', 1, '{1}')",
                "dblink_build_sql_update('{}', '1', 1, '{1}', '{1}')",
            ] {
                let answer = same(&mut pair, &format!("SELECT {}", call.replacen("{}", relation, 1)));
                let may = user == "reader" && ["plain", "parts"].contains(&relation);
                let refused = answer.is_err_and(|(code, _)| code == "42501");
                assert_eq!(refused, !may, "{user} {relation} {call}");
            }
        }
    }
}

#[test]
fn statements_written_for_good_and_bad_keys() {
    let cluster = cluster();
    let mut pair = pair(&cluster);
    let mixed = r#""Other Schema"."Mixed ""T""#;
    // Relation, numbers, count, source, target.
    let cases = [
        ("plain", "1", "1", "{1}", "{1}"),
        ("plain", "1", "1", "{2}", "{20}"),
        ("plain", "1", "1", "{3}", r#"{"o'k \\ \""}"#),
        ("plain", "1", "1", "{1}", "{NULL}"),
        ("plain", "1", "1", "{NULL}", "{1}"),
        ("plain", "1", "1", "{99}", "{1}"),
        ("plain", "1", "1", "{abc}", "{1}"),
        ("plain", "1", "1", "{99999999999}", "{1}"),
        ("plain", "1 2", "2", "{1,one}", "{5,five}"),
        ("plain", "2 1", "2", "{NULL,2}", "{NULL,5}"),
        ("plain", "1 2", "1", "{1}", "{5}"),
        ("plain", "1", "5", "{1}", "{5}"),
        ("plain", "1 1", "2", "{1,1}", "{5,6}"),
        ("plain", "3", "1", "{infinity}", "{now}"),
        ("plain", "1 2 3 1 2 3", "6", "{1,one,2024-03-04,1,one,2024-03-04}", "{a,b,c,d,e,f}"),
        ("plain", "1 2", "2", "{{1},{one}}", "{{5},{five}}"),
        ("plain", "", "1", "{1}", "{1}"),
        ("plain", "1", "0", "{1}", "{1}"),
        ("plain", "1", "-1", "{1}", "{1}"),
        ("plain", "1", "-2147483648", "{1}", "{1}"),
        ("plain", "0", "1", "{1}", "{1}"),
        ("plain", "-1", "1", "{1}", "{1}"),
        ("plain", "-32768", "1", "{1}", "{1}"),
        ("plain", "4", "1", "{1}", "{1}"),
        ("plain", "1 32767", "2", "{1,1}", "{1,1}"),
        ("plain", "1 32767", "1", "{1}", "{1}"),
        ("plain", "1", "1", "{}", "{1}"),
        ("plain", "1", "1", "{1}", "{}"),
        ("plain", "1", "1", "{}", "{}"),
        ("plain", "1", "1", "{1,2}", "{1}"),
        ("plain", "1", "1", "{1}", "{1,2}"),
        ("plain", "1 9", "2", "{1}", "{}"),
        ("dropped", "1 2", "2", "{x,1}", "{X,10}"),
        ("dropped", "2 1", "2", "{1,y}", "{10,Y}"),
        ("dropped", "3", "1", "{NULL}", "{NULL}"),
        ("dropped", "2", "1", "{1}", "{1}"),
        ("dropped", "4", "1", "{1}", "{1}"),
        ("dropped", "5", "1", "{1}", "{1}"),
        ("dropped", "6", "1", "{1}", "{1}"),
        (mixed, "2 1", "2", "{k,1}", "{K,2}"),
        (mixed, "3", "1", "{v}", "{ü}"),
        ("nokey", "1", "1", "{1}", "{1}"),
        ("nokey", "1 2", "2", "{1,y}", "{1,z}"),
        ("nokey", "1", "1", "{NULL}", "{7}"),
        ("generated", "1", "1", "{1}", "{2}"),
        ("seen", "1", "1", "{1}", "{1}"),
        ("stored", "1", "1", "{1}", "{1}"),
        ("parts", "1", "1", "{1}", "{2}"),
        ("counter", "1", "1", "{1}", "{2}"),
        ("nothing", "1", "1", "{1}", "{1}"),
        ("shadowed", "1", "1", "{1}", "{1}"),
    ];
    let (mut good, mut bad) = (0, 0);
    for (relation, numbers, count, source, target) in cases {
        let quoted = |s: &str| format!("'{}'", s.replace('\'', "''"));
        let [relation, numbers, source, target] = [relation, numbers, source, target].map(quoted);
        for sql in [
            format!("SELECT dblink_build_sql_insert({relation}, {numbers}, {count}, {source}, {target})"),
            format!("SELECT dblink_build_sql_delete({relation}, {numbers}, {count}, {target})"),
            format!("SELECT dblink_build_sql_update({relation}, {numbers}, {count}, {source}, {target})"),
        ] {
            match same(&mut pair, &sql) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
    }
    assert!(good > 60 && bad > 40, "{good} {bad}");
    for sql in [
        "SELECT dblink_build_sql_insert(NULL, '1', 1, '{1}', '{1}')",
        "SELECT dblink_build_sql_insert('plain', NULL, 1, '{1}', '{1}')",
        "SELECT dblink_build_sql_update('plain', '1', NULL, '{1}', '{1}')",
        "SELECT dblink_build_sql_update('plain', '1', 1, NULL, '{1}')",
        "SELECT dblink_build_sql_delete('plain', '1', 1, NULL)",
    ] {
        assert_eq!(same(&mut pair, sql), Ok(vec![vec![None]]));
    }
    // What was written earlier in the same statement counts; the styles are the session's.
    for sql in [
        "SET datestyle = 'German'",
        "SELECT dblink_build_sql_insert('plain', '1', 1, '{1}', '{1}')",
        "SET standard_conforming_strings = off",
        "SELECT dblink_build_sql_insert('plain', '1', 1, '{3}', '{1}')",
        "SET quote_all_identifiers = on",
        "SELECT dblink_build_sql_update('dropped', '1 2', 2, '{x,1}', '{X,10}')",
        "CREATE TEMP TABLE mine (id int PRIMARY KEY, v text)",
        "INSERT INTO mine VALUES (1, 'a') RETURNING dblink_build_sql_delete('mine', '1', 1, '{1}')",
        "SELECT dblink_build_sql_insert('mine', '1', 1, '{1}', '{2}')",
        "SELECT * FROM dblink_get_pkey('mine')",
        "CREATE FUNCTION pg_temp.write(n int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO mine VALUES (n, 'w'); RETURN dblink_build_sql_insert('mine', '1', 1, ARRAY[n::text], '{9}'); END $$",
        "SELECT pg_temp.write(5)",
    ] {
        same(&mut pair, sql).unwrap();
    }
}

/// Every type is compared by its own equality, and what cannot be compared is refused as by contrib.
#[test]
fn keys_of_each_type() {
    let cluster = cluster();
    let mut pair = pair(&cluster);
    let columns = same(&mut pair, "SELECT attnum, attname FROM pg_attribute WHERE attrelid = 'kinds'::regclass AND attnum > 0 ORDER BY 1").unwrap();
    let mut refused_types = Vec::new();
    for column in columns {
        let [Some(number), Some(name)] = &column[..] else { panic!("{column:?}") };
        let sql = format!(
            "SELECT dblink_build_sql_update('kinds', '{number}', 1, ARRAY[{name}::text], '{{new}}') FROM kinds"
        );
        if let Err((code, message)) = same(&mut pair, &sql) {
            refused_types.push(format!("{name} {code}: {message}"));
        }
    }
    assert_eq!(
        refused_types,
        [
            "p 0A000: input of anonymous composite types is not implemented",
            "r 22P02: invalid input syntax for type oid: \"plain\"",
            "j 42883: operator does not exist: json = unknown",
            "pt 42883: operator does not exist: point = unknown",
            "ja 42883: could not identify an equality operator for type json",
            "x 42883: operator does not exist: xml = unknown",
        ]
    );
    let ignoring_case = "SELECT dblink_build_sql_delete('kinds', '6', 1, '{x}'), dblink_build_sql_insert('kinds', '6', 1, '{cI}', '{x}'), dblink_build_sql_insert('kinds', '8', 1, '{sO}', '{x}')";
    same(&mut pair, ignoring_case).unwrap();
}

#[test]
fn the_search_path_names_the_relation_and_nothing_else() {
    let cluster = cluster();
    let mut pair = pair(&cluster);
    cluster
        .connect("postgres", "local")
        .batch_execute(
            "CREATE SCHEMA evil;
             CREATE FUNCTION evil.eq(anyelement, anyelement) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;
             CREATE FUNCTION evil.eq_int(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;
             CREATE FUNCTION evil.eq_soft(soft, soft) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;
             CREATE FUNCTION evil.eq_json(json, json) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;
             CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.eq_int);
             CREATE OPERATOR evil.= (LEFTARG = json, RIGHTARG = json, FUNCTION = evil.eq_json);
             CREATE OPERATOR public.= (LEFTARG = soft, RIGHTARG = soft, FUNCTION = evil.eq_soft);
             CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'caught'; END $$;",
        )
        .unwrap();
    let ours = "evil, secretlink, public, pg_catalog";
    pair.ours.run(&format!("SET search_path = {ours}"));
    pair.contrib.run(&format!("SET search_path = {}", ours.replace("secretlink", "contrib")));
    let insert = "SELECT dblink_build_sql_insert('plain', '1', 1, '{1}', '{5}')";
    // contrib's runs the operator of any role that can create one in the path.
    let (theirs, ours) = pair.both(insert);
    assert_eq!(theirs.error().message, "caught");
    assert_eq!(ours.value(), "INSERT INTO plain(id,v,at) VALUES('5','one','2024-03-04 00:00:00')");
    let soft = "SELECT dblink_build_sql_update('kinds', '8', 1, '{SO}', '{x}')";
    assert!(pair.ours.value(soft).starts_with("UPDATE kinds SET i = '1', "));
    let json = pair.ours.run("SELECT dblink_build_sql_update('kinds', '22', 1, '{\"{}\"}', '{x}')");
    assert_eq!(json.error().code, "42883");
    assert_eq!(json.error().message, "operator does not exist: json = unknown");
    // The name in the statement is what a reader with the same search_path needs.
    pair.same("SET search_path = first_in_path, secretlink, contrib, public");
    for sql in [
        "SELECT {s}.dblink_build_sql_delete('public.shadowed', '1', 1, '{1}')",
        "SELECT {s}.dblink_build_sql_delete('shadowed', '1', 1, '{1}')",
        "SELECT {s}.dblink_build_sql_insert('public.shadowed', '1', 1, '{1}', '{1}')",
        "SELECT string_agg(colname, ',') FROM {s}.dblink_get_pkey('shadowed')",
    ] {
        let theirs = pair.contrib.run(&sql.replace("{s}", "contrib"));
        let ours = pair.ours.run(&sql.replace("{s}", "secretlink"));
        assert_eq!(gist(&ours), gist(&theirs), "{sql}");
    }
}

#[test]
fn in_a_database_of_another_encoding() {
    let cluster = cluster();
    cluster
        .connect("postgres", "latin1")
        .batch_execute("CREATE TABLE \"caf\u{e9}\" (\"cl\u{e9}\" text PRIMARY KEY, v text); INSERT INTO \"caf\u{e9}\" VALUES ('\u{e9}t\u{e9}', '\u{fc}')")
        .unwrap();
    let mut pair = Pair::new(&cluster, "latin1");
    let key = pair.same("SELECT colname FROM dblink_get_pkey('caf\u{e9}')");
    assert_eq!(key.value(), "cl\u{e9}");
    pair.same("SELECT dblink_build_sql_update('caf\u{e9}', '1', 1, '{\u{e9}t\u{e9}}', '{\u{e8}}')");
    // The server's own messages come by way of pgrx, which takes them for UTF-8.
    let (theirs, ours) = pair.both("SELECT dblink_get_pkey('\u{e9}')");
    assert_eq!(ours.error().code, theirs.error().code);
}

#[test]
fn the_current_query() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    for sql in [
        "SELECT dblink_current_query() /* caf\u{e9} */",
        "SELECT 1; SELECT dblink_current_query(); SELECT 2",
        "SELECT dblink_current_query() = pg_catalog.current_query()",
    ] {
        pair.same(sql);
    }
}

#[test]
fn the_functions_are_declared_as_contribs() {
    let cluster = cluster();
    let mut pair = Pair::new(&cluster, "local");
    let signature = "SELECT proname, proargtypes::regtype[], format_type(prorettype, NULL), proisstrict AND pronargs > 0, proretset, provolatile, proparallel, prosecdef
         FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
         AND (proname LIKE 'dblink_build_sql_%' OR proname IN ('dblink_get_pkey', 'dblink_current_query')) ORDER BY 1, 2";
    assert_eq!(pair.same(signature).rows().len(), 5);
    let columns = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = 'dblink_pkey_results'::regclass AND attnum > 0 ORDER BY attnum";
    assert_eq!(pair.same(columns).rows().len(), 2);
}
