"""The two halves of the product."""

from headrace_local.parts import ALL_PARTS, Part, servers_of, services_of
from headrace_local.servers import SERVER_NAMES
from headrace_local.services import DEFAULT_SERVICES


def test_both_halves_are_everything_once() -> None:
    assert sorted(servers_of(ALL_PARTS)) == sorted(SERVER_NAMES)
    assert services_of(ALL_PARTS) == DEFAULT_SERVICES


def test_each_half_leaves_out_what_only_the_other_needs() -> None:
    assert not {"keystone", "swift"} & {*servers_of([Part.AUDIO])}
    assert "sqs" not in servers_of([Part.CCTV])
    names = {part: {spec.name for spec in services_of([part])} for part in Part}
    assert names[Part.AUDIO] & names[Part.CCTV] == {"ingest-api", "dispatcher", "results"}
    assert names[Part.AUDIO] ^ names[Part.CCTV] == {"analysis-server", "gpu-preprocessor"}
