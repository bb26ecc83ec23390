import random
import struct
from contextlib import suppress

import pytest
from ingest_audio import KINDS, large_wav, recording, speex, video_without_sound, wav_head

from headrace_ingest_api.errors import BrokenAudioError, NoAudioError
from headrace_ingest_api.probe import AudioFacts, probe
from headrace_ingest_api.ranged import MAX_READ_BYTES, BudgetedReader, BytesFile, buffered
from headrace_ingest_api.recognition import Container


def look(content: bytes, container: Container) -> AudioFacts:
    return probe(container, BytesFile(content))


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name, kind in KINDS.items() for channels in kind.channels],
)
def test_the_facts_of_every_kind(name: str, channels: int) -> None:
    kind = KINDS[name]
    facts = look(recording(name, 1.0, channels), Container(kind.container))
    assert (facts.format, facts.codec) == (kind.container, kind.codec)
    assert (facts.sample_rate_hz, facts.channels) == (kind.rate, channels)
    if kind.timed:
        # Lossy codecs pad to whole frames, and ADTS has no header that tells.
        assert facts.duration_seconds == pytest.approx(1.0, abs=0.15)
    else:
        assert facts.duration_seconds is None


def test_the_facts_of_speex() -> None:
    facts = look(speex(2.0), Container.OGG)
    assert facts.model_dump() == {
        "format": "ogg",
        "codec": "speex",
        "duration_seconds": 2.0,
        "sample_rate_hz": 16_000,
        "channels": 1,
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_inside_its_headers_is_broken(name: str) -> None:
    content = recording(name)[:20]
    with pytest.raises((BrokenAudioError, NoAudioError)):
        look(content, Container(KINDS[name].container))


def test_a_wav_without_samples_has_no_audio() -> None:
    with pytest.raises(NoAudioError):
        look(wav_head(0), Container.WAV)


def test_a_wav_whose_writer_could_not_go_back_is_as_long_as_its_bytes() -> None:
    endless = bytearray(wav_head(0) + b"\1\2" * 48_000)
    endless[4:8] = endless[40:44] = b"\xff\xff\xff\xff"
    assert look(bytes(endless), Container.WAV).duration_seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("format_name", "kind"), [("mp4", Container.M4A), ("webm", Container.WEBM)]
)
def test_a_film_without_sound_has_no_audio(format_name: str, kind: Container) -> None:
    with pytest.raises(NoAudioError):
        look(video_without_sound(format_name), kind)


def test_noise_behind_a_sync_word_is_no_mp3() -> None:
    noise = b"\xff\xfb\x90\x00" + large_wav(50_000)
    with pytest.raises(BrokenAudioError):
        look(noise, Container.MP3)


@pytest.mark.parametrize("name", KINDS)
def test_damaged_headers_are_an_answer_never_a_crash(name: str) -> None:
    content, damage = recording(name), random.Random(name)  # noqa: S311 - repeatable
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(damage.randint(1, 8)):
            damaged[damage.randrange(min(len(damaged), 600))] = damage.randrange(256)
        with suppress(BrokenAudioError, NoAudioError):
            look(bytes(damaged), Container(KINDS[name].container))


class _Claims(BudgetedReader):
    """A large file that begins as given and goes on with zeros, made as it is read."""

    def __init__(self, head: bytes, size: int) -> None:
        super().__init__(size)
        self._head = head
        self.read_bytes = 0

    def fetch(self, start: int, length: int) -> bytes:
        self.read_bytes += length
        return self._head[start : start + length].ljust(length, b"\0")


def test_a_header_that_claims_200_mib_is_not_read_into_memory() -> None:
    size = 200 * 1024 * 1024
    picture = struct.pack(">4sI2x", b"APIC", size - 100)
    tag = b"ID3\x03\0\0" + bytes([(size >> shift) & 0x7F for shift in (21, 14, 7, 0)])
    file = _Claims(tag + picture, size + 1_000)
    with pytest.raises(BrokenAudioError):
        probe(Container.MP3, file)
    assert file.read_bytes <= MAX_READ_BYTES


def test_the_budgeted_file_reads_like_a_file() -> None:
    content = bytes(range(256)) * 1_000
    file = buffered(BytesFile(content))
    assert file.read(10) == content[:10]
    assert file.seek(-5, 2) == len(content) - 5
    assert file.read() == content[-5:]
    assert file.read(1) == b""
    file.seek(100_000)
    assert file.read(70_000) == content[100_000:170_000]
    with pytest.raises(OSError, match="seek"):
        BytesFile(content).seek(-1)
