"""The Provisioning Certification Key certificate's SGX extension, OID 1.2.840.113741.1.13.1."""

from dataclasses import dataclass
from typing import Self

from ..errors import MalformedEvidence
from . import der

COMPONENTS = 16
_PREFIX = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1

_Values = dict[int, tuple[int, bytes]]
_OCTETS = {(der.INTEGER, bytes((value,) if value < 0x80 else (0, value))): value for value in range(0x100)}
"""What INTEGERs from 0 to 255 are in DER, which has one encoding for each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PckExtension:
    """What a PCK certificate says of its platform (Intel SGX PCK Certificate profile, 1.3.5).

    `components` are the 16 SGX TCB component SVNs. The last four are None on single-package
    platforms (Processor CA).
    """

    ppid: bytes
    components: bytes
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The extension's value; MalformedEvidence for a missing, repeated or ill-typed field."""
        values = _values(raw, 0, len(raw), _PREFIX)
        tcb = _nested(values, 2)
        configuration = _nested(values, 7) if 7 in values else {}
        return cls(
            ppid=_octets(values, 1, 16),
            components=_components(tcb),
            pcesvn=_integer(tcb, 17, 0xFFFF),
            cpusvn=_octets(tcb, 18, 16),
            pceid=_octets(values, 3, 2),
            fmspc=_octets(values, 4, 6),
            sgx_type=_integer(values, 5, 0xFF, der.ENUMERATED),
            platform_instance_id=_octets(values, 6, 16) if 6 in values else None,
            dynamic_platform=_flag(configuration, 1),
            cached_keys=_flag(configuration, 2),
            smt_enabled=_flag(configuration, 3),
        )


def _values(raw: bytes, at: int, end: int, prefix: bytes) -> _Values:
    """The SEQUENCE of SEQUENCE {OID, value} at `at`, by the one octet that follows `prefix` in the OID."""
    start, stop = der.sequence(raw, at, end)
    if stop != end:
        raise MalformedEvidence("bytes after the SGX extension")
    name = bytes((der.OID, len(prefix) + 1)) + prefix
    found: _Values = {}
    while start < stop:
        tag, pair, start = der.element(raw, start, stop)
        index = pair + len(name)
        if tag != der.SEQUENCE or index >= start or not raw.startswith(name, pair):
            raise MalformedEvidence("SGX extension holds something that is not an OID and a value")
        kind, value, value_end = der.element(raw, index + 1, start)
        if value_end != start or raw[index] in found:
            raise MalformedEvidence("SGX extension repeats a field, or has more than a value in one")
        # A nested value keeps its header, so that it can be read the same way.
        found[raw[index]] = (kind, raw[index + 1 if kind == der.SEQUENCE else value : start])
    return found


def _nested(values: _Values, index: int) -> _Values:
    content = _take(values, index, der.SEQUENCE)
    return _values(content, 0, len(content), _PREFIX + bytes([index]))


def _components(tcb: _Values) -> bytes:
    places = range(1, COMPONENTS + 1)
    try:
        return bytes([_OCTETS[tcb[place]] for place in places])
    except KeyError:  # the long way says which is wrong, and how
        return bytes(_integer(tcb, place, 0xFF) for place in places)


def _take(values: _Values, index: int, kind: int) -> bytes:
    tag, content = values.get(index, (None, b""))
    if tag != kind:
        raise MalformedEvidence(f"SGX extension lacks field {index}, or its type is wrong")
    return content


def _octets(values: _Values, index: int, size: int) -> bytes:
    content = _take(values, index, der.OCTET_STRING)
    if len(content) != size:
        raise MalformedEvidence(f"SGX extension field {index} has {len(content)} bytes, not {size}")
    return content


def _integer(values: _Values, index: int, high: int, kind: int = der.INTEGER) -> int:
    value = der.unsigned(_take(values, index, kind))
    if value > high:
        raise MalformedEvidence(f"SGX extension field {index} is {value}, above {high}")
    return value


def _flag(values: _Values, index: int) -> bool | None:
    if index not in values:
        return None
    content = _take(values, index, der.BOOLEAN)
    if content not in (b"\x00", b"\xff"):
        raise MalformedEvidence(f"SGX extension field {index} is not a DER boolean")
    return content == b"\xff"
