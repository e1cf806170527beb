//! A role and its clone take turns.

use crate::ground::{Subject, api, ground, log_in, major, master_of, rotate};
use postgres::Client;
use secretlink_e2e::db_error;
use serde_json::{Value, json};

/// A role with a master.
fn pair<'a>(name: &str) -> Subject<'a> {
    let subject = ground().subject(name);
    let master = master_of(subject.server, (major() >= 16).then_some(&subject.role));
    let mut value = subject.at("AWSCURRENT");
    value["masterarn"] = json!(master);
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    subject
}

impl Subject<'_> {
    fn admin(&self) -> Client {
        self.server.connect("postgres", "postgres")
    }

    fn ask(&self, sql: &str) -> String {
        self.admin().query_one(sql, &[]).unwrap().get(0)
    }
}

#[test]
fn the_current_user_is_never_touched() {
    let subject = pair("pair");
    let (role, clone) = (subject.role.clone(), format!("{}_clone", subject.role));
    let first = subject.at("AWSCURRENT");
    for expected in [&clone, &role, &clone, &role] {
        let before = subject.at("AWSCURRENT");
        subject.rotate().unwrap();
        assert_eq!(subject.last_outcome(), "succeeded");
        subject.assert_at_rest();
        let after = subject.at("AWSCURRENT");
        assert_eq!(after["username"], **expected);
        assert_ne!(after["password"], before["password"]);
        assert!(subject.logs_in(&before), "who has read it before can still log in");
    }
    assert!(!subject.logs_in(&first), "two rotations later it is over");
}

#[test]
fn the_clone_is_what_the_base_role_is() {
    let subject = pair("equal");
    let role = &subject.role;
    subject
        .admin()
        .batch_execute(&format!(
            "ALTER ROLE {role} CONNECTION LIMIT 7 VALID UNTIL '2100-01-01';
             ALTER ROLE {role} SET search_path TO \"$user\", 'odd \"name\"', public;
             ALTER ROLE {role} SET work_mem TO '5MB';
             ALTER ROLE {role} IN DATABASE postgres SET TimeZone TO 'Europe/Berlin';
             CREATE SCHEMA AUTHORIZATION {role}"
        ))
        .unwrap();
    subject.rotate().unwrap();
    let clone = format!("{role}_clone");
    let login = subject.at("AWSCURRENT");
    assert_eq!(login["username"], *clone);
    let conninfo = format!(
        "host=127.0.0.1 port={} user={clone} password={} dbname=postgres",
        subject.server.port(),
        login["password"].as_str().unwrap()
    );
    let run = |sql: &str| {
        let output = subject.server.psql_with(&conninfo, sql);
        assert!(output.success, "{sql}: {output:?}");
        output.stdout.trim().to_owned()
    };
    assert_eq!(run("SELECT current_user || ' ' || session_user"), format!("{role} {clone}"));
    assert_eq!(run("SHOW search_path"), "\"$user\", \"odd \"\"name\"\"\", public");
    assert_eq!(run("SHOW work_mem"), "5MB");
    assert_eq!(run("SHOW TimeZone"), "Europe/Berlin");
    run("CREATE TABLE made (i int)");
    assert_eq!(
        subject.ask(&format!(
            "SELECT tableowner::text FROM pg_tables WHERE schemaname = '{role}' AND tablename = 'made'"
        )),
        *role
    );
    let limits = |name: &str| {
        subject.ask(&format!(
            "SELECT rolconnlimit || ' ' || rolvaliduntil FROM pg_roles WHERE rolname = '{name}'"
        ))
    };
    assert_eq!(limits(&clone), limits(role));

    // What changes later follows in the clone's next turn.
    subject
        .admin()
        .batch_execute(&format!("ALTER ROLE {role} RESET work_mem; ALTER ROLE {role} CONNECTION LIMIT -1"))
        .unwrap();
    subject.rotate().unwrap();
    subject.rotate().unwrap();
    assert_eq!(subject.at("AWSCURRENT")["username"], *clone);
    assert_eq!(limits(&clone), limits(role));
    let settings = subject.ask(&format!(
        "SELECT string_agg(setconfig::text, ' ') FROM pg_db_role_setting WHERE setrole = '{clone}'::regrole"
    ));
    assert!(!settings.contains("work_mem") && settings.contains(&format!("role={role}")), "{settings}");
}

#[test]
fn it_takes_eight_calls() {
    let subject = pair("calls");
    let master = subject.at("AWSCURRENT")["masterarn"].as_str().unwrap().to_owned();
    let arn = api().call("DescribeSecret", json!({ "SecretId": subject.secret })).unwrap();
    let relay = &subject.ground.relay;
    for secret in [&subject.secret, &master] {
        relay.forget(secret);
    }
    subject.rotate().unwrap();
    assert_eq!(subject.last_outcome(), "succeeded");
    let secrets = [subject.secret.as_str(), &master, arn["ARN"].as_str().unwrap()];
    assert_eq!(secrets.map(|secret| relay.operations(secret).len()).iter().sum::<usize>(), 8);
}

