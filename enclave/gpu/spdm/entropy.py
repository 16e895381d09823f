"""Everything random that an SPDM side sends, as one argument: so that a recording can be replayed."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec


def fresh_key() -> ec.EllipticCurvePrivateKey:
    """An ephemeral key on P-384."""
    return ec.generate_private_key(ec.SECP384R1())


def no_padding() -> bytes:
    """Records are not padded: their sizes are those of a public protocol."""
    return b""


@dataclass(frozen=True, slots=True)
class Entropy:
    """`octets(n)` gives nonces, random data and KEY_UPDATE's tags; `padding` the padding of one record."""

    octets: Callable[[int], bytes] = os.urandom
    ephemeral: Callable[[], ec.EllipticCurvePrivateKey] = fresh_key
    padding: Callable[[], bytes] = no_padding
