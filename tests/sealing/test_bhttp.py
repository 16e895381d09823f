"""Binary HTTP: the RFC's examples, both forms, truncation, padding, streams."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing import bhttp
from sealing.bhttp import (
    Data,
    End,
    Event,
    Informational,
    Request,
    RequestDecoder,
    RequestEncoder,
    RequestHead,
    Response,
    ResponseDecoder,
    ResponseEncoder,
    ResponseHead,
)
from sealing.errors import (
    LocalProtocolError,
    MalformedMessage,
    RemoteProtocolError,
    TruncatedMessage,
)
from sealing.octets import encode_varint
from tests.sealing.messages import OK, POST, decode, forms

# RFC 9292, section 5: the same request of known and of indeterminate length (10 bytes of padding).
RFC_KNOWN_REQUEST = bytes.fromhex(
    "00034745540568747470 73000a2f68656c6c6f2e747874406c0a757365722d6167656e74346375726c2f372e31362e33"
    "206c69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f77"
    "77772e6578616d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d690000"
)
RFC_INDETERMINATE_REQUEST = bytes.fromhex(
    "02034745540568747470 73000a2f68656c6c6f2e7478740a757365722d6167656e74346375726c2f372e31362e33206c"
    "69626375726c2f372e31362e33204f70656e53534c2f302e392e376c207a6c69622f312e322e3304686f73740f777777"
    "2e6578616d706c652e636f6d0f6163636570742d6c616e677561676506656e2c206d69" + "00" * 13
)
RFC_REQUEST = Request(
    "GET",
    "https",
    "",
    "/hello.txt",
    (
        (b"user-agent", b"curl/7.16.3 libcurl/7.16.3 OpenSSL/0.9.7l zlib/1.2.3"),
        (b"host", b"www.example.com"),
        (b"accept-language", b"en, mi"),
    ),
)
RFC_KNOWN_RESPONSE = bytes.fromhex(
    "0140c8001d5468697320636f6e74656e7420636f6e7461696e732043524c462e0d0a0d07747261696c65720474657874"
)
RFC_RESPONSE = Response(200, (), b"This content contains CRLF.\r\n", ((b"trailer", b"text"),))

Call = Callable[[], object]


def calls(*late: Call) -> tuple[Call, ...]:
    return late


def test_rfc_examples() -> None:
    assert bhttp.decode_request(RFC_KNOWN_REQUEST) == RFC_REQUEST
    assert bhttp.encode_request(RFC_REQUEST) == RFC_KNOWN_REQUEST
    assert bhttp.decode_request(RFC_INDETERMINATE_REQUEST) == RFC_REQUEST
    assert bhttp.encode_request_indeterminate(RFC_REQUEST) + bytes(10) == RFC_INDETERMINATE_REQUEST
    assert bhttp.decode_response(RFC_KNOWN_RESPONSE) == RFC_RESPONSE
    assert bhttp.encode_response(RFC_RESPONSE) == RFC_KNOWN_RESPONSE


def test_rfc_examples_may_lose_their_empty_tail() -> None:
    assert bhttp.decode_request(RFC_KNOWN_REQUEST[:-2]) == RFC_REQUEST
    for cut in range(1, 13):
        assert bhttp.decode_request(RFC_INDETERMINATE_REQUEST[:-cut]) == RFC_REQUEST
    with pytest.raises(TruncatedMessage):
        bhttp.decode_request(RFC_INDETERMINATE_REQUEST[:-13])


token = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(str.encode)
value = st.binary(max_size=80).map(lambda raw: bytes(b for b in raw if b not in b"\0\r\n").strip(b" \t"))
field = st.tuples(token, value).filter(lambda f: f[0] not in bhttp.CONNECTION_FIELDS and f[0] != b"host")
fields = st.lists(field, max_size=5).map(tuple)
body = st.binary(max_size=200) | st.integers(0, 70_000).map(bytes)
path = st.text("abc/?=&%20", max_size=20).map("/".__add__)
requests = st.builds(
    Request,
    st.sampled_from(["GET", "POST", "PUT", "x-custom"]),
    st.sampled_from(["https", "http"]),
    st.sampled_from(["", "worker", "worker:8443", "[::1]:80"]),
    path,
    fields,
    body,
    fields,
)
informational = st.lists(st.builds(Informational, st.integers(100, 199), fields), max_size=3).map(tuple)
responses = st.builds(Response, st.integers(200, 599), fields, body, fields, informational)
messages = requests | responses


@settings(max_examples=120, deadline=None)
@given(message=messages, padding=st.integers(0, 40), data=st.data())
def test_round_trip_in_both_forms_and_any_split(
    message: Request | Response, padding: int, data: st.DataObject
) -> None:
    for raw in forms(message):
        padded = raw + bytes(padding)
        assert decode(padded, type(message)) == message
        decoder = RequestDecoder() if isinstance(message, Request) else ResponseDecoder()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(padded)), max_size=8)))
        events: list[Event] = []
        for start, end in zip([0, *cuts], [*cuts, len(padded)], strict=True):
            events += decoder.feed(padded[start:end])
        assert not any(isinstance(event, End) for event in events)
        events += decoder.close()
        assert b"".join(e.data for e in events if isinstance(e, Data)) == message.body
        assert all(e.data for e in events if isinstance(e, Data))
        assert events[-1] == End(message.trailers)
        heads = [e for e in events if isinstance(e, RequestHead | ResponseHead)]
        assert [head.headers for head in heads] == [message.headers]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_altered_messages_parse_canonically_or_fail_by_name(data: st.DataObject) -> None:
    samples: list[Request | Response] = [POST, OK, RFC_REQUEST, RFC_RESPONSE]
    message = data.draw(st.sampled_from(samples))
    raw = bytearray(data.draw(st.sampled_from(forms(message))))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = decode(bytes(raw), type(message))
    except RemoteProtocolError:
        return
    for canonical in forms(parsed):
        assert decode(canonical, type(message)) == parsed
        assert canonical in forms(decode(canonical, type(message)))


@settings(max_examples=300, deadline=None)
@given(raw=st.binary(max_size=120), framing=st.integers(0, 4))
def test_arbitrary_bytes_fail_by_name(raw: bytes, framing: int) -> None:
    for candidate in (raw, bytes((framing,)) + raw, bytes((framing,)) + b"\x40\xc8" + raw):
        for kind in (Request, Response):
            try:
                parsed = decode(candidate, kind)
            except RemoteProtocolError:
                continue
            assert decode(forms(parsed)[0], kind) == parsed


@pytest.mark.parametrize("message", [POST, OK])
def test_truncation_is_allowed_only_before_empty_parts(message: Request | Response) -> None:
    """Cut anywhere, a message is an error, or it lacks whole trailing sections and says so by being empty."""
    lacking = {
        replace(message, trailers=()),
        replace(message, trailers=(), body=b""),
        replace(message, trailers=(), body=b"", headers=()),
    }
    for raw in forms(message):
        whole: set[Request | Response] = set()
        for size in range(len(raw)):
            try:
                whole.add(decode(raw[:size], type(message)))
            except TruncatedMessage:
                continue
        assert whole == lacking


def test_truncation_inside_a_part() -> None:
    control = bytes.fromhex("0203474554056874747073000 12f".replace(" ", ""))
    assert bhttp.decode_request(control) == Request("GET", "https", "", "/")
    assert bhttp.decode_request(control + b"\x01a\x01b\x00").headers == ((b"a", b"b"),)
    for tail in (b"\x01", b"\x01a", b"\x01a\x01", b"\x01a\x01b", b"\x00\x03", b"\x00\x03ab", b"\x00\x03abc"):
        with pytest.raises(TruncatedMessage):
            bhttp.decode_request(control + tail)
    assert bhttp.decode_request(control + b"\x00\x03abc\x00").body == b"abc"
    for head in (b"", b"\x03", b"\x03\x40", b"\x03\x40\x67\x00"):
        with pytest.raises(TruncatedMessage):
            bhttp.decode_response(head)


@pytest.mark.parametrize("message", [POST, OK])
def test_padding_is_zero(message: Request | Response) -> None:
    for raw in forms(message):
        assert decode(raw + bytes(1000), type(message)) == message
        for wrong in (b"\x01", b"\x00\x01", bytes(999) + b"\x80"):
            with pytest.raises(MalformedMessage, match="padding"):
                decode(raw + wrong, type(message))


def test_framing_indicator() -> None:
    for raw in (*forms(OK), b"\x04", b"\x3f", encode_varint(1 << 20)):
        with pytest.raises(MalformedMessage, match="framing"):
            bhttp.decode_request(raw)
    for raw in (*forms(POST), b"\x04"):
        with pytest.raises(MalformedMessage, match="framing"):
            bhttp.decode_response(raw)


def test_long_integers_are_accepted_and_not_written() -> None:
    raw = bytes.fromhex("4001 80000000c8".replace("80000000c8", "800000c8") + "40 00")
    assert bhttp.decode_response(raw) == Response(200)
    assert bhttp.encode_response(Response(200)).hex() == "0140c8000000"


def test_streaming_a_response() -> None:
    encoder, decoder = ResponseEncoder(), ResponseDecoder()
    assert decoder.feed(encoder.informational(103, ((b"link", b"y"),))) == [
        Informational(103, ((b"link", b"y"),))
    ]
    assert decoder.feed(encoder.head(200, ((b"a", b"b"),))) == [ResponseHead(200, ((b"a", b"b"),))]
    assert decoder.feed(encoder.data(b"one")) == [Data(b"one")]
    assert encoder.data(b"") == b""
    assert decoder.feed(encoder.data(memoryview(b"two"))) == [Data(b"two")]
    assert decoder.feed(encoder.end(((b"t", b"1"),), padding=7)) == []
    assert decoder.close() == [End(((b"t", b"1"),))]
    assert decoder.close() == []
    with pytest.raises(LocalProtocolError):
        decoder.feed(b"")


def test_text_forms_show_no_content() -> None:
    headers, body = ((b"authorization", b"hidden"),), b"hidden"
    request = Request("POST", "https", "worker", "/v1", headers, body, headers)
    response = Response(200, headers, body, headers, (Informational(103, headers),))
    events: list[object] = [
        *RequestDecoder().feed(forms(request)[1]),
        End(headers),
        ResponseHead(200, headers),
    ]
    assert "Data(" in repr(events)
    assert "hidden" not in repr([request, response, *events])
    assert "/v1" in repr(request)


def test_encoders_keep_order() -> None:
    encoder = RequestEncoder()
    with pytest.raises(LocalProtocolError, match="at HEAD"):
        encoder.data(b"x")
    encoder.head(POST)
    with pytest.raises(LocalProtocolError, match="at BODY"):
        encoder.head(POST)
    with pytest.raises(LocalProtocolError, match="negative"):
        encoder.end(padding=-1)
    encoder.end()
    for late in calls(lambda: encoder.data(b"x"), encoder.end):
        with pytest.raises(LocalProtocolError, match="at DONE"):
            late()
    response = ResponseEncoder()
    response.head(200)
    with pytest.raises(LocalProtocolError, match="at BODY"):
        response.informational(103)


def test_a_failed_decoder_stays_failed() -> None:
    decoder = RequestDecoder()
    for again in calls(lambda: decoder.feed(b"\x09"), lambda: decoder.feed(forms(POST)[0]), decoder.close):
        with pytest.raises(MalformedMessage, match="framing"):
            again()
    truncated = ResponseDecoder()
    truncated.feed(forms(OK)[1][:12])
    for again in calls(truncated.close, truncated.close, lambda: truncated.feed(forms(OK)[1][12:])):
        with pytest.raises(TruncatedMessage):
            again()
