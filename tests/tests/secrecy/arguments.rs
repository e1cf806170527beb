//! Passwords in connection strings and among options.

use crate::ground::{at_remote, ground};
use crate::trial::Trial;

#[test]
fn a_connection_string_that_is_none_shows_no_password() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    for conninfo in [
        "host=h password='MARKER",
        "password='MARKER",
        "host=h password=it's MARKER",
        "host=h password MARKER",
        "MARKER",
        "host=h MARKER",
        "host=h password=two MARKER=x",
        "password=MARKER host=h nosuch=1",
        "password=MARKER host=h port=0",
        "password=MARKER host=h sslmode=MARKERpassword=x",
        "password=MARKER host='a b'",
        "password=MARKER host=a,b port=1,2,3",
        "user='a password=MARKER' host=h",
        "host=h port=password=MARKER",
        "host='h password=MARKER'",
        "dbname='postgres://u:MARKER@h/d' host=h",
        "password=MARKER service=no_such",
        "password=MARKER sslkey=/none sslcert=/none host=127.0.0.1 port=PORT sslmode=require",
        "sslpassword=MARKER host='",
        "postgresql://u:MARKER",
        "postgresql://u:MARKER@[::1",
        "postgresql://u:MARKER@h:port",
        "postgresql://u:MARKER@a@h",
        "postgresql://u:MARKER/x@h",
        "postgresql://u:MARKER%zz@h",
        "postgresql://h?password=MARKER&x=1",
        "postgresql://h?password=MARKER&password",
        "postgresql://h?password=MARKER=MARKER",
        "postgresql://h?MARKER",
        "postgresql://h/?passwort=MARKER",
        // Right, but for the password.
        "host=127.0.0.1 port=PORT user=app dbname=testdb password=MARKER sslmode=require",
        "postgresql://app:MARKER@127.0.0.1:PORT/testdb?sslmode=require",
        "host=127.0.0.1 port=PORT user=app dbname=no_such password=MARKER sslmode=verify-full sslrootcert=/none",
        "host=127.0.0.1 port=PLAIN user=app password=MARKER sslmode=require",
        "host=127.0.0.1 port=1 user=app password=MARKER",
    ] {
        let conninfo = conninfo
            .replace("MARKER", &marker)
            .replace("PORT", &ground().remote.port().to_string())
            .replace("PLAIN", &ground().plain.port().to_string());
        for sql in [
            "SELECT dblink_connect($1)",
            "SELECT dblink_connect('c', $1)",
            "SELECT * FROM dblink($1, 'SELECT 1') AS t(a int)",
            "SELECT dblink_exec($1, 'SELECT', false)",
        ] {
            let error = trial.fails_with(sql, &[&conninfo]);
            // One word is taken for the name of a connection, where one may stand.
            let is_name = conninfo == marker && !sql.contains("dblink_connect");
            let expected = if is_name { "08003" } else { "08001" };
            assert_eq!(error.code().code(), expected, "{conninfo}: {error:?}");
        }
    }
    trial.end();
}

#[test]
fn a_password_among_the_options_is_refused_and_not_shown() {
    let mut trial = Trial::new();
    let marker = trial.marker.clone();
    let secret = trial.login("app");
    let call = format!("SELECT connect_with_secret('{secret}', {}, options => $1)", at_remote());
    for (options, message) in [
        ("password=MARKER", "option \"password\" is not allowed here"),
        ("sslmode=require password=MARKER", "option \"password\" is not allowed here"),
        ("postgresql://u:MARKER@h", "option \"password\" is not allowed here"),
        ("password='MARKER", "unterminated quoted string in connection info string"),
        ("application_name='x password=MARKER'", "contains a connection string with a password"),
        ("password MARKER", "missing \"=\""),
    ] {
        let error = trial.fails_with(&call, &[&options.replace("MARKER", &marker)]);
        assert!(error.message().contains(message), "{options}: {error:?}");
    }
    // And a caller who puts a conninfo where a host, a database or a user should be.
    for argument in ["remote_host", "remote_db", "remote_user"] {
        let call = format!("SELECT connect_with_secret('{secret}', {argument} => $1)");
        trial.fails_with(&call, &[&format!("h password={marker}")]);
        trial.fails_with(&call, &[&format!("postgres://u:{marker}@h")]);
    }
    trial.end();
}
