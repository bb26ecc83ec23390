"""Regions that travel with jobs: read from a field, written the same, and bounded."""

import json
import math

import pytest

from headrace_common.contracts.cctv import MalformedEntryError, PreprocessEntry
from headrace_common.contracts.regions import MAX_REGION_CHARACTERS, RegionError, read_polygons
from headrace_common.db import Camera
from headrace_common.jobs.cameras import camera_entry, camera_input, entry_for_camera

ENTRY = {"cctvId": "c", "hls": "http://c/l.m3u8", "sec": "20", "enqueuedAt": "1"}
ROAD = [[[0.1, 0.95], [0.45, 0.3], [0.9, 0.95]]]


def circle(points: int, digits: int = 17) -> list[list[float]]:
    angles = [2 * math.pi * number / points for number in range(points)]
    return [
        [round(0.5 + math.sin(a) / 3, digits), round(0.5 + math.cos(a) / 3, digits)] for a in angles
    ]


def with_region(text: str) -> PreprocessEntry:
    return PreprocessEntry.parse({**ENTRY, "roadRegion": text})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROAD),
        json.dumps(ROAD, indent=8),
        "[[[0,0],[1,0],[1,1e-3]]]",
        json.dumps([circle(200, 4)] * 4),
    ],
    ids=["plain", "blanks", "numbers", "many"],
)
def test_a_region_is_written_as_it_was_read(text: str) -> None:
    entry = with_region(text)
    assert entry.road_region == read_polygons(json.loads(text))
    assert PreprocessEntry.parse(entry.fields()) == entry.model_copy(
        update={"given_job_id": entry.job_id}
    )
    row = json.loads(json.dumps(camera_input(entry)))
    assert camera_entry(entry.job_id, row, {}, {}).fields() == entry.fields()


def test_an_id_that_is_derived_does_not_hang_on_the_region() -> None:
    assert with_region(json.dumps(ROAD)).job_id == PreprocessEntry.parse(ENTRY).job_id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road", "must be JSON"),
        ("[" * 60_000, "must be JSON"),
        ("[[[0,0],[1,0],[1," + "9" * 5_000 + "]]]", "must be JSON"),
        ("null", "must be a list of 1 to 32 polygons"),
        ("{}", "must be a list of 1 to 32 polygons"),
        (json.dumps(json.dumps(ROAD)), "must be a list of 1 to 32 polygons"),
        ("[[[0,0],[1,0],[1,NaN]]]", "polygon 0: .* is not within 0 to 1"),
        ("[[[0,0],[1,0],[1,2]]]", r"polygon 0: \[1, 2\] is not within 0 to 1"),
        (json.dumps([circle(200)] * 3), f"at most {MAX_REGION_CHARACTERS} characters"),
        (" " * 70_000 + json.dumps(ROAD), f"at most {MAX_REGION_CHARACTERS} characters"),
    ],
)
def test_an_entry_with_a_region_that_is_none_is_malformed(text: str, message: str) -> None:
    with pytest.raises(MalformedEntryError, match=f"roadRegion: .*{message}"):
        with_region(text)


def test_an_empty_region_is_none() -> None:
    entry = with_region("")
    assert entry.road_region is None
    assert entry.fields() == PreprocessEntry.parse(ENTRY).fields()


def test_what_is_said_for_a_job_goes_before_what_the_camera_has() -> None:
    camera = Camera(name="c", hls="http://c/l.m3u8", seconds=7.5, region=ROAD)
    own = entry_for_camera(camera, "j", enqueued_at=1)
    assert (own.job_id, own.sec, own.road_region) == ("j", 7.5, read_polygons(ROAD))
    other = read_polygons([[[0, 0], [1, 0], [1, 1]]])
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    told = entry_for_camera(camera, "j", enqueued_at=1, seconds=3, region=other, trace=trace)
    assert (told.sec, told.road_region, told.trace) == (3, other, trace)


def test_a_region_may_be_long_where_it_does_not_travel() -> None:
    assert len(read_polygons([circle(200)] * 32)) == 32
    with pytest.raises(RegionError, match="1 to 32"):
        read_polygons([circle(3)] * 33)
