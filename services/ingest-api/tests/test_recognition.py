import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_audio import KINDS, recording, speex, video_without_sound

from headrace_ingest_api.recognition import HEAD_BYTES, Container, recognise


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_recognised_by_its_first_bytes(name: str) -> None:
    assert recognise(recording(name)[:HEAD_BYTES]) == KINDS[name].container


def test_speex_is_recognised() -> None:
    assert recognise(speex()) is Container.OGG


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0AVI LIST",
        b"OggS" + b"\0" * 22 + b"\x01\x2a\x80theora",
        b"\0\0\0\x18ftypheic\0\0\0\0",
        b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"%PDF-1.7",
        b"<html>",
        b"\xff\xfe<\0h\0t\0",
        b"ID3\x04\0\0\0\0\0\x02\0\0nothing known",
        b"ID3",
        b"\xff\xfd\x90\x00",
        b"\x7fELF",
    ],
)
def test_other_files_are_not(head: bytes) -> None:
    assert recognise(head) is None


def test_an_mp3_may_begin_with_a_tag_longer_than_what_is_seen() -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 1, 0, 0])
    assert recognise((tag + b"\0" * 20_000)[:HEAD_BYTES]) is Container.MP3


def test_what_follows_a_short_tag_decides() -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 0, 0, 4]) + b"\0" * 4
    assert recognise(tag + recording("flac")) is Container.FLAC
    assert recognise(tag + recording("aac")) is Container.AAC
    assert recognise(tag + recording("mp3-without-tag")) is Container.MP3


def test_a_film_may_pass_here_and_is_refused_by_the_probe() -> None:
    assert recognise(video_without_sound("mp4")) is Container.M4A
    assert recognise(video_without_sound("webm")) is Container.WEBM


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(head: bytes) -> None:
    recognise(head)


@given(
    st.sampled_from([b"OggS", b"ID3\x04\0", b"\x1a\x45\xdf\xa3", b"\xff\xfb", b"\0\0\0\0ftyp"]),
    st.binary(),
)
def test_no_bytes_after_a_known_mark_make_it_raise(mark: bytes, rest: bytes) -> None:
    recognise(mark + rest)
