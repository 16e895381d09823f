"""Chunked oblivious HTTP: the draft's example, and that every disturbance of a stream is a named error."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealing.errors import (
    DecryptionFailed,
    LocalProtocolError,
    MalformedMessage,
    TruncatedMessage,
    UnknownKey,
    UnsupportedSuite,
)
from sealing.hpke import KEM_X25519, MLKEM768_X25519_AES256, X25519_AES128, PrivateKey, Suite
from sealing.octets import encode_varint
from sealing.ohttp import (
    ChunkedRequestOpener,
    ChunkedRequestSealer,
    ChunkedResponseSealer,
    GatewayKey,
    KeyConfig,
)
from tests.sealing.streams import (
    DIRECTIONS,
    KEYS,
    SUITES,
    Direction,
    lookup,
    read,
    refused,
    request,
    response,
)
from tests.shared import shared


def test_draft_example_is_reproduced_and_opened() -> None:
    values = json.loads(shared("vectors", "ohttp_chunked.json").read_text())
    config = KeyConfig.decode(bytes.fromhex(values["key_config"]))
    key = GatewayKey(config, PrivateKey.from_bytes(KEM_X25519, bytes.fromhex(values["gateway_secret_key"])))
    ephemeral = PrivateKey.from_bytes(KEM_X25519, bytes.fromhex(values["ephemeral_secret_key"]))
    lines = [bytes.fromhex(line) for line in values["encapsulated_request_lines"]]
    plain = bytes.fromhex(values["request_bhttp"])
    client = ChunkedRequestSealer(config, X25519_AES128, testing_ephemeral=ephemeral)
    assert client.header == lines[0] + lines[1]
    assert client.enc.hex() == values["ephemeral_public_key"]
    gateway = ChunkedRequestOpener(lambda _: key)
    assert b"".join(read(gateway, lines)) == plain
    assert (gateway.finished, gateway.key_id, gateway.enc) == (True, 1, client.enc)
    split = [len(line) - 17 for line in lines[2:4]]
    sealed = [client.seal(plain[: split[0]]), client.seal(plain[split[0] :]), client.seal(b"", final=True)]
    assert sealed == lines[2:]

    lines = [bytes.fromhex(line) for line in values["encapsulated_response_lines"]]
    plain = bytes.fromhex(values["response_bhttp"])
    server = gateway.response_sealer(testing_nonce=lines[0])
    assert [
        server.header,
        server.seal(plain[:1]),
        server.seal(plain[1:]),
        server.seal(b"", final=True),
    ] == lines
    assert b"".join(read(client.response_opener(), lines)) == plain


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_split_gives_the_same_chunks(direction: Direction, data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.binary(max_size=90), min_size=1, max_size=5))
    parts, fresh = direction(chunks, data.draw(st.sampled_from(SUITES)))
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    opener = fresh()
    assert read(opener, pieces) == chunks
    assert opener.finished
    assert opener.close() == []
    assert read(fresh(), [stream]) == chunks
    assert read(fresh(), [bytes((byte,)) for byte in stream]) == chunks


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_flipped_byte_is_an_error(direction: Direction) -> None:
    chunks = [b"first", b"second", b"third"]
    parts, fresh = direction(chunks)
    stream = b"".join(parts)
    for position in range(len(stream)):
        for mask in (0x01, 0x40, 0x80, 0xFF):
            altered = bytearray(stream)
            altered[position] ^= mask
            for pieces in ([bytes(altered)], [bytes((byte,)) for byte in altered]):
                delivered = refused(fresh(), pieces)
                assert delivered == chunks[: len(delivered)]
                assert len(delivered) < len(chunks)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_truncation_is_an_error(direction: Direction) -> None:
    chunks = [b"first", b"second", b"third"]
    parts, fresh = direction(chunks)
    stream = b"".join(parts)
    assert read(fresh(), [stream]) == chunks
    for size in range(len(stream)):
        delivered = refused(fresh(), [stream[:size]])
        assert delivered == chunks[: len(delivered)]
    opener = fresh()
    opener.feed(b"".join(parts[:3]))
    with pytest.raises(TruncatedMessage, match="before its final chunk"):
        opener.close()


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_dropped_repeated_reordered_chunks_are_errors(direction: Direction, data: st.DataObject) -> None:
    chunks = [bytes((i,)) * 9 for i in range(data.draw(st.integers(2, 6)))]
    parts, fresh = direction(chunks)
    order = data.draw(st.permutations(range(1, len(parts))))
    kept = data.draw(st.lists(st.sampled_from(order), min_size=1, max_size=len(parts) + 1))
    for sequence in (order, kept):
        pieces = [parts[0], *(parts[i] for i in sequence)]
        if list(sequence) == list(range(1, len(parts))):
            assert read(fresh(), pieces) == chunks
        else:
            delivered = refused(fresh(), pieces)
            assert delivered == chunks[: len(delivered)]


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_bytes_removed_or_repeated_or_moved_are_errors(direction: Direction, data: st.DataObject) -> None:
    chunks = [b"first", b"second", b"third"]
    parts, fresh = direction(chunks)
    stream = b"".join(parts)
    start, end = sorted((data.draw(st.integers(0, len(stream))), data.draw(st.integers(0, len(stream)))))
    target = data.draw(st.integers(0, len(stream)))
    piece = stream[start:end]
    removed = stream[:start] + stream[end:]
    for altered in (
        removed,
        stream[:target] + piece + stream[target:],
        removed[:target] + piece + removed[target:],
    ):
        if altered != stream:
            delivered = refused(fresh(), [altered])
            assert delivered == chunks[: len(delivered)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_named_disturbances(direction: Direction) -> None:
    chunks = [b"first", b"second", b"third"]
    (head, one, two, last), fresh = direction(chunks)
    for name, pieces, error in (
        ("dropped", [head, two, last], DecryptionFailed),
        ("repeated", [head, one, one, two, last], DecryptionFailed),
        ("reordered", [head, two, one, last], DecryptionFailed),
        ("no final", [head, one, two], TruncatedMessage),
        ("final early", [head, one, last], DecryptionFailed),
        ("trailing byte", [head, one, two, last + b"\x00"], DecryptionFailed),
        ("trailing byte apart", [head, one, two, last, b"\x00"], DecryptionFailed),
        ("repeated final", [head, one, two, last, last], DecryptionFailed),
        ("non-final posing as final", [head, one, b"\x00" + two[1:]], DecryptionFailed),
        ("final posing as non-final", [head, one, two, bytes((len(last) - 1,)) + last[1:]], DecryptionFailed),
        ("cut in the final", [head, one, two, last[:-6]], TruncatedMessage),
        ("too short for a tag", [head, b"\x0f" + bytes(15)], MalformedMessage),
        ("nothing", [], TruncatedMessage),
    ):
        opener = fresh()
        with pytest.raises(error):
            read(opener, pieces)
        assert not opener.finished, name


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_length_prefixes_need_not_be_minimal(direction: Direction) -> None:
    (head, one, last), fresh = direction([b"first", b"last"])
    longer = [head, b"\x80\x00\x00" + one, b"\x40" + last]
    assert read(fresh(), longer) == [b"first", b"last"]


@pytest.mark.parametrize("suite", SUITES)
def test_a_response_can_be_sealed_before_the_request_is_complete(suite: Suite) -> None:
    client = ChunkedRequestSealer(KEYS[suite].config)
    gateway = ChunkedRequestOpener(lambda _: KEYS[suite])
    with pytest.raises(LocalProtocolError, match="has not arrived"):
        gateway.response_sealer()
    assert (gateway.key_id, gateway.enc, gateway.suite) == (None, None, None)
    assert gateway.feed(client.header) == []
    assert (gateway.key_id, gateway.enc, gateway.suite) == (3, client.enc, suite)
    server = gateway.response_sealer()
    assert len(server.header) == max(12, suite.n_key)
    stream = server.header + server.seal(b"refused", final=True)
    assert read(client.response_opener(), [stream]) == [b"refused"]
    assert gateway.response_sealer().header != server.header


def test_responses_do_not_cross_requests() -> None:
    parts, _ = response([b"answer"])
    _, fresh = response([b"other"])
    refused(fresh(), parts)


def test_unknown_keys_and_suites() -> None:
    parts, _ = request([b"text"])
    header = parts[0]
    assert read(ChunkedRequestOpener(lookup), parts) == [b"text"]
    for altered, error in (
        (b"\x04" + header[1:], UnknownKey),
        (header[:6] + b"\x02" + header[7:], UnsupportedSuite),
    ):
        opener = ChunkedRequestOpener(lookup)
        with pytest.raises(error):
            opener.feed(altered)
        refused(opener, [parts[1]])
    with pytest.raises(UnsupportedSuite):
        ChunkedRequestSealer(KEYS[X25519_AES128].config, MLKEM768_X25519_AES256)


def test_low_order_enc_is_a_decryption_failure() -> None:
    parts, fresh = request([b"text"])
    with pytest.raises(DecryptionFailed, match=r"^decryption failed$"):
        fresh().feed(parts[0][:7] + bytes(32))


def test_use_after_the_end() -> None:
    parts, fresh = request([b"text"])
    opener = fresh()
    read(opener, parts)
    with pytest.raises(LocalProtocolError, match="already closed"):
        opener.feed(b"")
    sealer = ChunkedRequestSealer(KEYS[X25519_AES128].config)
    assert not sealer.finished
    sealer.seal(b"", final=True)
    assert sealer.finished
    with pytest.raises(LocalProtocolError, match="already sealed"):
        sealer.seal(b"")


def test_parts_of_a_sealed_chunk() -> None:
    sealer = ChunkedRequestSealer(KEYS[X25519_AES128].config)
    prefix, ciphertext = sealer.seal_parts(memoryview(bytes(1000)))
    assert prefix == encode_varint(1016)
    last = b"".join(sealer.seal_parts(bytearray(b"end"), final=True))
    stream = [sealer.header, prefix, memoryview(ciphertext), bytearray(last)]
    assert read(ChunkedRequestOpener(lookup), stream) == [bytes(1000), b"end"]  # type: ignore[arg-type]


def test_sealed_chunks_look_alike() -> None:
    """Equal lengths in, equal lengths out; equal plaintexts give unequal ciphertexts."""
    sealer = _response_sealer()
    sealed = [sealer.seal(b"same text") for _ in range(64)]
    assert len({len(one) for one in sealed}) == 1
    assert len(set(sealed)) == 64


def _response_sealer() -> ChunkedResponseSealer:
    gateway = ChunkedRequestOpener(lookup)
    gateway.feed(ChunkedRequestSealer(KEYS[X25519_AES128].config).header)
    return gateway.response_sealer()


def test_response_counter_runs_out() -> None:
    sealer = _response_sealer()
    sealer._keys._counter = (1 << 96) - 2
    sealer.seal(b"")
    with pytest.raises(LocalProtocolError, match="used up"):
        sealer.seal(b"")


def test_a_key_is_looked_up_only_when_all_of_enc_is_there() -> None:
    """A sender who dawdles must not hold on to a one-time key that its owner has erased meanwhile."""
    parts, _ = request([b"text"])
    asked: list[int] = []

    def erased(key_id: int) -> None:
        asked.append(key_id)

    opener = ChunkedRequestOpener(erased)
    assert opener.feed(parts[0][:-1]) == []
    assert asked == []
    with pytest.raises(UnknownKey):
        opener.feed(parts[0][-1:])
    assert asked == [parts[0][0]]
