import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_harness import BOUNDARY, form

from headrace_common.errors import MalformedFormError, MissingFileError, UnsupportedMediaError
from headrace_ingest_api.multipart import MAX_FIELD_BYTES, MAX_PARTS, UploadForm, boundary_of


async def _pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def read(body: bytes, *, piece: int = 65_536, head: int = 16) -> tuple[bytes, bytes, UploadForm]:
    """Return the file's head, the whole file, and the form."""

    async def run() -> tuple[bytes, bytes, UploadForm]:
        upload = UploadForm(_pieces(body, piece), BOUNDARY)
        first = await upload.file_head(head)
        whole = b"".join([bytes(chunk) async for chunk in upload.file_chunks()])
        return first, whole, upload

    return asyncio.run(run())


@given(
    content=st.one_of(
        st.binary(max_size=300),
        # What looks like the boundary and is not.
        st.lists(
            st.sampled_from([b"\r\n", b"--", BOUNDARY[:-1], b"\r\n--" + BOUNDARY[:5], b"\r", b"x"])
        ).map(b"".join),
    ),
    piece=st.integers(1, 80),
    head=st.integers(1, 64),
)
def test_the_file_comes_out_as_it_went_in_however_it_is_cut(
    content: bytes, piece: int, head: int
) -> None:
    body = form(content, before={"priority": "high"}, after={"note": "x"})
    first, whole, upload = read(body, piece=piece, head=head)
    assert (first, whole) == (content[:head], content)
    assert upload.fields == {"priority": "high", "note": "x"}
    assert upload.filename == "a.wav"


def test_a_form_without_the_field_has_no_file() -> None:
    body = form(b"x").replace(b'name="file"', b'name="other"')
    with pytest.raises(MissingFileError):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        form(b"x", whole=False),
        form(b"x")[:-6],
        form(b"x") [:-len(BOUNDARY) - 6] + form(b"y"),
        b"not a form",
        form(b"x", before={"note": "x" * (MAX_FIELD_BYTES + 1)}),
        form(b"x", after={f"f{number}": "x" for number in range(MAX_PARTS)}),
        form(b"x").replace(b"Content-Disposition", b"X" * 10_000),
    ],
)  # fmt: skip
def test_what_is_cut_doubled_or_inflated_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedFormError):
        read(body)


def test_the_boundary_is_needed() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"') == b"a b"
    with pytest.raises(MalformedFormError):
        boundary_of("multipart/form-data")
    for other in (None, "", "application/json", "multipart/mixed; boundary=x"):
        with pytest.raises(UnsupportedMediaError):
            boundary_of(other)
