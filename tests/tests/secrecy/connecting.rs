//! Connections that fail, and errors on those that do not.

use crate::ground::{at_port, at_remote, ground, remote_role};
use crate::trial::Trial;
use secretlink_e2e::{Mode, Proxy, free_port, unique};

#[test]
fn a_refused_login_shows_no_password() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    for group in ["", "md5", "cleartext"] {
        let secret = trial.login(&remote_role("another", group));
        trial.fails_to_connect(&secret, &at_remote(), "password authentication failed");
    }
    let secret = trial.login(&remote_role("another", "unencrypted"));
    let plainly = format!("{}, options => 'sslmode=disable'", at_remote());
    trial.fails_to_connect(&secret, &plainly, "password authentication failed");

    let secret = trial.login("no such role");
    trial.fails_to_connect(&secret, &at_remote(), "password authentication failed");
    let secret = trial.login(&remote_role("another", "rejected"));
    trial.fails_to_connect(&secret, &at_remote(), "pg_hba.conf rejects connection");

    let good = trial.login(&role);
    let port = ground().remote.port();
    for (arguments, expected) in [
        (format!("'127.0.0.1', 'no such', remote_port => {port}"), "database \"no such\" does not exist"),
        (format!("{}, options => 'sslmode=disable'", at_remote()), "no pg_hba.conf entry"),
        (
            format!("{}, options => 'require_auth=md5'", at_remote()),
            "authentication method requirement failed",
        ),
        (format!("{}, options => 'target_session_attrs=standby'", at_remote()), "not in hot standby mode"),
        (format!("{}, options => 'options=-cno_such=1'", at_remote()), "no_such"),
        (format!("{}, options => 'requirepeer=x'", at_remote()), "requirepeer is not supported"),
    ] {
        trial.fails_to_connect(&good, &arguments, expected);
    }
    let nobody_logs_in = format!("ALTER ROLE \"{role}\" NOLOGIN");
    ground().remote.connect("postgres", "postgres").batch_execute(&nobody_logs_in).unwrap();
    trial.fails_to_connect(&good, &at_remote(), "is not permitted to log in");
    trial.end();
}

#[test]
fn a_foreign_server_shows_no_password() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    let (good, wrong) = (trial.login(&role), trial.login(&remote_role("another", "")));
    let port = ground().remote.port();
    for (secret, options, expected) in [
        (&good, "dbname 'no such'", "database \"no such\" does not exist"),
        (&good, "sslmode 'disable'", "no pg_hba.conf entry"),
        (&good, "requirepeer 'x'", "requirepeer is not supported"),
        (&wrong, "dbname 'testdb'", "password authentication failed"),
    ] {
        let server = unique("server");
        let create = format!(
            "CREATE SERVER \"{server}\" FOREIGN DATA WRAPPER secretlink_fdw
             OPTIONS (secret_id '{secret}', host '127.0.0.1', port '{port}', {options})"
        );
        trial.client.batch_execute(&create).unwrap();
        trial.fails(&format!("SELECT dblink_connect('{server}')"), expected);
        trial.fails(&format!("SELECT * FROM dblink('{server}', 'SELECT 1') AS t(a int)"), expected);
    }
    trial.end();
}

#[test]
fn a_refused_connection_shows_no_password() {
    let mut trial = Trial::new();
    let secret = trial.login("app");
    let plain = ground().plain.port();
    let ca = ground().remote.tls().ca.display();
    let port = ground().remote.port();
    for (arguments, expected) in [
        (at_port(plain), "server does not support SSL, but SSL was required"),
        (format!("{}, options => 'sslmode=prefer'", at_port(plain)), "unencrypted connection"),
        (format!("{}, options => 'sslmode=allow'", at_port(plain)), "unencrypted connection"),
        (format!("{}, options => 'sslmode=disable'", at_port(plain)), "password authentication failed"),
        (
            format!("{}, options => 'sslmode=disable channel_binding=require'", at_port(plain)),
            "channel binding required",
        ),
        (at_port(free_port()), "Connection refused"),
        ("'no-such-host.invalid'".to_owned(), "could not translate host name"),
        (format!("'127.0.0.1,no-such-host.invalid', remote_port => {}", free_port()), "no-such-host.invalid"),
        ("'/nonexistent'".to_owned(), "No such file"),
        (format!("{}, options => 'sslmode=verify-full sslrootcert=/none'", at_remote()), "does not exist"),
        (format!("{}, options => 'sslmode=verify-full sslrootcert=system'", at_remote()), ""),
        (format!("{}, options => 'sslcert=/none sslkey=/none'", at_remote()), "/none"),
        (
            format!(
                "'other.example', remote_port => {port}, options => 'hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={ca}'"
            ),
            "does not match host name",
        ),
    ] {
        trial.fails_to_connect(&secret, &arguments, expected);
    }
    trial.end();
}

#[test]
fn errors_on_an_open_connection_show_no_password() {
    let (mut trial, [role]) = Trial::with_roles([""]);
    let secret = trial.login(&role);
    let proxy = Proxy::to(ground().remote.port());
    let connect = format!("SELECT connect_with_secret('{secret}', {})", at_port(proxy.port()));
    trial.client.query_one(&connect, &[]).unwrap();
    for (sql, expected) in [
        ("SELECT * FROM dblink('remote_conn', 'SELECT 1/0') AS t(a int)", "division by zero"),
        ("SELECT * FROM dblink('remote_conn', 'SELECT 1') AS t(a int, b int)", "rowtype does not match"),
        ("SELECT * FROM dblink('remote_conn', 'SELECT ''x''') AS t(a int)", "invalid input syntax"),
        ("SELECT dblink_exec('remote_conn', 'nonsense')", "syntax error"),
        ("SELECT dblink_exec('remote_conn', 'SELECT 1')", "statement returning results not allowed"),
        ("SELECT dblink_exec('remote_conn', 'COPY pg_class TO STDOUT')", "COPY"),
        ("SELECT dblink_connect('remote_conn', 'host=h')", "duplicate connection name"),
        ("SELECT dblink_exec('remote_conn', 'SELECT pg_terminate_backend(pg_backend_pid())')", ""),
        ("SELECT dblink_exec('remote_conn', 'SELECT')", ""),
    ] {
        trial.fails(sql, expected);
    }
    trial.client.query_one(&connect, &[]).unwrap();
    proxy.set(Mode::Refuse);
    trial.fails("SELECT dblink_exec('remote_conn', 'SELECT')", "");
    trial.end();
}

#[test]
fn a_login_cut_at_any_byte_shows_nothing() {
    let (mut trial, roles) = Trial::with_roles(["", "md5", "cleartext"]);
    for role in &roles {
        let secret = trial.login(role);
        let proxy = Proxy::to(ground().remote.port());
        let connect = format!("SELECT connect_with_secret('{secret}', {})", at_port(proxy.port()));
        let mut cut = 0;
        for length in (0..4000).step_by(111) {
            proxy.set(Mode::CutAfter(length));
            match trial.client.query_one(&connect, &[]) {
                Ok(_) => continue,
                Err(_) => trial.fails_with(&connect, &[]),
            };
            cut += 1;
        }
        assert!((8..36).contains(&cut), "{cut}: some logins are cut and some are not");
    }
    trial.end();
}
