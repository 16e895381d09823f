"""Buckets, comments of exact size, padded events."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing import padding
from sealing.bhttp import Request, Response, decode_request, decode_response, encode_request, encode_response
from sealing.errors import LocalProtocolError


@settings(deadline=None)
@given(st.integers(0, 1 << 24))
def test_bucket_holds_the_size_and_bounds_the_overhead(size: int) -> None:
    target = padding.bucket(size)
    assert size <= target
    assert target % (1 << 16) == 0 or target & (target - 1) == 0
    assert target < 2 * size or size <= 128
    assert target - size < 1 << 16
    assert padding.bucket(target) == target


def test_bucket_edges() -> None:
    pairs = [(0, 256), (256, 256), (257, 512), (65_536, 65_536), (65_537, 131_072), (131_073, 196_608)]
    assert [(size, padding.bucket(size)) for size, _ in pairs] == pairs
    assert padding.bucket(3, smallest=300) == 512
    with pytest.raises(LocalProtocolError):
        padding.bucket(-1)


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_padded_messages_decode_to_themselves(body: bytes) -> None:
    request, response = Request("POST", "https", "", "/", body=body), Response(200, body=body)
    padded = padding.pad(encode_request(request))
    assert len(padded) == padding.bucket(len(encode_request(request)))
    assert decode_request(padded) == request
    assert decode_response(padding.pad(encode_response(response))) == response


@settings(deadline=None)
@given(st.integers(4, 5000))
def test_comment_has_its_size(size: int) -> None:
    comment = padding.sse_comment(size)
    assert len(comment) == size
    assert events(comment) == []


def test_comment_has_a_smallest_size() -> None:
    assert padding.sse_comment(4) == b": \n\n"
    with pytest.raises(LocalProtocolError):
        padding.sse_comment(3)


def events(stream: bytes) -> list[list[str]]:
    """The data lines of each dispatched event, by the rules of the HTML standard's event stream."""
    assert stream == b"" or stream.endswith(b"\n\n")
    found: list[list[str]] = []
    data: list[str] = []
    for line in stream.decode().split("\n")[:-1]:
        if line == "":
            found += [data] if data else []
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        else:
            assert line.startswith(":"), "a line that is neither data nor a comment"
    assert data == []
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text('abc{}:" ', max_size=700).map(str.strip), min_size=1, max_size=4))
def test_padded_events_fill_a_bucket_and_change_nothing(texts: list[str]) -> None:
    stream = b"".join(b"data: " + text.encode() + b"\n\n" for text in texts)
    padded = padding.pad_event(stream)
    assert padded.startswith(stream)
    assert len(padded) == padding.bucket(len(padded)) >= 512
    assert len(padded) <= padding.bucket(len(stream) + padding.MIN_COMMENT, smallest=512)
    assert events(padded) == events(stream) == [[text] for text in texts]


@pytest.mark.parametrize(("size", "padded"), [(512, 512), (508, 512), (509, 1024), (511, 1024), (513, 1024)])
def test_padded_event_near_an_edge(size: int, padded: int) -> None:
    event = b"data: " + b"a" * (size - 8) + b"\n\n"
    assert len(event) == size
    assert len(padding.pad_event(event)) == padded


def test_tokens_of_any_length_look_alike() -> None:
    sizes = {
        len(padding.pad_event(b'data: {"choices": [{"delta": {"content": "' + b"x" * length + b'"}}]}\n\n'))
        for length in range(1, 200)
    }
    assert sizes == {512}


def test_an_unfinished_event_is_refused() -> None:
    assert len(padding.pad_event(b"")) == 512
    assert len(padding.pad_event(b"data: x\r\n\r\n")) == 512
    for unfinished in (b"data: x", b"data: x\n", b"\n"):
        with pytest.raises(LocalProtocolError, match="blank line"):
            padding.pad_event(unfinished)
