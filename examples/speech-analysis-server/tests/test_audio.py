from pathlib import Path

import av
import numpy as np
import pytest
from speech_signals import KINDS, noise, voice, write

from headrace_analysis import AnalysisError
from speech_analysis_server.audio import Recording, decode
from speech_analysis_server.values import Warnings


def decoded(path: Path, max_seconds: float = 60) -> tuple[Recording, list[dict[str, str]]]:
    warnings = Warnings()
    return decode(path, max_seconds=max_seconds, warnings=warnings), warnings.items


@pytest.mark.parametrize("kind", KINDS)
def test_every_accepted_kind_is_decoded(tmp_path: Path, kind: str) -> None:
    recording, warnings = decoded(
        write(tmp_path / "x", voice(200.0, rate=48_000), rate=48_000, kind=kind)
    )
    assert recording.duration == pytest.approx(1.0, abs=0.1)
    assert recording.rate == 16_000
    assert warnings == []
    assert np.abs(recording.samples).max() > 0.2


def test_a_low_rate_is_not_raised(tmp_path: Path) -> None:
    recording, _ = decoded(write(tmp_path / "x.wav", voice(200.0, rate=8_000), rate=8_000))
    assert (recording.rate, recording.source_rate) == (8_000, 8_000)


def test_stereo_is_mixed_down(tmp_path: Path) -> None:
    both = np.stack([voice(200.0), np.zeros(16_000)])
    recording, _ = decoded(write(tmp_path / "x.wav", both))
    assert recording.channels == 2
    assert recording.samples.ndim == 1
    assert np.abs(recording.samples).max() == pytest.approx(np.abs(both[0]).max() / 2, rel=0.05)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not sound at all",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"\x00" * 100_000,
        b"ID3\x03" + b"\xff" * 500,
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(AnalysisError) as caught:
        decoded(path)
    assert caught.value.code in {"audio_unreadable", "audio_too_short"}
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile {inside}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inside}\n#EXT-X-ENDLIST\n",
    ],
)
def test_a_file_that_names_other_files_opens_none(tmp_path: Path, script: str) -> None:
    inside = write(tmp_path / "inside.wav", voice(200.0))
    path = tmp_path / "x.wav"
    path.write_text(script.format(inside=inside.name))
    with pytest.raises(AnalysisError, match="audio_unreadable"):
        decoded(path)


def test_a_broken_file_is_decoded_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.flac", noise(2.0), kind="flac")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    recording, _ = decoded(path)
    assert 0.5 < recording.duration < 1.5


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AnalysisError, match="no sound"):
        decoded(path)


def test_too_short_and_too_long_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="audio_too_short"):
        decoded(write(tmp_path / "short.wav", voice(200.0, seconds=0.05)))
    with pytest.raises(AnalysisError, match="audio_too_long"):
        decoded(write(tmp_path / "long.wav", voice(200.0, seconds=3)), max_seconds=2)
