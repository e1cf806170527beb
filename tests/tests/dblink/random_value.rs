//! Random values of every built-in type, as text.

use fastrand::Rng;

/// All built-in types that can be sent in binary and that text can be made into, ranges and arrays
/// apart.
pub const TYPES: [&str; 53] = [
    "bool",
    "bytea",
    "\"char\"",
    "name",
    "int8",
    "int2",
    "int2vector",
    "int4",
    "regproc",
    "text",
    "oid",
    "tid",
    "xid",
    "cid",
    "oidvector",
    "json",
    "xml",
    "point",
    "lseg",
    "path",
    "box",
    "polygon",
    "line",
    "float4",
    "float8",
    "circle",
    "money",
    "macaddr",
    "inet",
    "cidr",
    "macaddr8",
    "bpchar",
    "varchar",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "timetz",
    "bit",
    "varbit",
    "numeric",
    "refcursor",
    "regclass",
    "regtype",
    "uuid",
    "txid_snapshot",
    "pg_lsn",
    "tsvector",
    "tsquery",
    "jsonb",
    "jsonpath",
    "xid8",
];

/// Those that must exist besides, but that are all alike: names for OIDs, and a type that is another.
pub const ALIKE: [&str; 9] = [
    "regprocedure",
    "regoper",
    "regoperator",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regrole",
    "regcollation",
    "pg_snapshot",
];

/// Built-in ranges and what they are ranges of.
pub const RANGES: [(&str, &str); 6] = [
    ("int4range", "int4"),
    ("int8range", "int8"),
    ("numrange", "numeric"),
    ("tsrange", "timestamp"),
    ("tstzrange", "timestamptz"),
    ("daterange", "date"),
];

/// Values at the edges.
pub fn extremes(kind: &str) -> &'static [&'static str] {
    match kind {
        "bool" => &["t", "f"],
        "int2" => &["-32768", "32767", "0", "-1"],
        "int4" => &["-2147483648", "2147483647", "0", "-1"],
        "int8" => &["-9223372036854775808", "9223372036854775807", "0", "-1"],
        "oid" | "xid" | "cid" => &["0", "1", "4294967295", "2147483648"],
        "xid8" => &["0", "18446744073709551615"],
        "float4" => &["NaN", "Infinity", "-Infinity", "0", "-0", "3.4028235e38", "1e-45", "-1.17549435e-38"],
        "float8" => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-0",
            "1.7976931348623157e308",
            "5e-324",
            "-2.2250738585072014e-308",
        ],
        "numeric" => &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.0",
            "0.0000",
            "0.00000000000000000000",
            "-0.5",
            "1",
            "10000",
            "9999",
            "99999999",
            "100000000",
            "1e4",
            "1e5",
            "0.1",
            "0.01",
            "0.001",
            "0.0001",
            "0.00001",
            "123.4500",
            "-1e-300",
            "1e131071",
            "1e-16383",
            "1e255",
            "1e256",
            "1e-255",
            "1e-256",
            "1e-260",
            "5000.50",
            "0.12345678901234567890123456789012345678901234567890123456789012345",
        ],
        "date" => &[
            "infinity",
            "-infinity",
            "4713-01-01 BC",
            "5874897-12-31",
            "2000-01-01",
            "1999-12-31",
            "0001-12-31 BC",
        ],
        "time" => &["00:00", "24:00:00", "23:59:59.999999", "00:00:00.000001"],
        "timetz" => &["00:00+15:59", "24:00:00-15:59", "23:59:59.999999+00"],
        "timestamp" => {
            &["infinity", "-infinity", "4713-01-01 00:00 BC", "294276-12-31 23:59:59.999999", "2000-01-01"]
        }
        "timestamptz" => &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "1880-01-01",
        ],
        "interval" => {
            &["178000000 years", "-178000000 years", "1 mon -1 day", "-1 mon 1 day -00:00:00.000001", "0"]
        }
        "bytea" => &["", "\\x00", "\\xff00ff"],
        "text" | "varchar" | "bpchar" | "refcursor" => {
            &["", " ", "NULL", "\\", "\"", "'", "\u{e9}\u{4e2d}\u{1f600}", "{}", "a\tb\nc\r"]
        }
        "\"char\"" => &["a", "", "~"],
        "name" => &["", "a name"],
        "bit" => &["00000000", "11111111"],
        "varbit" => &["0", "1", "11111111", "000000001"],
        "uuid" => &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
        "inet" => &["0.0.0.0", "255.255.255.255/0", "::", "::1/0", "fe80::1/64"],
        "cidr" => &["0.0.0.0/0", "10.0.0.0/8", "::/0", "2001:db8::/32"],
        "json" => &["null", " {\"a\" : [1, 1.50, \"\u{e9}\"]} "],
        "jsonb" => &["null", "{\"b\": 1, \"a\": [1.50, true, \"\\u00e9\"]}", "{}", "[]"],
        "tsvector" => &["", "'a' 'b':1A,2B 'c':16383"],
        "tsquery" => &["", "a & !b | c:*AB", "a <3> b"],
        "point" => &["(NaN,Infinity)", "(0,-0)"],
        "money" => &["-92233720368547758.08", "92233720368547758.07"],
        "pg_lsn" => &["0/0", "FFFFFFFF/FFFFFFFF"],
        "xml" => &["<a>b</a>", "text"],
        "path" => &["((0,0),(1,1))", "[(0,0),(1,1)]"],
        _ => &[],
    }
}