#[test]
fn what_is_no_pair() {
    let refused = |subject: &Subject<'_>| {
        let (before, error) = (subject.at("AWSCURRENT"), db_error(subject.rotate()));
        subject.assert_untouched(&before);
        (error.code().code().to_owned(), error.message().to_owned())
    };

    let subject = pair("stranger");
    let role = &subject.role;
    subject.admin().batch_execute(&format!("CREATE ROLE {role}_clone")).unwrap();
    let stranger = ("55000".into(), format!("role \"{role}_clone\" is not a clone of \"{role}\""));
    assert_eq!(refused(&subject), stranger);
    subject
        .admin()
        .batch_execute(&format!("GRANT {role} TO {role}_clone; CREATE TABLE owned_by_{role} (); ALTER TABLE owned_by_{role} OWNER TO {role}_clone"))
        .unwrap();
    let owns = ("55000".into(), format!("role \"{role}_clone\", the clone of \"{role}\", owns objects"));
    assert_eq!(refused(&subject), owns);

    // Called so from the beginning.
    let subject = pair("base");
    let mut value = subject.at("AWSCURRENT");
    let odd = format!("{}_clone", subject.role.replace("base", "odd"));
    value["username"] = json!(odd);
    subject.server.create_login(&odd, value["password"].as_str().unwrap(), "scram-sha-256");
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    assert_eq!(refused(&subject).0, "42704");

    // Too long a name.
    let subject = pair("long");
    let mut value = subject.at("AWSCURRENT");
    let long = format!("{}{}", subject.role, "x".repeat(60 - subject.role.len()));
    value["username"] = json!(long);
    subject.server.create_login(&long, value["password"].as_str().unwrap(), "scram-sha-256");
    api().put_secret_value(&subject.secret, &value.to_string(), &["AWSCURRENT"]);
    assert_eq!(
        refused(&subject),
        ("42622".into(), format!("name of role \"{long}\" is too long for a clone"))
    );
}

#[test]
fn the_master_acts_for_those_who_can_log_in_at_its_own_host() {
    let set = |subject: &Subject<'_>, field: &str, value: Value| {
        let mut changed = subject.at("AWSCURRENT");
        changed[field] = value;
        api().put_secret_value(&subject.secret, &changed.to_string(), &["AWSCURRENT"]);
    };
    let code = |subject: &Subject<'_>| {
        let error = db_error(subject.rotate());
        (error.code().code().to_owned(), error.message().to_owned())
    };

    let subject = pair("confused");
    // AWSPREVIOUS holds the right one; two edits later it does not.
    set(&subject, "password", json!("wrong"));
    set(&subject, "password", json!("wrong too"));
    let role = subject.role.clone();
    assert_eq!(code(&subject).0, "28P01");
    let exists = subject
        .admin()
        .query("SELECT FROM pg_roles WHERE rolname = $1", &[&format!("{role}_clone")])
        .unwrap();
    assert!(exists.is_empty(), "the master has done nothing");

    let subject = pair("elsewhere");
    set(&subject, "host", json!("localhost"));
    let (code_found, message) = code(&subject);
    assert_eq!(code_found, "55000");
    assert!(message.ends_with("is not of server \"localhost\""), "{message}");

    let subject = pair("own_master");
    set(&subject, "masterarn", json!(subject.secret));
    assert_eq!(code(&subject), ("55000".into(), own_master(&subject)));

    let subject = ground().subject("no_master");
    let error = db_error(rotate(&mut subject.ground.session(), &subject.secret, Some("alternating_users")));
    assert_eq!(error.code().code(), "55000");
    assert!(error.message().ends_with("names no master secret"), "{error:?}");

    // A master whose secret is RDS's own.
    let subject = pair("managed_master");
    let managed = format!("rds!cluster-{}", subject.role);
    api().create_login_secret(&managed, "postgres", "secret");
    set(&subject, "masterarn", json!(managed));
    let before = subject.at("AWSCURRENT");
    let error = db_error(subject.rotate());
    assert_eq!(error.code().code(), "22023");
    assert_eq!(error.message(), format!("secret \"{managed}\" has no host field"));
    assert!(error.hint().unwrap().starts_with("Secrets that RDS manages name no host."), "{error:?}");
    subject.assert_untouched(&before);

    // A master that may not do it.
    let subject = pair("powerless");
    let master = subject.at("AWSCURRENT")["masterarn"].as_str().unwrap().to_owned();
    let master: Value = serde_json::from_str(&api().get_secret_value(&master).unwrap()).unwrap();
    let name = master["username"].as_str().unwrap();
    assert!(log_in(subject.server, name, master["password"].as_str().unwrap()));
    subject.admin().batch_execute(&format!("ALTER ROLE {name} NOCREATEROLE")).unwrap();
    let before = subject.at("AWSCURRENT");
    assert_eq!(code(&subject).0, "42501");
    subject.assert_untouched(&before);
}

fn own_master(subject: &Subject<'_>) -> String {
    let arn = api().call("DescribeSecret", json!({ "SecretId": subject.secret })).unwrap();
    format!("secret \"{}\" cannot be its own master", arn["ARN"].as_str().unwrap())
}
