"""What is decoded of a stream: every sample, and little else."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from headrace_gpu_preprocessor.decoder.picker import Picker
from headrace_gpu_preprocessor.decoder.starts import fresh_start_of
from headrace_gpu_preprocessor.decoder.timeline import Timeline


@dataclass(frozen=True)
class _Packet:
    pts: int | None
    dts: int | None
    start: bool = False
    is_discard: bool = False


def _stream(gops: int, length: int) -> list[_Packet]:
    """Ten pictures a second without reordering, in groups."""
    return [_Packet(n, n, start=n % length == 0) for n in range(gops * length)]


def _picker(seconds: float, samples: int) -> Picker[_Packet]:
    return Picker(Timeline(seconds, samples, 10), 0.1, lambda packet: packet.start)


def _run(
    picker: Picker[_Packet], packets: Iterable[_Packet]
) -> tuple[list[_Packet], list[float | None]]:
    """Decode as a decoder without delay and without reordering would."""
    decoded, times = [], []
    for packet, optional in picker.needed(packets):
        decoded.append(packet)
        if not optional:
            times.append(picker.take(packet.pts))
    return decoded, times


def test_the_end_of_a_group_is_not_decoded() -> None:
    decoded, times = _run(_picker(8, 2), _stream(8, 10))
    assert times == pytest.approx([0.0, 4.0])
    assert [packet.pts for packet in decoded] == [0, 40]


def test_what_a_sample_refers_to_is_decoded_but_may_be_skipped() -> None:
    picker = _picker(8, 2)
    needed = []
    for packet, optional in picker.needed(_stream(2, 35)):
        needed.append((packet.pts, optional))
        picker.take(packet.pts)
    assert needed == [(0, False), *((n, True) for n in range(35, 40)), (40, False)]


def test_nothing_is_left_out_before_the_first_picture() -> None:
    """A stream that is joined in the middle shows nothing until it starts afresh."""
    picker = _picker(8, 2)
    needed = []
    for packet, optional in picker.needed(_stream(8, 10)):
        needed.append((packet.pts, optional))
        if packet.pts == 5:
            assert picker.take(5) == pytest.approx(0.5)  # in place of the sample that was lost
    assert needed[:6] == [(n, False) for n in range(6)]


def test_a_sample_is_chosen_in_the_order_of_showing() -> None:
    """I P B B: the picture shown at 0.2 s is decoded after the one at 0.4 s."""
    order = [(0, -2), (3, -1), (1, 0), (2, 1), (6, 2), (4, 3), (5, 4), (9, 5), (7, 6), (8, 7)]
    picker = _picker(0.8, 4)
    packets = [_Packet(pts, dts) for pts, dts in order]
    chosen = [packet.pts for packet, optional in picker.needed(packets) if not optional]
    assert {0, 2, 4, 6} <= set(chosen)
    assert [picker.take(pts) for pts in range(8)] == pytest.approx(
        [0.0, None, 0.2, None, 0.4, None, 0.6, None]
    )


def test_pictures_that_are_not_shown_have_no_time() -> None:
    picker = _picker(1, 1)
    packets = [_Packet(0, 0, start=True), _Packet(1, 1, is_discard=True), _Packet(2, 2)]
    list(picker.needed(packets))
    assert picker.packets == 2


def test_without_stamps_pictures_come_in_their_order() -> None:
    picker = _picker(1, 5)
    taken = [picker.take(None) for _ in picker.needed([_Packet(None, None)] * 15)]
    assert [time for time in taken if time is not None] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_senseless_stamps_do_no_harm() -> None:
    packets = [_Packet(n * 10**15 * (-1) ** n, -n * 10**14) for n in range(40)]
    picker = _picker(2, 5)
    for packet, _ in picker.needed(packets):
        picker.take(packet.pts)
    assert picker.timeline.complete


@pytest.mark.parametrize("form", ["ts", "fmp4"])
def test_fresh_starts_are_found_in_both_packings(form: str, streams: dict[str, Path]) -> None:
    with av.open(str(streams[form])) as container:
        stream = container.streams.video[0]
        is_start = fresh_start_of("h264", stream.codec_context.extradata)
        packets = [packet for packet in container.demux(stream) if packet.size]
        starts = [number for number, packet in enumerate(packets) if is_start(bytes(packet))]
    assert starts == [number * 12 for number in range(8)]


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0\0\1\x65", b"\xff" * 50, b"\0" * 50])
def test_broken_units_do_no_harm(data: bytes) -> None:
    for codec in ("h264", "hevc", "vp9"):
        for configuration in (None, b"", b"\1", b"\0\0\1"):
            assert fresh_start_of(codec, configuration)(data) in {False, True}