/// Any value.
pub fn random(kind: &str, rng: &mut Rng) -> String {
    let float = |rng: &mut Rng| format!("{:e}", f64::from_bits(rng.u64(..) & !(1 << 62)));
    let point = |rng: &mut Rng| format!("({},{})", float(rng), rng.i32(-1000..1000));
    let date = |rng: &mut Rng| format!("{:04}-{:02}-{:02}", rng.u32(1..9999), rng.u32(1..13), rng.u32(1..29));
    let time = |rng: &mut Rng| {
        format!(
            "{:02}:{:02}:{:02}.{:06}",
            rng.u32(0..24),
            rng.u32(0..60),
            rng.u32(0..60),
            rng.u32(0..1_000_000)
        )
    };
    let zone =
        |rng: &mut Rng| format!("{}{:02}:{:02}", ['+', '-'][rng.usize(0..2)], rng.u32(0..14), rng.u32(0..60));
    let digits = |rng: &mut Rng, most: usize| {
        (0..rng.usize(1..=most)).map(|_| if rng.bool() { '0' } else { rng.digit(10) }).collect::<String>()
    };
    match kind {
        "bool" => rng.bool().to_string(),
        "int2" => rng.i16(..).to_string(),
        "int4" => (rng.i32(..) >> rng.u32(0..32)).to_string(),
        "int8" => (rng.i64(..) >> rng.u32(0..64)).to_string(),
        "oid" | "xid" | "cid" => rng.u32(..).to_string(),
        "xid8" => rng.u64(..).to_string(),
        "float4" => format!("{:e}", f32::from_bits(rng.u32(..) & !(1 << 30))),
        "float8" => float(rng),
        "numeric" => {
            let most = [4, 12, 80, 300][rng.usize(0..4)];
            let sign = ["", "-"][rng.usize(0..2)];
            format!("{sign}{}.{}", digits(rng, most), digits(rng, most))
        }
        "date" => date(rng),
        "time" => time(rng),
        "timetz" => time(rng) + &zone(rng),
        "timestamp" => format!("{} {}", date(rng), time(rng)),
        "timestamptz" => format!("{} {}{}", date(rng), time(rng), zone(rng)),
        "interval" => format!(
            "{} mons {} days {}{}",
            rng.i32(-5000..5000),
            rng.i32(-50000..50000),
            ["", "-"][rng.usize(0..2)],
            time(rng)
        ),
        "bytea" => {
            let most = [3, 130, 10_000][rng.usize(0..3)];
            let bytes = (0..rng.usize(0..most)).map(|_| format!("{:02x}", rng.u8(..)));
            format!("\\x{}", bytes.collect::<String>())
        }
        "text" | "varchar" | "bpchar" | "refcursor" => {
            let most = [3, 140, 5000][rng.usize(0..3)];
            text(rng, most)
        }
        "\"char\"" => rng.alphanumeric().into(),
        "name" => text(rng, 15),
        "bit" => format!("{:08b}", rng.u8(..)),
        "varbit" => (0..rng.usize(1..70)).map(|_| ['0', '1'][rng.usize(0..2)]).collect(),
        "uuid" => format!("{:032x}", rng.u128(..)),
        "inet" => match rng.bool() {
            true => format!("{}.{}.{}.{}/{}", rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(0..=32)),
            false => format!("{:x}:{:x}::{:x}/{}", rng.u16(..), rng.u16(..), rng.u16(..), rng.u8(0..=128)),
        },
        "cidr" => format!("{}.{}.0.0/16", rng.u8(..), rng.u8(..)),
        "macaddr" => format!("{:012x}", rng.u64(..) >> 16),
        "macaddr8" => format!("{:016x}", rng.u64(..)),
        "json" | "jsonb" => format!(
            "{{\"{}\": [{}, null, {{\"x\": {}}}], \"t\": \"{}\"}}",
            rng.alphanumeric(),
            rng.i64(..),
            rng.bool(),
            rng.u32(..)
        ),
        "jsonpath" => format!("$.a[*] ? (@ > {})", rng.u32(..)),
        "xml" => format!("<a b=\"{}\">{}</a>", rng.u32(..), rng.alphanumeric()),
        "point" => point(rng),
        "lseg" | "box" => format!("{},{}", point(rng), point(rng)),
        "path" => format!("[{},{},{}]", point(rng), point(rng), point(rng)),
        "polygon" => format!("({},{},{})", point(rng), point(rng), point(rng)),
        "line" => format!("{{{},{},{}}}", rng.i32(1..100), rng.i32(..), float(rng)),
        "circle" => format!("<{},{}>", point(rng), rng.u32(0..1000)),
        "money" => format!("{}.{:02}", rng.i32(..), rng.u32(0..100)),
        "tid" => format!("({},{})", rng.u32(..), rng.u16(..)),
        "int2vector" => format!("{} {}", rng.i16(..), rng.i16(..)),
        "oidvector" => format!("{} {}", rng.u32(..), rng.u32(..)),
        "regproc" => ["now", "version"][rng.usize(0..2)].into(),
        "regclass" => ["pg_class", "pg_proc"][rng.usize(0..2)].into(),
        "regtype" => ["integer", "text[]"][rng.usize(0..2)].into(),
        "pg_lsn" => format!("{:X}/{:X}", rng.u32(..), rng.u32(..)),
        "txid_snapshot" => format!("{0}:{1}:{0}", rng.u32(1..1000), rng.u32(1001..2000)),
        "tsvector" => format!("'{}':{} '{}'", rng.alphabetic(), rng.u32(1..16000), rng.digit(10)),
        "tsquery" => format!("{} & !{}", rng.alphabetic(), rng.alphabetic()),
        other => match RANGES.iter().find(|(range, _)| *range == other) {
            Some((_, of)) => range(of, rng),
            None => panic!("no values of {other}"),
        },
    }
}

