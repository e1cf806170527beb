//! Text between SQL and Rust.

#[pgrx::pg_schema]
mod tests {
    use super::super::{connect, failure, quoted, text, texts};
    use crate::backend::text::{JsonText, ServerText, Text, to_server, verified};
    use pgrx::prelude::*;
    use pgrx::{FromDatum, IntoDatum};

    /// Everything that passwords, names and messages are made of.
    const SAMPLES: [&str; 6] = [
        "",
        "plain",
        "pä$$wörd \"quoted\" 'too' \\ \n\t",
        "\u{1F511}ключ鍵",
        "%s %d %n",
        "{\"a\": [1, null]}",
    ];

    fn is_utf8() -> bool {
        text("SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()")
            .as_deref()
            == Some("UTF8")
    }

    fn again<T: IntoDatum + FromDatum>(value: T) -> T {
        // SAFETY: the datum is of the very type it is read as.
        value.into_datum().and_then(|datum| unsafe { T::from_datum(datum, false) }).expect("not null")
    }

    #[pg_test]
    fn comes_back_as_it_went() {
        for sample in SAMPLES {
            assert_eq!(again(Text(sample.into())).0, sample);
            assert_eq!(again(JsonText(sample.into())).0, sample);
            assert_eq!(again(ServerText(sample.into())).0, sample.as_bytes());
        }
        let long = "ä".repeat(1 << 20);
        assert_eq!(again(Text(long.clone())).0, long);
    }

    #[pg_test]
    fn is_read_however_it_is_stored() {
        // Short, compressed and plain varlenas.
        for sql in ["'x'", "repeat('x', 100000)", "'xä' || repeat('z', 3000)"] {
            let expected = text(&format!("SELECT {sql}")).expect("a text");
            let read = Spi::get_one::<Text>(&format!("SELECT {sql}")).expect("a row").expect("a text");
            assert_eq!(read.0, expected);
        }
        assert!(Spi::get_one::<Text>("SELECT NULL::text").expect("a row").is_none());
    }

    #[pg_test]
    fn a_report_never_fails_on_its_own_text() {
        for sample in SAMPLES {
            let expected = if is_utf8() || sample.is_ascii() { Some(sample.as_bytes()) } else { None };
            assert!(expected.is_none_or(|e| e == to_server(sample).as_bytes()), "{sample}");
            assert!(expected.is_none_or(|e| e == verified(sample.as_bytes()).as_bytes()), "{sample}");
        }
        assert_eq!(to_server("a\0b").as_bytes(), b"ab");
        assert_eq!(verified(b"a\0b").as_bytes(), b"ab");
        if is_utf8() {
            assert_eq!(verified(b"caf\xe9 \xff").as_bytes(), b"caf? ?");
            // Cut in the middle of a character.
            assert_eq!(verified(b"\xf0\x9f\x94").as_bytes(), b"???");
        }
    }

    #[pg_test]
    fn names_and_values_through_a_connection() {
        let name = "Verbindung ü 'x'";
        connect(name);
        assert_eq!(texts("SELECT unnest(dblink_get_connections())"), [name]);
        for sample in SAMPLES {
            let remote = format!("SELECT {}", quoted(sample));
            let sql = format!("SELECT v FROM dblink({}, {}) AS t(v text)", quoted(name), quoted(&remote));
            assert_eq!(text(&sql).as_deref(), Some(sample));
        }
        assert_eq!(
            failure("SELECT dblink_disconnect('keine ü')").message,
            "connection \"keine ü\" not available"
        );
        assert_eq!(text(&format!("SELECT dblink_disconnect({})", quoted(name))).as_deref(), Some("OK"));
    }
}
