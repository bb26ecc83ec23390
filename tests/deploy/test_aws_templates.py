"""The roles for AWS allow what the code calls and no more; the bucket keeps what it must."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from aws_templates import ROOT, template
from k8s_manifests import labels_of, named, of_kind, pod_of, render, workloads

from headrace_common.contracts.analysis import results_folder
from headrace_dispatcher.settings import DispatcherSettings
from headrace_ingest_api.settings import IngestSettings

#: What a call of boto3 needs to be allowed.
ACTIONS: Final = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "head_bucket": "s3:ListBucket",
    "head_object": "s3:GetObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
    "list_parts": "s3:ListMultipartUploadParts",
    "put_object": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "change_message_visibility": "sqs:ChangeMessageVisibility",
    "change_message_visibility_batch": "sqs:ChangeMessageVisibility",
    "delete_message": "sqs:DeleteMessage",
    "delete_message_batch": "sqs:DeleteMessage",
    "get_queue_attributes": "sqs:GetQueueAttributes",
    "get_queue_url": "sqs:GetQueueUrl",
    "receive_message": "sqs:ReceiveMessage",
    "send_message": "sqs:SendMessage",
    "send_message_batch": "sqs:SendMessage",
}
#: Any call of the two services, whether it has a place above or not.
_CALL: Final = re.compile(
    r"(?:\.|get_paginator\(\s*\"|generate_presigned_url\(\s*\")"
    r"((?:abort|change|complete|copy|create|delete|get|head|list|purge|put|receive|send|upload)_"
    r"(?:multipart|message|object|bucket|queue|part|parts|objects)\w*)[(\"]"
)
#: Of Redis' subscriptions.
_OTHERS: Final = {"get_message"}
#: The code that runs with a role.
CODE: Final = {
    "ingest-api": ("services/ingest-api/src",),
    "dispatcher": ("services/dispatcher/src",),
    "results": ("services/results/src",),
    "analysis-server": ("libs/analysis/src", "examples/speech-analysis-server/src"),
}


@pytest.fixture(scope="module")
def roles() -> dict[str, dict[str, Any]]:
    """Return the properties of each role by its name."""
    resources = template("access.yaml")["Resources"].values()
    return {
        each["Properties"]["RoleName"]["Fn::Sub"].removeprefix("${RolePrefix}"): each["Properties"]
        for each in resources
    }


def _statements(role: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for policy in role["Policies"]:
        yield from policy["PolicyDocument"]["Statement"]


def _calls(folders: tuple[str, ...]) -> set[str]:
    found = {
        call
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for call in _CALL.findall(path.read_text())
    }
    return found - _OTHERS


@pytest.mark.parametrize("name", CODE)
def test_a_role_may_do_what_its_code_does(name: str, roles: dict[str, dict[str, Any]]) -> None:
    calls = _calls(CODE[name])
    assert calls <= ACTIONS.keys()
    allowed = {action for each in _statements(roles[name]) for action in each["Action"]}
    assert allowed == {ACTIONS[call] for call in calls}


def test_no_role_reaches_beyond_our_own(roles: dict[str, dict[str, Any]]) -> None:
    assert roles.keys() == CODE.keys() | {"keda", "secrets"}
    for name, role in roles.items():
        for statement in _statements(role):
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in statement["Action"]), name
            text = json.dumps(statement["Resource"])
            assert re.search(r"QueuePrefix|BucketName|SecretPrefix", text), name
            if any(action.startswith("sqs:") for action in statement["Action"]):
                assert "*" not in text, name


def test_results_are_stored_where_the_contract_says(roles: dict[str, dict[str, Any]]) -> None:
    [put] = [
        each for each in _statements(roles["analysis-server"]) if "s3:PutObject" in each["Action"]
    ]
    assert results_folder("JOB").startswith("results/")
    assert [each["Fn::Sub"].rpartition("}/")[2] for each in put["Resource"]] == ["results/*"]


def test_queues_of_the_roles_are_those_of_the_queuestemplate(
    roles: dict[str, dict[str, Any]],
) -> None:
    made = {
        each["Properties"]["QueueName"]["Fn::Sub"][0]
        .removeprefix("${Prefix}")
        .removesuffix("${Suffix}")
        for each in template("queues.yaml")["Resources"].values()
    }
    found = re.findall(r"\$\{QueuePrefix\}([\w-]+)\$\{S\}", json.dumps(roles))
    assert set(found) == made


@pytest.mark.parametrize("overlay", ["production", "staging"])
def test_pods_have_the_role_that_trusts_them(
    overlay: str, roles: dict[str, dict[str, Any]]
) -> None:
    objects = render(overlay)
    annotated = {
        account["metadata"]["name"]: arn.partition(":role/")[2]
        for account in of_kind(objects, "ServiceAccount")
        for name, arn in account["metadata"].get("annotations", {}).items()
        if name == "eks.amazonaws.com/role-arn"
    }
    trusted = {
        account: role
        for role, properties in roles.items()
        for account in re.findall(
            r"serviceaccount:\$\{Namespace\}:([\w-]+)",
            properties["AssumeRolePolicyDocument"]["Fn::Sub"],
        )
    }
    prefix = {"production": "headrace-", "staging": "headrace-staging-"}[overlay]
    assert annotated == {account: prefix + role for account, role in trusted.items()}
    # Whoever has no role calls nothing of AWS.
    without = {
        each["metadata"]["name"]
        for each in workloads(objects)
        if pod_of(each)["spec"]["serviceAccountName"] not in annotated
    }
    assert without == {"gpu-preprocessor", "migration"}
    policy = named(objects, "NetworkPolicy", "to-aws")["spec"]["podSelector"]
    [expression] = policy["matchExpressions"]
    assert without.isdisjoint(expression["values"])
    assert all(labels_of(each) for each in workloads(objects))


def test_trust_is_readable_and_for_one_audience(roles: dict[str, dict[str, Any]]) -> None:
    for name, role in roles.items():
        text = role["AssumeRolePolicyDocument"]["Fn::Sub"]
        [statement] = json.loads(text)["Statement"]
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity", name
        condition = statement["Condition"]["StringEquals"]
        assert condition.pop("${OidcProvider}:aud") == "sts.amazonaws.com"
        assert condition.keys() == {"${OidcProvider}:sub"}


def test_the_bucket_is_closed_and_ends_uploads_after_headrace_did() -> None:
    resources = template("storage.yaml")["Resources"]
    bucket = resources["Media"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert resources["Media"]["DeletionPolicy"] == "Retain"
    [rule] = bucket["LifecycleConfiguration"]["Rules"]
    seconds = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] * 86_400
    direct = IngestSettings.model_fields["direct_upload_expiry_hours"].default * 3_600
    streamed = DispatcherSettings.model_fields["upload_timeout_seconds"].default
    assert seconds > 2 * max(direct, streamed)
    # No other rule: what jobs leave has the retention of the job, which S3 does not know.
    assert rule.keys() == {"Id", "Status", "AbortIncompleteMultipartUpload"}
    [statement] = resources["MediaPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
