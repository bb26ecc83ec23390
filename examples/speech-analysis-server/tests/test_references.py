import json
from pathlib import Path

import pytest
from speech_signals import RECORDINGS

from speech_analysis_server import reference
from speech_analysis_server.reference_pitch import BadPitchFileError, read_pitch
from speech_analysis_server.textgrid import BadTextGridError, read_word_tier


def labels(path: Path) -> list[str]:
    return [interval.label for interval in read_word_tier(path).intervals]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_short_form_in_both_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x"
    text = (RECORDINGS / "mary.TextGrid").read_text(encoding="utf-8")
    path.write_text(text.replace("mary", "märy"), encoding=encoding)
    tier = read_word_tier(path)
    assert tier.name == "word"
    assert [interval.label for interval in tier.intervals] == ["märy", "rolled", "the", "barrel"]
    assert tier.intervals[0].start == pytest.approx(0.3154, abs=1e-3)


def test_the_long_form() -> None:
    assert labels(RECORDINGS / "bobby_words.TextGrid") == ["BOBBY", "RIPPED", "THE", "LEDGER"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1\n',
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_textgrid_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.TextGrid"
    path.write_bytes(content)
    with pytest.raises(BadTextGridError):
        read_word_tier(path)


def test_a_sound_is_no_textgrid() -> None:
    with pytest.raises(BadTextGridError, match="Sound"):
        read_word_tier(RECORDINGS / "mary.wav")


TIMES = [0.0, 0.01, 0.02, 0.03]
HERTZ = [100.0, 110.0, None, 0]


@pytest.mark.parametrize(
    "form",
    [
        {"times": TIMES, "frequencies": HERTZ, "anything": "else"},
        [list(pair) for pair in zip(TIMES, HERTZ, strict=True)],
        {"pitch": [{"time": t, "frequency": f} for t, f in zip(TIMES, HERTZ, strict=True)]},
    ],
    ids=["arrays", "pairs", "points"],
)
def test_every_form_of_pitch_file(form: object) -> None:
    contour = read_pitch(json.dumps(form).encode())
    assert contour.times.tolist() == TIMES
    assert contour.voiced.tolist() == [True, True, False, False]
    assert contour.frequencies[:2].tolist() == [100, 110]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"[]", b"{}", b'{"times": [0], "frequencies": []}', b"[[0, 1e9]]",
        b"[[1, 100], [0, 100]]", b'[["a", 1]]', b'{"times": [NaN], "frequencies": [100]}',
        b"[[0, 0], [1, null]]", b"[" * 100_000, b"\xff\xfe\xfa",
    ],
)  # fmt: skip
def test_what_is_no_pitch_file_is_refused(data: bytes) -> None:
    with pytest.raises(BadPitchFileError):
        read_pitch(data)


def test_the_command_writes_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mary.json"
    assert reference.main([str(RECORDINGS / "mary.wav"), "--pitch-out", str(out)]) == 0
    assert "voiced frames" in capsys.readouterr().out
    contour = read_pitch(out.read_bytes())
    assert contour.voiced_frames > 80
    assert json.loads(out.read_text())["format"] == "headrace.pitch"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "x.wav"
    broken.write_bytes(b"no sound")
    assert reference.main([str(broken), "--pitch-out", str(tmp_path / "o")]) == 1
    assert "not a readable recording" in capsys.readouterr().err
