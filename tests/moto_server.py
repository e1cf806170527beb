"""moto_server, with a few answers about versions as AWS gives them and moto does not.

- A version's CreatedDate is when it was created, to the fraction of a second; moto's
  ListSecretVersionIds says "now".
- A version without a staging label is in no answer of DescribeSecret, and in those of
  ListSecretVersionIds only if the request says IncludeDeprecated.
- The version that one gets without naming one is that labelled AWSCURRENT; moto's does not follow
  UpdateSecretVersionStage.
- UpdateSecretVersionStage does everything or nothing; moto first removes the label and then looks
  whether the version exists that is to have it.
- No label of a secret that was marked for deletion can be moved.
- A version keeps labels of one's own when another becomes AWSCURRENT; moto takes them away.
- RotateSecret is refused while AWSPENDING is at another version than AWSCURRENT; moto refuses it while it
  is at the same.
- RotateSecret that names a Lambda function makes a version that is AWSPENDING and has no value yet. The
  function itself is run by the test, in place of AWS.
- A version can be put twice with one token only if its value is the same, whatever its labels.
- One request at a time: moto changes a secret in several steps and has no locks.
"""

import json
import sys
import threading
import time

from moto.secretsmanager import models, responses
from moto.secretsmanager.exceptions import (
    InvalidParameterException,
    InvalidRequestException,
    ResourceExistsException,
)
from moto.server import main

Backend = models.SecretsManagerBackend
Responses = responses.SecretsManagerResponse
FakeSecret = models.FakeSecret


def labelled(secret):
    return {name: version for name, version in secret.versions.items() if version["version_stages"]}


def describe_labelled_only(self):
    return {name: version["version_stages"] for name, version in labelled(self).items()}


FakeSecret._form_version_ids_to_stages = describe_labelled_only

add_secret = Backend._add_secret


def add_secret_with_time(self, secret_id, *args, **kwargs):
    secret, is_new = add_secret(self, secret_id, *args, **kwargs)
    # The version just added is the last one.
    if is_new:
        list(secret.versions.values())[-1]["createdate"] = time.time()
    return secret, is_new


Backend._add_secret = add_secret_with_time


def list_secret_version_ids(self):
    secret = self.backend.describe_secret(self._get_param("SecretId"))
    versions = secret.versions if self._get_param("IncludeDeprecated") else labelled(secret)
    listed = [
        {"VersionId": name, "VersionStages": version["version_stages"], "CreatedDate": version["createdate"]}
        for name, version in versions.items()
    ]
    return json.dumps({"ARN": secret.arn, "Name": secret.name, "Versions": listed})


Responses.list_secret_version_ids = list_secret_version_ids

update_secret_version_stage = Backend.update_secret_version_stage


def update_secret_version_stage_at_once(
    self, secret_id, version_stage, remove_from_version_id, move_to_version_id
):
    secret = self.describe_secret(secret_id)
    if secret.is_deleted():
        raise InvalidRequestException(
            "You can't perform this operation on the secret because it was marked for deletion."
        )
    if move_to_version_id and move_to_version_id not in secret.versions:
        raise InvalidParameterException(f"Not a valid version: {move_to_version_id}")
    holders = [name for name, version in secret.versions.items() if version_stage in version["version_stages"]]
    if holders and move_to_version_id and holders != [remove_from_version_id] and holders != [move_to_version_id]:
        raise InvalidParameterException(
            f"The parameter RemoveFromVersionId must name version {holders[0]}, which holds {version_stage}."
        )
    answer = update_secret_version_stage(
        self, secret_id, version_stage, remove_from_version_id, move_to_version_id
    )
    if version_stage == "AWSCURRENT" and move_to_version_id:
        secret.set_default_version_id(move_to_version_id)
    return answer


Backend.update_secret_version_stage = update_secret_version_stage_at_once

put_secret_value = Backend.put_secret_value


def put_secret_value_once(self, secret_id, secret_string, secret_binary, client_request_token, version_stages):
    if client_request_token and self._is_valid_identifier(secret_id):
        known = self.secrets[secret_id].versions.get(client_request_token)
        if known and "secret_string" not in known and "secret_binary" not in known:
            # RotateSecret has made it.
            del self.secrets[secret_id].versions[client_request_token]
        elif known and known.get("secret_string") != secret_string:
            raise ResourceExistsException("You can't use this ClientRequestToken again with another value.")
    return put_secret_value(
        self, secret_id, secret_string, secret_binary, client_request_token, version_stages
    )


Backend.put_secret_value = put_secret_value_once

reset_default_version = FakeSecret.reset_default_version


def reset_default_version_with_labels(self, secret_version, version_id):
    before = self.versions.get(self.default_version_id)
    kept = [label for label in before["version_stages"] if not label.startswith("AWS")] if before else []
    reset_default_version(self, secret_version, version_id)
    if before:
        before["version_stages"] += [label for label in kept if label not in secret_version["version_stages"]]
    # A label that comes with the new version leaves every other.
    for name, version in self.versions.items():
        if name != version_id:
            version["version_stages"] = [
                label for label in version["version_stages"] if label not in secret_version["version_stages"]
            ]


FakeSecret.reset_default_version = reset_default_version_with_labels

rotate_secret = Backend.rotate_secret


def rotate_secret_if_at_rest(self, secret_id, *args, **kwargs):
    if self._is_valid_identifier(secret_id):
        secret = self.secrets[secret_id]
        for version in secret.versions.values():
            stages = version["version_stages"]
            if "AWSPENDING" in stages:
                if "AWSCURRENT" not in stages:
                    raise InvalidRequestException("Previous rotation request is still in progress.")
                stages.remove("AWSPENDING")
        if kwargs.get("rotation_lambda_arn") and not secret.is_deleted():
            return await_function(secret, kwargs["rotation_lambda_arn"], kwargs["client_request_token"])
    return rotate_secret(self, secret_id, *args, **kwargs)


def await_function(secret, function, token):
    secret.rotation_requested = secret.rotation_enabled = True
    secret.rotation_lambda_arn = function
    secret.versions[token] = {
        "version_id": token,
        "version_stages": ["AWSPENDING"],
        "createdate": time.time(),
    }
    return secret.to_short_dict(version_id=token)


Backend.rotate_secret = rotate_secret_if_at_rest

call_action = Responses.call_action
lock = threading.Lock()


def call_action_alone(self):
    with lock:
        return call_action(self)


Responses.call_action = call_action_alone

sys.exit(main())
