"""The infrastructure code for AWS makes the queues that `ensure_queues` makes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from headrace_common.settings import SqsSettings
from headrace_common.sqs import ensure_queues, sqs_client
from headrace_local.pytest_plugin import LocalServers

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

COMPARED = ("MessageRetentionPeriod", "VisibilityTimeout", "ReceiveMessageWaitTimeSeconds")
TEMPLATE = Path(__file__).parents[2] / "deploy" / "aws" / "queues.yaml"


def test_the_template_makes_the_same_queues(local_servers: LocalServers) -> None:
    credentials = dict(local_servers.aws_credentials)
    settings = SqsSettings.model_validate(
        {
            "sqs_endpoint_url": local_servers.sqs_endpoint_url,
            "aws_region": credentials.pop("region_name"),
            **credentials,
        }
    )
    client = sqs_client(settings)
    prefix = f"t{uuid4().hex[:8]}-"
    ensure_queues(client, prefix=prefix)
    made = _made(client, prefix)
    client.close()
    assert _declared() == made


def _declared() -> dict[str, dict[str, Any]]:
    # Takes two seconds of each test process, of which one runs this.
    from cfnlint.decode import cfn_yaml  # noqa: PLC0415

    resources = cfn_yaml.load(str(TEMPLATE))["Resources"]
    names = {
        resource: body["Properties"]["QueueName"]["Fn::Sub"][0]
        .removeprefix("${Prefix}")
        .removesuffix("${Suffix}")
        for resource, body in resources.items()
    }
    queues = {}
    for resource, body in resources.items():
        properties = body["Properties"]
        queues[names[resource]] = {
            **{name: int(properties[name]) for name in COMPARED if name in properties},
            "redrive": _redrive(properties.get("RedrivePolicy"), names),
        }
    return queues


def _redrive(policy: dict[str, Any] | None, names: dict[str, str]) -> list[Any] | None:
    if policy is None:
        return None
    return [names[policy["deadLetterTargetArn"]["Fn::GetAtt"][0]], policy["maxReceiveCount"]]


def _made(client: "SQSClient", prefix: str) -> dict[str, dict[str, Any]]:
    queues = {}
    for url in client.list_queues(QueueNamePrefix=prefix)["QueueUrls"]:
        answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        attributes = {str(name): value for name, value in answer["Attributes"].items()}
        redrive = json.loads(attributes.get("RedrivePolicy", "null"))
        name = url.rpartition("/")[2].removeprefix(prefix)
        compared = COMPARED if redrive else COMPARED[:1]  # nobody receives from dead letters
        queues[name] = {
            **{key: int(attributes[key]) for key in compared},
            "redrive": redrive
            and [
                redrive["deadLetterTargetArn"].rpartition(":")[2].removeprefix(prefix),
                redrive["maxReceiveCount"],
            ],
        }
    return queues
