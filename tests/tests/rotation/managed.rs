//! Secrets that AWS rotates, or a function that AWS calls: RotateSecret, and waiting.

use crate::ground::{PATIENCE, rotate};
use secretlink_e2e::{Cluster, ScriptedEndpoint, db_error, eventually};
use serde_json::{Value, json};

const SECRET: &str = "rds!db-1";

struct Scene {
    aws: ScriptedEndpoint,
    server: Cluster,
}

impl Scene {
    fn start() -> Self {
        let aws = ScriptedEndpoint::start();
        let server = Cluster::local_with_endpoint(&aws.url())
            .preload(true)
            .conf("secretlink.max_attempts = 1")
            .conf("secretlink.rotation_timeout = '3s'")
            .start();
        let scene = Self { aws, server };
        scene.stages(json!({ "first": ["AWSCURRENT"] }));
        scene
    }

    /// What is at which version, as an answer to DescribeSecret and RotateSecret alike.
    fn stages(&self, stages: Value) {
        let answer = json!({
            "ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds!db-1-AbCdEf", "Name": SECRET,
            "OwningService": "rds", "VersionId": "second", "VersionIdsToStages": stages,
            "NextRotationDate": 1_798_761_600,
        });
        self.aws.answer(200, &answer.to_string());
    }

    /// The input of the last RotateSecret.
    fn rotation(&self) -> Value {
        eventually("RotateSecret is called", PATIENCE, || {
            let requests = self.aws.requests();
            let last = requests.iter().rev().find(|request| request.contains("secretsmanager.RotateSecret"));
            let body = last.and_then(|request| request.split("\r\n\r\n").nth(1));
            body.and_then(|body| serde_json::from_str(body).ok()).ok_or("not yet".to_owned())
        })
    }

    fn token(&self) -> String {
        self.rotation()["ClientRequestToken"].as_str().unwrap().to_owned()
    }

    fn rotate(&self) -> Result<String, postgres::Error> {
        rotate(&mut self.server.connect("postgres", "postgres"), SECRET, None)
    }

    fn last(&self) -> (String, Option<String>) {
        let sql = "SELECT strategy, outcome FROM rotation_history ORDER BY run DESC LIMIT 1";
        let row = self.server.connect("postgres", "postgres").query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1))
    }
}

#[test]
fn it_is_waited_for_until_that_version_is_current() {
    let scene = Scene::start();
    let version = std::thread::scope(|scope| {
        let rotated = scope.spawn(|| scene.rotate());
        let token = scene.token();
        assert_eq!(scene.rotation()["RotateImmediately"], true);
        scene.stages(json!({ "first": ["AWSCURRENT"], &token: ["AWSPENDING"] }));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(!rotated.is_finished());
        scene.stages(json!({ "first": ["AWSPREVIOUS"], &token: ["AWSCURRENT"] }));
        assert_eq!(rotated.join().unwrap().unwrap(), token);
        token
    });
    assert!(version.starts_with("slrotate-"));
    assert_eq!(scene.last(), ("managed".into(), Some("managed".into())));
    assert!(scene.aws.requests().iter().all(|request| !request.contains("GetSecretValue")), "it is not read");
}

#[test]
fn what_fails_and_what_never_ends() {
    let scene = Scene::start();
    std::thread::scope(|scope| {
        let rotated = scope.spawn(|| scene.rotate());
        let token = scene.token();
        scene.stages(json!({ "first": ["AWSCURRENT"], &token: ["AWSPENDING"] }));
        // Seen once at least.
        let seen = scene.aws.requests().len();
        eventually("it is looked at", PATIENCE, || match scene.aws.requests().len() > seen + 1 {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        });
        scene.stages(json!({ "first": ["AWSCURRENT"] }));
        let error = db_error(rotated.join().unwrap());
        assert_eq!(
            (error.code().code(), error.message().contains("by AWS has failed")),
            ("38000", true),
            "{error:?}"
        );
    });
    assert_eq!(scene.last(), ("managed".into(), Some("failed".into())));

    let error = db_error(scene.rotate());
    assert_eq!(error.code().code(), "57014", "{error:?}");

    let error =
        db_error(rotate(&mut scene.server.connect("postgres", "postgres"), SECRET, Some("single_user")));
    assert_eq!((error.code().code(), error.message()), ("55000", "secret \"rds!db-1\" is rotated by rds"));

    scene.stages(json!({ "first": ["AWSCURRENT"], "theirs": ["AWSPENDING"] }));
    assert_eq!(db_error(scene.rotate()).code().code(), "55006");
}

#[test]
fn a_schedule_is_awss_own() {
    let scene = Scene::start();
    let mut session = scene.server.connect("postgres", "postgres");
    let sql = "SELECT schedule_rotation($1, 'rate(10 days)', '3h')::text";
    let next: String = session.query_one(sql, &[&SECRET]).unwrap().get(0);
    assert_eq!(next, "2027-01-01 00:00:00+00");
    let input = scene.rotation();
    assert_eq!(input["RotationRules"], json!({ "ScheduleExpression": "rate(10 days)", "Duration": "3h" }));
    assert_eq!(input["RotateImmediately"], false);
    let row = session.query_one("SELECT strategy, state FROM rotation_schedule", &[]).unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("managed", "aws"));
    scene.aws.refuse("InvalidRequestException", "You can't do that.");
    assert!(session.query_one(sql, &[&SECRET]).is_err());
}
