//! The harness itself: what the other tests take for granted.

use secretlink_e2e::{
    Cluster, Fault, Mode, Moto, NeverAnswers, Process, Proxy, SecretsApi, SecretsRelay, StopMode,
    backend_pid, eventually,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_cluster_starts_and_leaves_nothing_behind() {
    let began = Instant::now();
    let cluster = Cluster::plain().start();
    println!("a cluster started in {:?}", began.elapsed());

    let encoding: String =
        cluster.connect("postgres", "postgres").query_one("SHOW server_encoding", &[]).unwrap().get(0);
    assert_eq!(encoding, "UTF8");

    let postmaster = Process::new(cluster.postmaster_pid());
    let socket_dir = cluster.socket_dir();
    assert!(postmaster.is_alive() && socket_dir.exists());
    drop(cluster);
    assert!(!postmaster.is_alive(), "the postmaster outlived its cluster");
    assert!(!socket_dir.parent().unwrap().exists(), "the directory outlived its cluster");
}

#[test]
fn a_cluster_survives_restart_and_crash() {
    let mut cluster = Cluster::plain().conf("log_min_messages = debug1").start();
    assert!(cluster.psql("CREATE TABLE kept AS SELECT 42 AS answer").success);
    cluster.restart(StopMode::Fast);
    cluster.restart(StopMode::Immediate);
    let output = cluster.psql("SELECT answer FROM kept");
    assert_eq!(output.stdout, "42\n", "{}", output.stderr);
    assert!(cluster.log().contains("database system was not properly shut down"), "{}", cluster.log());
}

#[test]
fn the_server_knows_nothing_of_the_environment_of_the_tests() {
    let cluster = Cluster::plain().env("SECRETLINK_TEST", "1").without_env("AWS_ACCESS_KEY_ID").start();
    let environ = std::fs::read(format!("/proc/{}/environ", cluster.postmaster_pid())).unwrap();
    let mut names: Vec<String> = String::from_utf8(environ)
        .unwrap()
        .split_terminator('\0')
        .filter_map(|variable| Some(variable.split_once('=')?.0.to_owned()))
        .filter(|name| name != "PG_GRANDPARENT_PID")
        .collect();
    names.sort();
    let expected = [
        "AWS_EC2_METADATA_DISABLED",
        "AWS_SECRET_ACCESS_KEY",
        "HOME",
        "LANG",
        "PATH",
        "SECRETLINK_TEST",
        "TZ",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_remote_demands_scram_over_tls() {
    let remote = Cluster::remote().demo_tables().start();
    let tls = remote.tls();
    let connect = |options: &str, password: &str| {
        let conninfo = format!(
            "host=localhost hostaddr=127.0.0.1 port={} dbname=testdb user=app password='{password}' {options}",
            remote.port()
        );
        remote.psql_with(
            &conninfo,
            "SELECT ssl, count(*) FROM pg_stat_ssl, orders WHERE pid = pg_backend_pid() GROUP BY ssl",
        )
    };

    let verified = format!("sslmode=verify-full sslrootcert={}", tls.ca.display());
    for options in ["sslmode=require channel_binding=require", &verified] {
        let output = connect(options, remote.app_password());
        assert_eq!(output.stdout, "t|4\n", "{options}: {}", output.stderr);
    }

    let unencrypted = connect("sslmode=disable", remote.app_password());
    assert!(unencrypted.stderr.contains("no pg_hba.conf entry"), "{}", unencrypted.stderr);
    let wrong = connect("sslmode=require", "wrong");
    assert!(wrong.stderr.contains("password authentication failed"), "{}", wrong.stderr);
    let verifier = remote.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    assert!(verifier.stdout.starts_with("SCRAM-SHA-256$"), "{}", verifier.stdout);
}

#[test]
fn a_remote_takes_other_ways_to_log_in_and_other_names() {
    let remote = Cluster::remote()
        .auth("hostssl", "certified", "cert map=any")
        .auth("hostnossl", "old", "md5")
        .auth("hostssl", "clear", "password")
        .auth("host", "friend", "trust")
        .server_names(&["db.example.com"])
        .start();
    std::fs::write(remote.data_dir().join("pg_ident.conf"), "any app certified\n").unwrap();
    assert!(remote.psql("SELECT pg_reload_conf()").success);
    remote.create_login("old", "o'ld", "md5");
    for name in ["certified", "clear", "friend"] {
        remote.create_login(name, name, "scram-sha-256");
    }
    let tls = remote.tls();
    let connect = |host: &str, options: &str| {
        let conninfo =
            format!("host={host} hostaddr=127.0.0.1 port={} dbname=testdb {options}", remote.port());
        remote.psql_with(&conninfo, "SELECT current_user")
    };
    let certificate = format!(
        "user=certified sslmode=require sslcert={} sslkey={}",
        tls.client_cert.display(),
        tls.client_key.display()
    );
    for (options, user) in [
        (certificate.as_str(), "certified\n"),
        ("user=old password=o\\'ld sslmode=disable", "old\n"),
        ("user=clear password=clear sslmode=require", "clear\n"),
        ("user=friend sslmode=disable", "friend\n"),
    ] {
        let output = connect("localhost", options);
        assert_eq!(output.stdout, user, "{options}: {}", output.stderr);
    }
    let verify = format!("user=friend sslmode=verify-full sslrootcert={}", tls.ca.display());
    let other_name = connect("localhost", &verify);
    assert!(other_name.stderr.contains("does not match host name"), "{}", other_name.stderr);
    assert!(connect("db.example.com", &verify).success);
}

#[test]
fn moto_keeps_secrets() {
    let moto = Moto::start();
    let secrets = moto.secrets();
    let arn = secrets.create_login_secret("test/db", "app", r#"quote " and \"#);
    assert!(arn.starts_with("arn:aws:secretsmanager:us-east-1:"), "{arn}");
    assert_eq!(secrets.get_secret_value(&arn).unwrap(), r#"{"password":"quote \" and \\","username":"app"}"#);

    let version = secrets.put_secret_value("test/db", "next", &["AWSPENDING"]);
    assert!(!version.is_empty());
    assert_ne!(secrets.get_secret_value("test/db").unwrap(), "next");
    secrets.put_secret_value("test/db", "now", &["AWSCURRENT"]);
    assert_eq!(secrets.get_secret_value("test/db").unwrap(), "now");

    let elsewhere = secrets.clone().in_region("eu-central-1").get_secret_value("test/db").unwrap_err();
    assert_eq!(elsewhere.kind, "ResourceNotFoundException");
    secrets.delete_secret("test/db", false);
    assert_eq!(secrets.get_secret_value("test/db").unwrap_err().kind, "InvalidRequestException");
    secrets.reset();
    assert_eq!(secrets.get_secret_value("test/db").unwrap_err().kind, "ResourceNotFoundException");
}

/// A server that sends back what it gets, until it is dropped with the test.
fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    port
}

fn connect_to(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream
}

/// What comes back for `message`; the error for a connection that was reset or stays silent.
fn echo(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(message)?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_proxy_misbehaves_as_told() {
    let proxy = Proxy::to(echo_server());
    let mut stream = connect_to(proxy.port());
    assert_eq!(echo(&mut stream, b"pass").unwrap(), b"pass");

    proxy.set(Mode::BlackHole);
    assert_eq!(echo(&mut stream, b"hole").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    proxy.set(Mode::Pass);
    let mut kept = [0; 4];
    stream.read_exact(&mut kept).unwrap();
    assert_eq!(&kept, b"hole", "what was held back arrives later");

    proxy.set(Mode::Delay(Duration::from_millis(60)));
    let began = Instant::now();
    assert_eq!(echo(&mut stream, b"late").unwrap(), b"late");
    // Once on the way there, once on the way back.
    assert!(began.elapsed() >= Duration::from_millis(120), "{:?}", began.elapsed());

    proxy.set(Mode::CutAfter(3));
    let mut cut = connect_to(proxy.port());
    cut.write_all(b"abcdef").unwrap();
    let mut received = Vec::new();
    let end = cut.read_to_end(&mut received);
    assert!(received.len() <= 3 && end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));

    proxy.set(Mode::Refuse);
    assert!(echo(&mut connect_to(proxy.port()), b"no").is_err());
    assert!(echo(&mut stream, b"no").is_err(), "a connection that exists is reset too");
    assert_eq!(proxy.accepted(), 3);
    eventually("all connections are closed", Duration::from_secs(2), || match proxy.open() {
        0 => Ok(()),
        open => Err(format!("{open} open")),
    });
}

#[test]
fn a_proxy_hands_on_the_end_of_what_a_client_has_to_say() {
    let proxy = Proxy::to(echo_server());
    let mut stream = connect_to(proxy.port());
    stream.write_all(b"the end").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "the end");
}

#[test]
fn a_dropped_proxy_ends_its_connections() {
    let hole = Proxy::black_hole();
    let mut stream = connect_to(hole.port());
    assert_eq!(echo(&mut stream, b"x").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!((hole.accepted(), hole.open()), (1, 1));
    let began = Instant::now();
    drop(hole);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn an_address_that_never_answers() {
    let nowhere = NeverAnswers::new();
    let attempt = TcpStream::connect_timeout(&nowhere.address(), Duration::from_millis(1500));
    assert_eq!(attempt.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(nowhere.address(), SocketAddr::from((Ipv4Addr::LOCALHOST, nowhere.port())));
}

#[test]
fn a_look_into_a_backend() {
    let cluster = Cluster::plain().start();
    let mut client = cluster.connect("postgres", "postgres");
    let backend = backend_pid(&mut client);
    assert!(backend.is_alive() && backend.threads() == 1);
    assert!(backend.resident_bytes() > 1 << 20 && backend.open_files() > 3);

    // Made from two halves: the whole is in no statement text.
    client.batch_execute("SET application_name = 'plain'").unwrap();
    let needle = b"NEEDLE-IN-THE-BACKEND";
    assert_eq!(backend.find_in_memory(needle), []);
    client.batch_execute("SELECT set_config('my.needle', 'NEEDLE-' || 'IN-THE-BACKEND', false)").unwrap();
    let hits = backend.find_in_memory(needle);
    assert!(hits.iter().any(|hit| !hit.mapping.starts_with('/')), "{hits:?}");

    drop(client);
    backend.until_gone(Duration::from_secs(5));
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_cluster", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (postmaster, directory) = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .find_map(|line| {
            let line = line.unwrap();
            let (pid, directory) = line.strip_prefix("OWNED ")?.split_once(' ')?;
            Some((Process::new(pid.parse().unwrap()), PathBuf::from(directory)))
        })
        .expect("the owner did not say what it owns");
    assert!(postmaster.is_alive() && directory.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();

    eventually("what a killed process owned is gone", Duration::from_secs(10), || {
        match (postmaster.is_alive(), directory.exists()) {
            (false, false) => Ok(()),
            left => Err(format!("postmaster, directory: {left:?}")),
        }
    });
}

#[test]
#[ignore = "a_killed_process_leaves_nothing_behind runs it, to kill it"]
fn owner_of_a_cluster() {
    let cluster = Cluster::plain().start();
    // A line of its own: libtest has begun one.
    println!("\nOWNED {} {}", cluster.postmaster_pid(), cluster.socket_dir().parent().unwrap().display());
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_relay_mistreats_one_secret_and_no_other() {
    let moto = Moto::start();
    let relay = SecretsRelay::to(&moto);
    let (direct, relayed) = (moto.secrets(), SecretsApi::new(&relay.endpoint()));
    direct.create_secret("good", "1");
    direct.create_secret("bad", "1");
    let put = |value: &'static str| {
        let relayed = relayed.clone();
        // The client panics when there is no answer.
        thread::spawn(move || relayed.put_secret_value("bad", value, &["AWSCURRENT"])).join()
    };
    let stored = || direct.get_secret_value("bad").unwrap();

    relay.rule("bad", |_| Fault::Cut);
    assert!(put("2").is_err() && stored() == "1");
    assert_eq!(relayed.get_secret_value("good").unwrap(), "1");
    relay.rule("bad", |_| Fault::CutAnswer);
    assert!(put("3").is_err() && stored() == "3");
    relay.rule("bad", |_| Fault::Refuse(400, "ThrottlingException"));
    let refused = relayed.get_secret_value("bad").unwrap_err();
    assert_eq!((refused.status, refused.kind.as_str()), (400, "ThrottlingException"));

    // By operation, and with the answer at hand.
    let (sender, seen) = std::sync::mpsc::channel();
    relay.rule("bad", {
        let direct = direct.clone();
        move |request| {
            if request.operation != "PutSecretValue" {
                return Fault::Refuse(403, "AccessDeniedException");
            }
            let (sender, direct) = (sender.clone(), direct.clone());
            let client = request.sender().map(Process::pid);
            Fault::BeforeAnswer(Box::new(move || {
                sender.send((client, direct.get_secret_value("bad").unwrap())).unwrap();
            }))
        }
    });
    put("4").unwrap();
    assert_eq!(seen.recv().unwrap(), (Some(std::process::id()), "4".to_owned()));
    assert_eq!(relayed.get_secret_value("bad").unwrap_err().status, 403);

    relay.pass("bad");
    assert_eq!(relayed.get_secret_value("bad").unwrap(), "4");
    assert_eq!(relay.count("bad", "PutSecretValue"), 3);
    assert_eq!(relay.operations("good"), ["GetSecretValue"]);
    assert_eq!(relay.requests("bad").last().unwrap().input["SecretId"], "bad");
}

#[test]
fn a_delayed_request_lands_though_its_client_has_gone() {
    let moto = Moto::start();
    let relay = SecretsRelay::to(&moto);
    moto.secrets().create_secret("late", "1");
    relay.rule("late", |_| Fault::Delay(Duration::from_millis(300)));
    let body = r#"{"SecretId":"late","SecretString":"2","VersionStages":["AWSCURRENT"]}"#;
    let address: SocketAddr = relay.endpoint().trim_start_matches("http://").parse().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: secretsmanager.PutSecretValue\r\n\
         Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/secretsmanager/aws4_request, \
         SignedHeaders=host, Signature=x\r\n\r\n",
        body.len()
    );
    client.write_all((head + body).as_bytes()).unwrap();
    eventually("the relay has it", Duration::from_secs(10), || {
        if relay.count("late", "PutSecretValue") == 1 { Ok(()) } else { Err(String::new()) }
    });
    drop(client);
    assert_eq!((relay.open(), moto.secrets().get_secret_value("late").unwrap().as_str()), (1, "1"));
    eventually("it lands", Duration::from_secs(10), || match relay.open() {
        0 => Ok(()),
        open => Err(open.to_string()),
    });
    assert_eq!(moto.secrets().get_secret_value("late").unwrap(), "2");
}

#[test]
fn the_stand_in_knows_versions_as_aws_does() {
    let moto = Moto::start();
    let api = moto.secrets();
    let token = |n: usize| format!("token-0123456789-0123456789-0123456-{n}");
    let put = |n: usize, value: &str, stage: &str| {
        let stages = [stage];
        let input = serde_json::json!({ "SecretId": "s", "SecretString": value, "ClientRequestToken": token(n), "VersionStages": stages });
        api.call("PutSecretValue", input)
    };
    let list = |deprecated: bool| -> Vec<(String, f64)> {
        let input = serde_json::json!({ "SecretId": "s", "IncludeDeprecated": deprecated });
        let answer = api.call("ListSecretVersionIds", input).unwrap();
        let versions = answer["Versions"].as_array().unwrap().iter();
        versions
            .map(|v| (v["VersionId"].as_str().unwrap().to_owned(), v["CreatedDate"].as_f64().unwrap()))
            .collect()
    };
    api.create_secret("s", "0");
    let first = api.version_at("s", "AWSCURRENT").unwrap();
    put(1, "1", "AWSPENDING").unwrap();
    put(2, "2", "AWSPENDING").unwrap();

    // The label has moved on: the version is there, but only if asked for.
    let described = api.call("DescribeSecret", serde_json::json!({ "SecretId": "s" })).unwrap();
    assert_eq!(described["VersionIdsToStages"].as_object().unwrap().len(), 2);
    assert_eq!(list(false).len(), 2);
    let all = list(true);
    assert_eq!(all.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), [first.clone(), token(1), token(2)]);
    assert!(all[0].1 < all[1].1 && all[1].1 < all[2].1, "{all:?}");
    assert!(list(true) == all, "they keep their dates");

    // One token, one value.
    put(2, "2", "AWSPENDING").unwrap();
    assert_eq!(put(2, "other", "AWSPENDING").unwrap_err().kind, "ResourceExistsException");

    // A label moves from where it is, to where it can be, or not at all.
    let mv = |from: &str, to: &str| api.move_label("s", "AWSCURRENT", Some(from), Some(to));
    mv(&first, "no-such-version-0123456789-0123456789").unwrap_err();
    mv(&token(1), &token(2)).unwrap_err();
    assert_eq!(api.version_at("s", "AWSCURRENT").as_ref(), Some(&first));
    mv(&first, &token(2)).unwrap();
    mv(&first, &token(1)).unwrap_err();
    assert_eq!(
        api.call("GetSecretValue", serde_json::json!({ "SecretId": "s" })).unwrap()["SecretString"],
        "2"
    );
    api.put_secret_value("s", "3", &["AWSCURRENT"]);
    assert_eq!(api.get_secret_value("s").unwrap(), "3");
    assert_eq!(api.version_at("s", "AWSPREVIOUS"), Some(token(2)));
}
