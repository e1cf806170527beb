//! A minimal Secrets Manager client, independent of the one under test.

use serde_json::{Value, json};
use std::time::Duration;

/// Calls Secrets Manager's JSON 1.1 protocol over plain HTTP. moto does not check signatures: the
/// credential scope only tells it which service and region is meant.
#[derive(Clone, Debug)]
pub struct SecretsApi {
    agent: ureq::Agent,
    endpoint: String,
    region: String,
}

/// An error answer, for example 400 `ResourceNotFoundException`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The name of the exception.
    pub kind: String,
    /// The error's message.
    pub message: String,
}

impl SecretsApi {
    /// A client for `endpoint`, in the region us-east-1.
    pub fn new(endpoint: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .proxy(None)
            .build()
            .new_agent();
        Self { agent, endpoint: endpoint.to_owned(), region: "us-east-1".to_owned() }
    }

    /// This client for another region.
    pub fn in_region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    /// Any call of the service, for example `UpdateSecretVersionStage`.
    pub fn call(&self, action: &str, input: Value) -> Result<Value, ApiError> {
        let scope = format!("test/20260101/{}/secretsmanager/aws4_request", self.region);
        let mut response = self
            .agent
            .post(&self.endpoint)
            .header("Content-Type", "application/x-amz-json-1.1")
            .header("X-Amz-Target", format!("secretsmanager.{action}"))
            .header(
                "Authorization",
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=x"),
            )
            .send(input.to_string())
            .unwrap_or_else(|e| panic!("{action}: no answer from {}: {e}", self.endpoint));
        let text = response.body_mut().read_to_string().expect("cannot read the answer");
        let body: Value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{action}: an answer that is not JSON ({e}): {text}"));
        if response.status().is_success() {
            return Ok(body);
        }
        let field = |names: [&str; 2]| {
            names.iter().find_map(|name| body[name].as_str()).unwrap_or_default().to_owned()
        };
        Err(ApiError {
            status: response.status().as_u16(),
            kind: field(["__type", "code"]),
            message: field(["message", "Message"]),
        })
    }

    /// Create a secret with a text value; returns its ARN.
    pub fn create_secret(&self, name: &str, value: &str) -> String {
        self.text("CreateSecret", json!({ "Name": name, "SecretString": value }), "ARN")
    }

    /// Create a secret that holds what `connect_with_secret` needs; returns its ARN.
    pub fn create_login_secret(&self, name: &str, username: &str, password: &str) -> String {
        self.create_secret(name, &json!({ "username": username, "password": password }).to_string())
    }

    /// The current text value.
    pub fn get_secret_value(&self, id: &str) -> Result<String, ApiError> {
        self.get_stage(id, "AWSCURRENT")
    }

    /// The text value of the version with a staging label.
    pub fn get_stage(&self, id: &str, stage: &str) -> Result<String, ApiError> {
        let answer = self.call("GetSecretValue", json!({ "SecretId": id, "VersionStage": stage }))?;
        Ok(answer["SecretString"].as_str().expect("the secret holds no text").to_owned())
    }

    /// All versions, oldest first, each with its staging labels.
    pub fn versions(&self, id: &str) -> Vec<(String, Vec<String>)> {
        let answer = self
            .call("ListSecretVersionIds", json!({ "SecretId": id, "IncludeDeprecated": true }))
            .unwrap_or_else(|e| panic!("ListSecretVersionIds: {e:?}"));
        let text = |value: &Value| value.as_str().expect("ids and labels are text").to_owned();
        let versions = answer["Versions"].as_array().expect("a list of versions");
        versions
            .iter()
            .map(|version| {
                let stages = version["VersionStages"].as_array().into_iter().flatten();
                (text(&version["VersionId"]), stages.map(text).collect())
            })
            .collect()
    }

    /// The id of the version with a staging label.
    pub fn version_at(&self, id: &str, stage: &str) -> Option<String> {
        let versions = self.versions(id);
        versions.into_iter().find_map(|(id, stages)| stages.iter().any(|s| s == stage).then_some(id))
    }

    /// Moves a staging label, or takes it away: only if it is at the version `from`.
    ///
    /// # Errors
    /// As the service says; above all, that the label is at another version.
    pub fn move_label(
        &self,
        id: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut input = json!({ "SecretId": id, "VersionStage": label });
        for (field, version) in [("RemoveFromVersionId", from), ("MoveToVersionId", to)] {
            if let Some(version) = version {
                input[field] = version.into();
            }
        }
        self.call("UpdateSecretVersionStage", input).map(drop)
    }

    /// Store a new text value at `stages`; returns its version id.
    pub fn put_secret_value(&self, id: &str, value: &str, stages: &[&str]) -> String {
        let input = json!({ "SecretId": id, "SecretString": value, "VersionStages": stages });
        self.text("PutSecretValue", input, "VersionId")
    }

    /// Delete at once if `force`, else mark for deletion.
    pub fn delete_secret(&self, id: &str, force: bool) {
        let input = if force {
            json!({ "SecretId": id, "ForceDeleteWithoutRecovery": true })
        } else {
            json!({ "SecretId": id, "RecoveryWindowInDays": 7 })
        };
        self.text("DeleteSecret", input, "ARN");
    }

    /// Forget every secret.
    pub fn reset(&self) {
        self.try_reset().unwrap_or_else(|problem| panic!("moto did not reset: {problem}"));
    }

    /// Forget every secret, if it is moto that answers. The error says what came instead.
    pub(crate) fn try_reset(&self) -> Result<(), String> {
        let url = format!("{}/moto-api/reset", self.endpoint);
        let response = self.agent.post(&url).send_empty().map_err(|error| error.to_string())?;
        if response.status().is_success() { Ok(()) } else { Err(response.status().to_string()) }
    }

    /// A call that must work, and one text field of its answer.
    fn text(&self, action: &str, input: Value, field: &str) -> String {
        let answer = self.call(action, input).unwrap_or_else(|e| panic!("{action}: {e:?}"));
        answer[field].as_str().unwrap_or_else(|| panic!("{action}: no {field} in {answer}")).to_owned()
    }
}
