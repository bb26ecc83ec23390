"""The streams are cut to what somebody still needs."""

import pytest
from camera_harness import Streams, entry
from results_harness import Bench

from headrace_common.contracts.cctv import DEFAULT_GROUP, RESULTS_GROUP
from headrace_common.shifts import Shifts
from headrace_results.cameras.trimming import Trimming

pytestmark = pytest.mark.stack


@pytest.fixture
def own(bench: Bench) -> Streams:
    return Streams(bench.redis)


def trim(own: Streams) -> dict[str, object]:
    trimming = Trimming(own.client, stream=own.name, workers=DEFAULT_GROUP)
    return dict(trimming.run(Shifts(seconds=60).begin()))


def read(own: Streams, stream: str, count: int) -> list[str]:
    answer = own.client.xreadgroup(RESULTS_GROUP, "reader", {stream: ">"}, count=count)
    return [row[0].decode() for _, rows in answer for row in rows]


def test_only_what_every_group_is_done_with_goes(own: Streams) -> None:
    ids = [own.add(entry()) for _ in range(6)]
    assert trim(own) == {"entries": 0, "reports": 0}, "no group has seen anything"
    own.client.xgroup_create(own.name, RESULTS_GROUP, id="0")
    for entry_id in read(own, own.name, 6):
        own.client.xack(own.name, RESULTS_GROUP, entry_id)
    assert trim(own)["entries"] == 0, "the workers have not begun; their group may be gone"
    own.work(4)
    own.acknowledge(ids[0])
    own.acknowledge(ids[1])
    own.acknowledge(ids[3])
    assert trim(own)["entries"] == 2
    assert [entry_id for entry_id, _ in own.entries()] == ids[2:], "the third is worked on"
    own.client.xgroup_create(own.name, "others", id=ids[1])
    own.acknowledge(ids[2])
    assert trim(own)["entries"] == 0, "another group has not read them"


def test_many_entries_go_and_what_is_unread_stays(own: Streams) -> None:
    own.client.xgroup_create(own.reports, RESULTS_GROUP, id="0", mkstream=True)
    with own.client.pipeline(transaction=False) as pipeline:
        for _ in range(1_000):
            pipeline.xadd(own.reports, {"report": "{}"})
        pipeline.execute()
    taken = read(own, own.reports, 900)
    own.client.xack(own.reports, RESULTS_GROUP, *taken)
    assert trim(own) == {"entries": 0, "reports": 899}
    assert own.client.xlen(own.reports) == 101
    assert trim(own)["reports"] == 0
