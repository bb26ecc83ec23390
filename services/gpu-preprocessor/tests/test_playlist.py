"""Playlists are read as RFC 8216 has it, and what is hostile in them is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_gpu_preprocessor.video import errors
from headrace_gpu_preprocessor.video.playlist import (
    MAX_ENTRIES,
    ByteRange,
    MediaPlaylist,
    Resource,
    choose_variant,
    parse,
)

_BASE = "http://cam.test/a/live.m3u8?token=1"

_MASTER = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=100,RESOLUTION=640x360,CODECS="avc1.4d401e,mp4a.40.2"
low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=300,RESOLUTION=1280x720
mid.m3u8
#EXT-X-STREAM-INF:RESOLUTION=1280x720,BANDWIDTH=400
/b/mid2.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=900,RESOLUTION=3840x2160
http://other.test/high.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=10,CODECS="mp4a.40.2"
sound.m3u8
"""


def _media(text: str) -> MediaPlaylist:
    found = parse("#EXTM3U\n" + text, _BASE)
    assert isinstance(found, MediaPlaylist)
    return found


@pytest.mark.parametrize(
    ("most_pixels", "url"),
    [
        (1920 * 1088, "http://cam.test/b/mid2.m3u8"),
        (1280 * 720, "http://cam.test/b/mid2.m3u8"),
        (1000 * 700, "http://cam.test/a/low.m3u8"),
        (4096 * 2304, "http://other.test/high.m3u8"),
        (10, "http://cam.test/a/low.m3u8"),
    ],
)
def test_the_variant_is_the_largest_that_fits(most_pixels: int, url: str) -> None:
    variants = parse(_MASTER, _BASE)
    assert not isinstance(variants, MediaPlaylist)
    assert choose_variant(variants, most_pixels).url == url


def test_sound_alone_is_no_variant() -> None:
    variants = parse('#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a"\ns.m3u8\n', _BASE)
    assert not isinstance(variants, MediaPlaylist)
    with pytest.raises(errors.BadPlaylistError):
        choose_variant(variants, 10**9)


def test_segments_with_keys_maps_ranges_and_discontinuities() -> None:
    playlist = _media(
        "#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:258\n"
        '#EXT-X-MAP:URI="init.mp4",BYTERANGE="100@0"\n'
        "#EXT-X-BYTERANGE:50@100\n#EXTINF:4.0,a title\nall.mp4\n"
        "#EXT-X-BYTERANGE:70\n#EXTINF:3.5,\nall.mp4\n"
        '#EXT-X-DISCONTINUITY\n#EXT-X-KEY:METHOD=AES-128,URI="https://k.test/k"\n'
        "#EXTINF:4,\nb.mp4\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:4,\nc.mp4\n#EXT-X-ENDLIST\n"
    )
    first, second, third, fourth = playlist.segments
    assert first.init == Resource("http://cam.test/a/init.mp4", ByteRange(0, 100))
    assert first.resource == Resource("http://cam.test/a/all.mp4", ByteRange(100, 50))
    assert second.resource.byte_range == ByteRange(150, 70)
    assert third.discontinuity
    assert not fourth.discontinuity
    assert third.resource.key is not None
    assert third.resource.key.url == "https://k.test/k"
    assert third.resource.key.iv == (260).to_bytes(16, "big")
    assert fourth.resource.key is None
    assert (playlist.first_sequence, playlist.last_sequence, playlist.ended) == (258, 262, True)


def test_the_decoder_gets_names_and_never_a_url() -> None:
    playlist = _media(
        '#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="init.mp4"\n#EXTINF:4,http://evil.test\n'
        "http://evil.test/x.aspx?a=b\n#EXT-X-UNKNOWN:file:///etc/passwd\n#EXTINF:4,\n../c.mp4\n"
    )
    names: list[str] = []

    def name(resource: Resource, extension: str) -> str:
        names.append(resource.url)
        return f"{len(names)}.{extension}"

    text = playlist.render(name, ended=False)
    assert "test" not in text
    assert "file:" not in text
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["2.mp4", "3.mp4"]
    assert names == [
        "http://cam.test/a/init.mp4",
        "http://evil.test/x.aspx?a=b",
        "http://cam.test/c.mp4",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", errors.NotHlsError),
        ("<html>#EXTM3U", errors.NotHlsError),
        ("#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=k\n", errors.UnsupportedEncryptionError),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,KEYFORMAT="drm"\n', errors.UnsupportedEncryptionError),
        ("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\na.ts\n", errors.BadPlaylistError),
        ('#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k",IV=zz\na.ts', errors.BadPlaylistError),
        (
            f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1{"0" * 40}\na',
            errors.BadPlaylistError,
        ),
        ("#EXTM3U\n#EXT-X-MAP:BYTERANGE=1\n", errors.BadPlaylistError),
        ("#EXTM3U\nhttp://[::1/a.ts\n", errors.BadPlaylistError),
        ("#EXTM3U\n" + "a.ts\n" * (MAX_ENTRIES + 1), errors.PlaylistTooLargeError),
        ("#EXTM3U\n" + "#\n" * (MAX_ENTRIES * 4), errors.PlaylistTooLargeError),
    ],
)
def test_a_bad_playlist_has_its_own_error(text: str, error: type[errors.VideoError]) -> None:
    with pytest.raises(error):
        parse(text, _BASE)


@pytest.mark.parametrize("number", ["-1", "nan", "1e999", "9" * 400, "abc", ""])
def test_strange_numbers_do_no_harm(number: str) -> None:
    playlist = _media(
        f"#EXT-X-TARGETDURATION:{number}\n#EXT-X-MEDIA-SEQUENCE:{number}\n"
        f"#EXT-X-BYTERANGE:{number}@{number}\n#EXTINF:{number},\na.ts\n"
    )
    assert 0 <= playlist.target_seconds <= 60
    assert "#EXTINF:" in playlist.render(lambda *_: "a", ended=True)


_LINES = st.sampled_from(
    [
        "#EXTM3U", "#EXT-X-STREAM-INF:", "#EXT-X-STREAM-INF:RESOLUTION=1x1", "#EXTINF:", "a.ts",
        "#EXT-X-KEY:", '#EXT-X-KEY:METHOD=AES-128,URI="k"', "#EXT-X-MAP:", '#EXT-X-MAP:URI="i"',
        "#EXT-X-BYTERANGE:5", "#EXT-X-BYTERANGE:5@5", "#EXT-X-ENDLIST", "http://[", "//", "?",
        "#EXT-X-MEDIA-SEQUENCE:999999999999999", "#EXT-X-DISCONTINUITY", "#EXT-X-TARGETDURATION:0",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(_LINES, st.text(max_size=30)), max_size=12))
def test_no_text_makes_the_parser_fail_in_another_way(lines: list[str]) -> None:
    try:
        found = parse("\n".join(["#EXTM3U", *lines]), _BASE)
    except errors.VideoError:
        return
    if isinstance(found, MediaPlaylist):
        text = found.render(lambda *_: "name.ts", ended=True)
        assert all(line.startswith("#EXT") or line == "name.ts" for line in text.splitlines())
