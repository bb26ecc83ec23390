import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_common.contracts import Lane
from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.errors import BadRequestError, RequestTimeoutError, UnprocessableError
from headrace_ingest_api.begin import Begin
from headrace_ingest_api.body import ClientGoneError
from headrace_ingest_api.decisions import choose_lane, failure_of
from headrace_ingest_api.errors import InvalidPriorityError
from headrace_ingest_api.idempotency import check_key, fingerprint
from headrace_ingest_api.naming import MAX_FILENAME_CHARACTERS, display_name
from headrace_ingest_api.recognition import Container
from headrace_ingest_api.references import ReferenceKind, check_reference
from headrace_ingest_api.settings import IngestSettings
from headrace_ingest_api.tokens import merged


@pytest.mark.parametrize(
    ("query", "field", "lane"),
    [
        (None, None, Lane.NORMAL),
        (Lane.LOW, None, Lane.LOW),
        (None, "high", Lane.HIGH),
        (None, " high ", Lane.HIGH),
        (Lane.HIGH, "high", Lane.HIGH),
        (Lane.HIGH, "", Lane.HIGH),
    ],
)
def test_the_lane_comes_from_query_or_form(
    query: Lane | None, field: str | None, lane: Lane
) -> None:
    assert choose_lane(query, {} if field is None else {"priority": field}) is lane


@pytest.mark.parametrize(("query", "field"), [(None, "urgent"), (None, "HIGH"), (Lane.LOW, "high")])
def test_an_unknown_or_contradicted_priority_is_invalid(query: Lane | None, field: str) -> None:
    with pytest.raises(InvalidPriorityError):
        choose_lane(query, {"priority": field})


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("mary.wav", "mary.wav"),
        ("C:\\Users\\mary\\take 1.wav", "take 1.wav"),
        ("../../etc/passwd", "passwd"),
        ("녹음.m4a", "녹음.m4a"),
        ("a\0b\n\x1b[31m.wav", "ab[31m.wav"),
        ("\u202egnp.wav", "gnp.wav"),
        ("..", "recording.wav"),
        ("", "recording.wav"),
        (None, "recording.wav"),
        ("x" * 500 + ".wav", "x" * (MAX_FILENAME_CHARACTERS - 4) + ".wav"),
    ],
)
def test_file_names_are_made_safe(given_name: str | None, shown: str) -> None:
    assert display_name(given_name, Container.WAV) == shown


@given(st.text())
def test_no_name_gets_long_or_leaves_its_folder(name: str) -> None:
    shown = display_name(name, Container.MP3)
    assert 0 < len(shown) <= MAX_FILENAME_CHARACTERS
    assert not set(shown) & {"/", "\\", "\0", "\n"}
    assert shown not in {".", ".."}


@pytest.mark.parametrize("key", ["a", "x" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", "a b"])
def test_usable_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb", "schlüssel", "a\n"])
def test_unusable_keys(key: str) -> None:
    with pytest.raises(BadRequestError):
        check_key(key)


def test_a_fingerprint_differs_in_each_part() -> None:
    prints = {
        fingerprint(token_id=token, lane=lane, file_sha256=digest, begin=Begin())
        for token in ("a", "b")
        for lane in (Lane.HIGH, Lane.LOW)
        for digest in ("0", "1")
    }
    assert len(prints) == 8


def test_a_failed_upload_tells_why() -> None:
    assert failure_of(RequestTimeoutError("slow")).code == "request_timeout"
    assert failure_of(ClientGoneError()).code == "client_disconnected"
    assert failure_of(asyncio.CancelledError()).code == "upload_interrupted"
    internal = failure_of(RuntimeError("postgresql://user:secret@host"))
    assert internal.code == "upload_failed"
    assert "secret" not in internal.message


def test_cursors_return_or_are_refused() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert read_cursor(make_cursor(when, "mary")) == (when, "mary")
    for foreign in ("", "x", "e30=", "WzEsMl0=", make_cursor(when.replace(tzinfo=None), "m")):
        with pytest.raises(BadRequestError):
            read_cursor(foreign)


def test_metadata_merges_and_null_removes() -> None:
    assert merged({"a": 1, "b": 2}, {"b": None, "c": 3}) == {"a": 1, "c": 3}


@pytest.mark.parametrize(
    "content",
    [
        b'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\n',
        b'"ooTextFile"\n"TextGrid"\n0\n',
        'File type = "ooTextFile"\nObject class = "TextGrid"\n'.encode("utf-16"),
        b"\xef\xbb\xbf" + b'File type = "ooTextFile"\nObject class = "TextGrid"\n',
        b'"Praat chronological TextGrid text file"\n0 2.3\n',
        b"ooBinaryFile\x08TextGrid\0\0",
    ],
)
def test_textgrids_of_every_form_are_taken(content: bytes) -> None:
    assert check_reference(ReferenceKind.TEXTGRID, content).media_type == "text/plain"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (ReferenceKind.TEXTGRID, b""),
        (ReferenceKind.TEXTGRID, b"RIFF"),
        (ReferenceKind.TEXTGRID, b'File type = "ooTextFile"\nObject class = "Pitch 1"\n'),
        (ReferenceKind.PITCH, b""),
        (ReferenceKind.PITCH, b"{"),
        (ReferenceKind.PITCH, b"12"),
        (ReferenceKind.PITCH, b"{}"),
        (ReferenceKind.PITCH, b"[NaN]"),
        (ReferenceKind.PITCH, b"[" * 100_000),
        (ReferenceKind.PITCH, b"\xff\xfe\x00"),
    ],
)
def test_other_files_are_no_references(kind: ReferenceKind, content: bytes) -> None:
    with pytest.raises(UnprocessableError):
        check_reference(kind, content)


def test_a_part_grows_where_the_largest_file_would_need_too_many() -> None:
    plain = IngestSettings.model_validate({"database_url": "postgresql://h/d"})
    assert plain.part_bytes == plain.upload_part_bytes
    huge = plain.model_copy(update={"max_upload_bytes": 1 << 40})
    assert huge.max_upload_bytes / huge.part_bytes <= 10_000
