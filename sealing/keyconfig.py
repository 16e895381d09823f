"""Key configurations of oblivious HTTP (RFC 9458, section 3) and their lists (application/ohttp-keys)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Self

from .errors import LocalProtocolError, MalformedMessage, MessageTooLarge, UnsupportedSuite
from .hpke import MLKEM768_X25519_AES256, PrivateKey, Suite
from .kem import KEMS, kem_sizes
from .octets import Octets

MEDIA_TYPE_KEYS: Final = "application/ohttp-keys"

_FIXED: Final = 3
_SUITE_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """One public key and the (kdf_id, aead_id) pairs offered with it, best first."""

    key_id: int
    kem_id: int
    public_key: bytes
    suites: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not 0 <= self.key_id <= 0xFF:
            raise LocalProtocolError("a key identifier is one byte")
        kem = kem_sizes(self.kem_id)
        if len(self.public_key) != kem.n_pk:
            raise LocalProtocolError(f"a public key of {kem.name} has {kem.n_pk} bytes")
        if not 0 < len(self.suites) <= 0xFFFF // _SUITE_SIZE:
            raise LocalProtocolError("a key configuration offers 1 to 16383 suites")
        if any(not 0 <= i <= 0xFFFF for pair in self.suites for i in pair):
            raise LocalProtocolError("an algorithm identifier has 16 bits")

    def encode(self) -> bytes:
        """RFC 9458, section 3.1, without the length prefix of a list."""
        pairs = b"".join(kdf.to_bytes(2) + aead.to_bytes(2) for kdf, aead in self.suites)
        head = self.key_id.to_bytes(1) + self.kem_id.to_bytes(2)
        return head + self.public_key + len(pairs).to_bytes(2) + pairs

    @classmethod
    def decode(cls, raw: Octets) -> Self:
        """Exactly one configuration. Raises MalformedMessage, UnsupportedSuite (unknown KEM)."""
        raw = bytes(raw)
        if len(raw) < _FIXED:
            raise MalformedMessage("a key configuration has at least 3 bytes")
        kem_id = int.from_bytes(raw[1:_FIXED])
        key_end = _FIXED + kem_sizes(kem_id).n_pk
        pairs = raw[key_end + 2 :]
        if len(raw) < key_end + 2 or int.from_bytes(raw[key_end : key_end + 2]) != len(pairs):
            raise MalformedMessage("the length of a key configuration disagrees with its parts")
        if not pairs or len(pairs) % _SUITE_SIZE:
            raise MalformedMessage("a key configuration offers whole suites, at least one")
        ids = [int.from_bytes(pairs[i : i + 2]) for i in range(0, len(pairs), 2)]
        suites = tuple(zip(ids[::2], ids[1::2], strict=True))
        return cls(raw[0], kem_id, raw[_FIXED:key_end], suites)

    def suite(self, kdf_id: int, aead_id: int) -> Suite:
        """The suite with these algorithms. Raises UnsupportedSuite when it is not offered or not known."""
        if (kdf_id, aead_id) not in self.suites:
            raise UnsupportedSuite("the key configuration does not offer this suite")
        return Suite(self.kem_id, kdf_id, aead_id)

    def check_offers(self, suite: Suite) -> None:
        """Refuse a suite of another KEM or with algorithms not offered here. Raises UnsupportedSuite."""
        if suite.kem != self.kem_id or (suite.kdf, suite.aead) not in self.suites:
            raise UnsupportedSuite("the key configuration does not offer this suite")


def encode_key_configs(configs: Iterable[KeyConfig]) -> bytes:
    """A body of application/ohttp-keys: each configuration behind its 16-bit length."""
    encoded = [config.encode() for config in configs]
    if any(len(one) > 0xFFFF for one in encoded):
        raise LocalProtocolError("a key configuration in a list has at most 65535 bytes")
    return b"".join(len(one).to_bytes(2) + one for one in encoded)


def decode_key_configs(raw: Octets, *, limit: int = 1 << 16) -> tuple[KeyConfig, ...]:
    """Every configuration whose KEM is known; the others are skipped (RFC 9458, section 3.2).

    Raises MalformedMessage, MessageTooLarge (above `limit` bytes).
    """
    if len(raw) > limit:
        raise MessageTooLarge(f"a list of key configurations has at most {limit} bytes")
    configs: list[KeyConfig] = []
    offset = 0
    while offset < len(raw):
        start = offset + 2
        offset = start + int.from_bytes(raw[offset:start])
        if start > len(raw) or offset > len(raw) or offset - start < _FIXED:
            raise MalformedMessage("a list of key configurations ends inside an entry")
        if int.from_bytes(raw[start + 1 : start + _FIXED]) in KEMS:
            configs.append(KeyConfig.decode(raw[start:offset]))
    return tuple(configs)


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key configuration with its private key, as the gateway holds it."""

    config: KeyConfig
    private_key: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        held, public = self.private_key, self.config
        if (held.kem_id, held.public_key) != (public.kem_id, public.public_key):
            raise LocalProtocolError("the private key does not belong to the key configuration")

    @classmethod
    def generate(cls, key_id: int, *suites: Suite) -> Self:
        """A fresh key that offers `suites`, which share one KEM (default: MLKEM768_X25519_AES256)."""
        offered = suites or (MLKEM768_X25519_AES256,)
        if len({suite.kem for suite in offered}) != 1:
            raise LocalProtocolError("the suites of one key share its KEM")
        key = PrivateKey.generate(offered[0].kem)
        pairs = tuple((suite.kdf, suite.aead) for suite in offered)
        return cls(KeyConfig(key_id, key.kem_id, key.public_key, pairs), key)


KeyLookup = Callable[[int], GatewayKey | None]
"""From a key identifier to the key, or None when there is none."""
