"""Variable-length integers, and the shape of the error tree."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sealing
from sealing import errors
from sealing.octets import VARINT_MAX, decode_varint, encode_varint


@settings(deadline=None)
@given(st.integers(0, VARINT_MAX), st.binary(max_size=3), st.binary(max_size=3))
def test_integers_round_trip_in_the_shortest_form(value: int, before: bytes, after: bytes) -> None:
    encoded = encode_varint(value)
    whole = before + encoded + after
    assert decode_varint(whole, len(before)) == (value, len(before) + len(encoded))
    assert all(decode_varint(encoded[:size]) is None for size in range(len(encoded)))
    assert next(size for size in (1, 2, 4, 8) if value < 1 << (8 * size - 2)) == len(encoded)


# RFC 9000, appendix A.1; the last line is a longer form of the one before.
@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("c2197c5eff14e88c", 151_288_809_941_952_652),
        ("9d7f3e7d", 494_878_333),
        ("7bbd", 15_293),
        ("25", 37),
        ("4025", 37),
    ],
)
def test_rfc_examples(raw: str, value: int) -> None:
    assert decode_varint(bytes.fromhex(raw)) == (value, len(raw) // 2)
    assert decode_varint(memoryview(bytes.fromhex(raw))) == (value, len(raw) // 2)


def test_integers_out_of_range() -> None:
    for value in (-1, VARINT_MAX + 1):
        with pytest.raises(errors.LocalProtocolError):
            encode_varint(value)


def test_error_tree() -> None:
    remote = {
        errors.MalformedMessage,
        errors.TruncatedMessage,
        errors.MessageTooLarge,
        errors.DecryptionFailed,
        errors.UnknownKey,
        errors.UnsupportedSuite,
    }
    assert set(errors.RemoteProtocolError.__subclasses__()) == remote
    assert set(errors.SealingError.__subclasses__()) == {
        errors.MalformedDocument,
        errors.SignatureRefused,
        errors.ConsentRefused,
        errors.ArtifactRefused,
        errors.LocalProtocolError,
        errors.RemoteProtocolError,
    }
    assert set(errors.ArtifactRefused.__subclasses__()) == {
        errors.ManifestRefused,
        errors.WrongKey,
        errors.SecretExpired,
        errors.ChunkRefused,
    }
    assert str(errors.DecryptionFailed()) == "decryption failed"


def test_public_names_exist() -> None:
    assert all(hasattr(sealing, name) for name in sealing.__all__)
