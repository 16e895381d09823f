"""docs/spec/link.md by data: vectors.json, and a second implementation of it from hmac and AES-GCM alone."""

import hmac
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from enclave.gpu.bus import Geometry, Side
from enclave.gpu.bus.geometry import LEAD, Class
from enclave.gpu.link import Kind
from enclave.gpu.link.keys import Secrets
from enclave.gpu.link.records import Opener, Sealer
from tests.gpu.pairs import ANY, Beside, link_over, two_ends

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
MASTER = bytes.fromhex(VECTORS["master"])
SESSION = VECTORS["session"]
RECORDS = VECTORS["records"]
PER_KEY = VECTORS["records_per_key"]


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869) with SHA-384, for at most one block."""
    return hmac.digest(secret, info + b"\1", "sha384")[:length]


def key_of(direction: int, which: int, generation: int) -> bytes:
    secret = expand(MASTER, b"cloister/link/v1" + bytes((direction, which)), 48)
    for _ in range(generation):
        secret = expand(secret, b"next", 48)
    return expand(secret, b"key", 32)


def associated(record: dict[str, Any]) -> bytes:
    length = len(bytes.fromhex(record["plaintext"]))
    fields = (record["direction"], record["class"], record["generation"], record["counter"])
    return struct.pack("<BBxxIQ", *fields) + struct.pack("<IxxxxQ", length | record["kind"] << 22, SESSION)


def named(record: dict[str, Any]) -> str:
    return "{direction}{class} {generation}/{counter} kind {kind}".format(**record)


@pytest.mark.parametrize("record", RECORDS, ids=named)
def test_the_vectors_are_what_the_specification_says(record: dict[str, Any]) -> None:
    key = key_of(record["direction"], record["class"], record["generation"])
    data = associated(record)
    assert key.hex() == record["key"] and data.hex() == record["associated_data"]
    assert record["nonce"] == data[4:16].hex() and record["generation"] == record["counter"] // PER_KEY
    sealed = AESGCM(key).encrypt(data[4:16], bytes.fromhex(record["plaintext"]), data)
    assert sealed.hex() == record["sealed"]


@pytest.mark.parametrize("record", RECORDS, ids=named)
def test_ours_seals_and_opens_them(record: dict[str, Any]) -> None:
    secrets = Secrets(MASTER, kinds=ANY)
    side, which = Side(record["direction"]), Class(record["class"])
    plaintext, sealed = bytes.fromhex(record["plaintext"]), bytes.fromhex(record["sealed"])
    word = record["kind"] << 22 | len(plaintext)
    sealer = Sealer(secrets, side, which, SESSION, PER_KEY)
    for _ in range(record["counter"]):
        sealer.seal(b"", 0)
    assert sealer.seal(plaintext, word) == sealed
    secrets = Secrets(MASTER, kinds=ANY)
    opener = Opener(secrets, side, which, SESSION, PER_KEY)
    opener.counter = record["counter"]
    for _ in range(record["generation"]):
        opener.advance()
    assert opener.open(sealed, word) == plaintext


def test_a_message_lies_in_the_memory_as_the_specification_says() -> None:
    """The bytes that a watcher finds in the slot are those of the vector: header word, then the record."""
    record = next(r for r in RECORDS if (r["direction"], r["class"], r["counter"], r["kind"]) == (0, 0, 0, 2))
    geometry = Geometry()
    with two_ends(geometry) as (bus, one, other), link_over(one) as worker, link_over(other) as device:
        worker.send(bytes.fromhex(record["plaintext"]))
        slot = geometry.ring_at(Side.WORKER, Class.CONTROL)
        sealed = bytes.fromhex(record["sealed"])
        header = 1 << 26 | record["kind"] << 22 | len(sealed) - 16
        assert bytes(bus.memory[slot : slot + 4]) == header.to_bytes(4, "little")
        assert bytes(bus.memory[slot + LEAD : slot + LEAD + len(sealed)]) == sealed
        assert Beside(device.receive).result() == (Kind.MESSAGE, bytes.fromhex(record["plaintext"]))