fn range(of: &str, rng: &mut Rng) -> String {
    if rng.u8(..) < 30 {
        return "empty".into();
    }
    // The sorting of text will do for positive integers of one length and for ISO dates.
    let bound = |rng: &mut Rng| match of {
        "int4" | "int8" | "numeric" => rng.u32(100_000..999_999).to_string(),
        of => random(of, rng),
    };
    let (a, b) = (bound(rng), bound(rng));
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    let open =
        |bound: String, rng: &mut Rng| if rng.u8(..) < 30 { String::new() } else { format!("\"{bound}\"") };
    format!("{}{},{}{}", ['[', '('][rng.usize(0..2)], open(a, rng), open(b, rng), [']', ')'][rng.usize(0..2)])
}

fn text(rng: &mut Rng, most: usize) -> String {
    const CHARACTERS: [char; 14] =
        ['a', 'Z', '0', ' ', '\'', '"', '\\', ',', '{', '}', '\n', '\u{e9}', '\u{4e2d}', '\u{1f600}'];
    (0..rng.usize(0..=most)).map(|_| CHARACTERS[rng.usize(0..CHARACTERS.len())]).collect()
}

/// An array of any shape.
pub fn random_array(kind: &str, delimiter: char, rng: &mut Rng) -> String {
    let element = |rng: &mut Rng| match rng.u8(..) {
        0..50 => "NULL".to_owned(),
        _ => {
            let values = extremes(kind);
            let value = if rng.u8(..) < 100 && !values.is_empty() {
                values[rng.usize(0..values.len())].to_owned()
            } else {
                random(kind, rng)
            };
            format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
        }
    };
    let list = |items: Vec<String>| format!("{{{}}}", items.join(&delimiter.to_string()));
    match rng.u8(..) {
        0..20 => "{}".into(),
        20..160 => list((0..rng.usize(1..9)).map(|_| element(rng)).collect()),
        _ => {
            let (rows, columns) = (rng.usize(1..4), rng.usize(1..4));
            let body = list((0..rows).map(|_| list((0..columns).map(|_| element(rng)).collect())).collect());
            let (a, b) = (rng.i32(-5..5), rng.i32(-5..5));
            format!("[{a}:{}][{b}:{}]={body}", a + rows as i32 - 1, b + columns as i32 - 1)
        }
    }
}
