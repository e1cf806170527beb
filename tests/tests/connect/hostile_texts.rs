//! What a remote server says, where somebody could take it for more than it is.

use crate::lab::Lab;
use secretlink_e2e::{HostileServer, db_error, server_messages as says};

/// Clears a screen, goes back to the beginning of the line, and writes what looks like another message.
const EVIL: &str = "\u{1b}[2J\rgone\u{7}\u{9b}31m\nFATAL:  forged";

/// The same as it is shown.
const SHOWN: &str = "\\x1b[2J\\x0dgone\\x07\\u009b31m\\x0aFATAL:  forged";

/// The same as it is in the log, where Postgres marks the second line as one.
const LOGGED: &str = "\\x1b[2J\\x0dgone\\x07\\xc2\\x9b31m\n\tFATAL:  forged";

#[test]
fn a_refusal_is_quoted_without_what_steers_a_terminal() {
    let mut lab = Lab::new();
    for before_password in [true, false] {
        let server = HostileServer::start(move |session| {
            session.hear_startup()?;
            if !before_password {
                session.say(&says::authentication(0, b""))?;
            }
            session.say(&says::error("FATAL", "28000", EVIL))
        });
        let error = lab.ours(&server.conninfo()).unwrap_err();
        let detail = error.detail().unwrap();
        assert!(detail.contains(SHOWN), "{detail:?}");
        assert_eq!(detail.lines().count(), 3, "one line for each field: {detail:?}");
        assert!(detail.chars().all(|c| c == '\n' || !c.is_control()), "{detail:?}");
    }
    assert_is_printable(&lab.local.log());
}

#[test]
fn a_loss_is_told_without_what_steers_a_terminal() {
    let mut lab = Lab::new();
    let server = HostileServer::start(|session| {
        session.log_in()?;
        session.hear_query()?;
        session.say(&says::error("FATAL", "57P01", EVIL))
    });
    lab.client.batch_execute("SET search_path = secretlink").unwrap();
    lab.client.batch_execute(&format!("SELECT dblink_connect('c', '{}')", server.conninfo())).unwrap();
    db_error(lab.client.simple_query("SELECT dblink_exec('c', 'DO 1')"));
    // The next query is told why there is no connection any more.
    let error = db_error(lab.client.simple_query("SELECT dblink_exec('c', 'DO 1')"));
    assert_eq!(error.message(), format!("connection to the remote server was lost: {SHOWN}"));
    assert_is_printable(&lab.local.log());
}

#[test]
fn a_remote_error_is_as_it_is_for_the_client_and_printable_in_the_log() {
    let mut lab =
        Lab::with(|local| local.conf("log_min_messages = notice").conf("log_error_verbosity = verbose"));
    let server = HostileServer::start(|session| {
        session.log_in()?;
        loop {
            session.hear_query()?;
            session.say(&says::notice(EVIL))?;
            session.say(&says::error("ERROR", "SL001", EVIL))?;
            session.say(&says::ready())?;
        }
    });
    lab.client.batch_execute("SET search_path = secretlink").unwrap();
    lab.client.batch_execute(&format!("SELECT dblink_connect('c', '{}')", server.conninfo())).unwrap();
    for statement in [
        "SELECT dblink_exec('c', 'DO 1')",
        // Passed through somebody else's code.
        "DO $$ BEGIN PERFORM dblink_exec('c', 'DO 1'); END $$",
    ] {
        let error = db_error(lab.client.simple_query(statement));
        assert_eq!((error.code().code(), error.message()), ("SL001", EVIL), "{error:?}");
        assert_eq!((error.detail(), error.hint()), (Some("a detail"), Some("a hint")));
    }
    // Only told.
    lab.client.batch_execute("SELECT dblink_exec('c', 'DO 1', false)").unwrap();
    let log = lab.local.log();
    assert_is_printable(&log);
    for (severity, code, count) in [("ERROR", "SL001", 2), ("NOTICE", "00000", 3), ("NOTICE", "SL001", 1)] {
        let told = format!("{severity}:  {code}: {LOGGED}");
        assert_eq!(log.matches(&told).count(), count, "{told}\n{log}");
    }
    // What somebody says on this server is Postgres's own business.
    let error = db_error(lab.client.simple_query("DO $$ BEGIN RAISE EXCEPTION E'\\x1b[1mours'; END $$"));
    assert_eq!(error.message(), "\u{1b}[1mours");
    assert!(lab.local.log().contains("\u{1b}[1mours"));
}

#[track_caller]
fn assert_is_printable(log: &str) {
    let steers = log.lines().find(|line| line.chars().any(|c| c != '\t' && c.is_control()));
    assert_eq!(steers, None);
}
