"""Binary HTTP: which fields, control data and statuses a message may have, written or read."""

import pytest

from sealing import bhttp
from sealing.bhttp import (
    Informational,
    Request,
    Response,
    ResponseEncoder,
)
from sealing.errors import (
    LocalProtocolError,
    MalformedMessage,
    TruncatedMessage,
)
from sealing.octets import encode_varint
from tests.sealing.messages import decode, forms

ACCEPTED_FIELDS = [(b"x", b""), (b"x-y_z!", b"a b\tc"), (b"x", b"\xff\x80"), (b"x", b"caf\xc3\xa9")]
REFUSED_FIELDS = [
    (b"X", b"a"),
    (b"a b", b"a"),
    (b"a:", b"a"),
    (b"\xe9", b"a"),
    (b":method", b"GET"),
    (b":protocol", b"websocket"),
    (b"connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"te", b"trailers"),
    (b"x", b" a"),
    (b"x", b"a\t"),
    (b"x", b"a\r\nb: c"),
    (b"x", b"a\x00"),
]


def known_response(line: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A response of both forms with one field line, written without any check."""
    name, value = line
    raw = encode_varint(len(name)) + name + encode_varint(len(value)) + value
    return b"\x01\x40\xc8" + encode_varint(
        len(raw)
    ) + raw + b"\x00\x00", b"\x03\x40\xc8" + raw + b"\x00\x00\x00"


@pytest.mark.parametrize("line", ACCEPTED_FIELDS)
def test_accepted_fields(line: tuple[bytes, bytes]) -> None:
    assert [bhttp.decode_response(raw) for raw in known_response(line)] == [Response(200, (line,))] * 2
    assert forms(Response(200, (line,))) == list(known_response(line))


@pytest.mark.parametrize("line", REFUSED_FIELDS)
def test_refused_fields(line: tuple[bytes, bytes]) -> None:
    for raw in known_response(line):
        with pytest.raises(MalformedMessage, match="not a valid HTTP message"):
            bhttp.decode_response(raw)
    for message in (Response(200, (line,)), Response(200, trailers=(line,))):
        with pytest.raises(LocalProtocolError, match="not a valid HTTP message"):
            bhttp.encode_response(message)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        bhttp.decode_response(b"\x01\x40\xc8\x02\x00\x00")


def test_field_line_beyond_its_section() -> None:
    good = b"\x01\x40\xc8\x04\x01a\x01b"
    assert bhttp.decode_response(good).headers == ((b"a", b"b"),)
    with pytest.raises(MalformedMessage, match="beyond its section"):
        bhttp.decode_response(b"\x01\x40\xc8\x03\x01a\x01b")


def test_errors_do_not_quote_values() -> None:
    with pytest.raises(LocalProtocolError) as caught:
        bhttp.encode_response(Response(200, ((b"authorization", b"secret\n"),)))
    assert "secret" not in str(caught.value)


ACCEPTED_CONTROL = [
    ("GET", "https", "worker", "/"),
    ("OPTIONS", "https", "", "*"),
    ("M-SEARCH", "http", "[::1]:80", "/a?b=c"),
]
REFUSED_CONTROL = [
    ("", "https", "worker", "/"),
    ("G T", "https", "worker", "/"),
    ("CONNECT", "https", "worker", "/"),
    ("GET", "", "worker", "/"),
    ("GET", "HTTPS", "worker", "/"),
    ("GET", "https", "me@worker", "/"),
    ("GET", "https", "wor ker", "/"),
    ("GET", "https", "worker", ""),
    ("GET", "https", "worker", "*"),
    ("GET", "https", "worker", "a"),
    ("GET", "https", "worker", "/a b"),
    ("GET", "https", "worker", "/a#b"),
    ("GET", "https", "worker", "/\xe9"),
    ("GET", "https", "worker", "/\r\n"),
]


@pytest.mark.parametrize("control", ACCEPTED_CONTROL)
def test_accepted_control_data(control: tuple[str, str, str, str]) -> None:
    assert decode(forms(Request(*control))[0], Request) == Request(*control)


@pytest.mark.parametrize("control", REFUSED_CONTROL)
def test_refused_control_data(control: tuple[str, str, str, str]) -> None:
    with pytest.raises(LocalProtocolError):
        bhttp.encode_request(Request(*control))
    raw = b"".join(encode_varint(len(part)) + part.encode("latin-1") for part in control)
    for framing in (b"\x00", b"\x02"):
        with pytest.raises(MalformedMessage):
            bhttp.decode_request(framing + raw)


def test_host_agrees_with_authority() -> None:
    for host in (b"worker", b"WORKER"):
        assert bhttp.encode_request(Request("GET", "https", "worker", "/", ((b"host", host),)))
    for headers in (((b"host", b"other"),), ((b"host", b"worker"), (b"host", b"worker"))):
        with pytest.raises(LocalProtocolError, match="host"):
            bhttp.encode_request(Request("GET", "https", "worker", "/", headers))
    raw = bhttp.encode_request(Request("GET", "https", "worker", "/", ((b"host", b"worker"),)))
    with pytest.raises(MalformedMessage, match="host"):
        bhttp.decode_request(raw.replace(b"worker", b"walker", 1))


@pytest.mark.parametrize(
    ("status", "fine"), [(200, True), (599, True), (600, False), (99, False), (0, False)]
)
def test_final_status(status: int, fine: bool) -> None:
    raw = b"\x01" + encode_varint(status) + b"\x00\x00\x00"
    if fine:
        assert bhttp.decode_response(raw) == Response(status)
        assert bhttp.encode_response(Response(status)) == raw
        return
    with pytest.raises(MalformedMessage, match="status"):
        bhttp.decode_response(raw)
    with pytest.raises(LocalProtocolError, match="status"):
        bhttp.encode_response(Response(status))


def test_informational_responses_need_a_final_one() -> None:
    assert bhttp.decode_response(b"\x01\x40\x67\x00\x40\xc8").informational == (Informational(103),)
    with pytest.raises(TruncatedMessage):
        bhttp.decode_response(b"\x01\x40\x67\x00")
    with pytest.raises(LocalProtocolError, match="status"):
        ResponseEncoder().informational(200)
