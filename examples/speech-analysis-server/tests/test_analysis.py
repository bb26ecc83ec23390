import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from speech_signals import RECORDINGS, noise, silence, voice, write

from headrace_analysis import AnalysisError
from speech_analysis_server import reference
from speech_analysis_server.analysis import AnalysisInput, AnalysisOutput, analyse

PNG = b"\x89PNG\r\n\x1a\n"


def run(audio: Path, *, textgrid: Path | None = None, pitch: Path | None = None) -> AnalysisOutput:
    output = analyse(AnalysisInput("a test", audio, textgrid, pitch, max_seconds=60))
    # No NaN, in neither part; and there is always a picture.
    json.dumps([output.summary, output.contours], allow_nan=False)
    assert output.plot.startswith(PNG)
    return output


def codes(output: AnalysisOutput) -> list[str]:
    return [warning["code"] for warning in output.summary["warnings"]]


@pytest.fixture
def mary_pitch(tmp_path: Path) -> Path:
    path = tmp_path / "mary.json"
    reference.main([str(RECORDINGS / "mary.wav"), "--pitch-out", str(path)])
    return path


def test_a_sentence_against_itself_is_perfect(mary_pitch: Path) -> None:
    output = run(RECORDINGS / "mary.wav", textgrid=RECORDINGS / "mary.TextGrid", pitch=mary_pitch)
    comparison = output.summary["comparison"]
    assert comparison["score"] > 99
    assert [i["label"] for i in comparison["intervals"]] == ["mary", "rolled", "the", "barrel"]
    assert output.summary["schema_version"] == 1
    assert output.summary["warnings"] == []
    assert len(output.contours["alignment"]["reference_times"]) > 50


def test_another_sentence_scores_lower(mary_pitch: Path) -> None:
    output = run(RECORDINGS / "bobby.wav", textgrid=RECORDINGS / "mary.TextGrid", pitch=mary_pitch)
    assert 20 < output.summary["comparison"]["score"] < 95


@pytest.mark.parametrize(
    ("samples", "code"),
    [(silence(1.0), "audio_silent"), (1e-5 * noise(1.0), "audio_silent")],
    ids=["digital silence", "faint noise"],
)
def test_silence(tmp_path: Path, mary_pitch: Path, samples: np.ndarray, code: str) -> None:
    output = run(write(tmp_path / "x.wav", samples), pitch=mary_pitch)
    assert output.summary["pitch"] is None
    assert codes(output) == [code]
    assert output.summary["speaking_rate"]["syllables"] == 0
    assert output.summary["comparison"]["score"] is None


def test_noise(tmp_path: Path) -> None:
    output = run(write(tmp_path / "x.wav", noise(1.0)))
    assert codes(output) in (["no_voiced_speech"], ["little_voiced_speech"])


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("seconds", [0.1, 0.13, 0.15])
def test_a_tenth_of_a_second(tmp_path: Path, rate: int, seconds: float) -> None:
    samples = voice(200.0, seconds=seconds, rate=rate)
    output = run(write(tmp_path / "x.wav", samples, rate=rate))
    assert output.summary["duration_seconds"] == pytest.approx(seconds, abs=0.005)
    assert output.summary["pitch"]["median_hz"] == pytest.approx(200, rel=0.02)


def test_the_shortest_that_is_taken(tmp_path: Path) -> None:
    for rate in (8_000, 11_025, 44_100):
        run(write(tmp_path / "x.wav", voice(200.0, seconds=0.076, rate=rate), rate=rate))


def test_stereo(tmp_path: Path) -> None:
    output = run(write(tmp_path / "x.wav", np.stack([voice(200.0), voice(200.0)])))
    assert output.summary["audio"]["channels"] == 2
    assert output.summary["pitch"]["median_hz"] == pytest.approx(200, rel=0.01)


def test_broken_references_are_warnings(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"nothing of use")
    output = run(RECORDINGS / "mary.wav", textgrid=broken, pitch=broken)
    assert codes(output) == ["textgrid_unreadable", "pitch_reference_unreadable"]
    assert output.summary["comparison"] is None
    assert output.summary["pitch"] is not None


def test_a_textgrid_alone_lists_its_words() -> None:
    output = run(RECORDINGS / "mary.wav", textgrid=RECORDINGS / "mary.TextGrid")
    assert output.summary["comparison"]["score"] is None
    assert len(output.summary["comparison"]["intervals"]) == 4


def test_a_broken_recording_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "x.wav"
    broken.write_bytes(b"\x01" * 2_000)
    with pytest.raises(AnalysisError, match="audio_unreadable"):
        run(broken)


def test_a_plain_plot_is_smaller_and_nothing_else_differs() -> None:
    work = AnalysisInput("a test", RECORDINGS / "mary.wav", None, None, max_seconds=60)
    full, plain = analyse(work), analyse(replace(work, plain_plot=True))

    assert plain.plot.startswith(PNG)
    assert len(plain.plot) < len(full.plot) / 2
    assert (plain.summary, plain.contours) == (full.summary, full.contours)
