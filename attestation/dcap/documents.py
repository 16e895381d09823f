"""TCB info and QE identity: JSON that Intel signs (PCS API 4.0), checked over its bytes as received."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ..errors import MalformedEvidence
from .status import TcbStatus
from .tcb import COMPONENT_STATUSES, PLATFORM_STATUSES, ModuleIdentity, PlatformLevel, SvnLevel

MAX_DOCUMENT = 256 * 1024
MAX_LEVELS = 256
_SIGNATURE = rb'\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*'
_STATUSES = {str(status): status for status in TcbStatus}
_MODULE_ID = re.compile(r"TDX_([0-9A-F]{2})", re.IGNORECASE)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The bytes that Intel signed, and the signature in DER. Neither parsed nor verified."""

    content: bytes
    signature: bytes

    @classmethod
    def from_bytes(cls, raw: bytes, name: str) -> Self:
        """The member `name` of the JSON object `raw` and its `signature` (raw R || S in hexadecimal).

        `raw` holds these two members and nothing else; MalformedEvidence otherwise.
        """
        if len(raw) > MAX_DOCUMENT:
            raise MalformedEvidence(f"{name} of {len(raw)} bytes exceeds {MAX_DOCUMENT}")
        first, last = _forms(name)
        if found := first.fullmatch(raw):
            content, digits = found.groups()
        elif found := last.fullmatch(raw):
            digits, content = found.groups()
        else:
            raise MalformedEvidence(f"not a signed {name}")
        r, s = int(digits[:64], 16), int(digits[64:], 16)
        return cls(content, encode_dss_signature(r, s))


@dataclass(frozen=True, slots=True, eq=False)
class TcbInfo:
    """TCB info, version 3: the TCB levels of one platform family, best first."""

    id: str
    version: int
    issued: datetime
    next_update: datetime
    evaluation_number: int
    fmspc: bytes
    pceid: bytes
    modules: tuple[ModuleIdentity, ...]
    levels: tuple[PlatformLevel, ...]

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The TCB info in the signed bytes; MalformedEvidence for what does not fit its schema."""
        return _read(content, cls._from_table)

    @classmethod
    def _from_table(cls, table: dict[str, Any]) -> Self:
        name = _text(table["id"])
        tdx = name == "TDX"
        levels = [_platform_level(level, tdx) for level in _list(table["tcbLevels"])]
        modules = [_module(table["tdxModule"], 0)] if tdx else []
        modules += [_numbered(item) for item in _list(table.get("tdxModuleIdentities", []))]
        return cls(
            id=name,
            version=_number(table["version"]),
            issued=_instant(table["issueDate"]),
            next_update=_instant(table["nextUpdate"]),
            evaluation_number=_number(table["tcbEvaluationDataNumber"]),
            fmspc=_octets(table["fmspc"], 6),
            pceid=_octets(table["pceId"], 2),
            modules=tuple(modules),
            levels=tuple(
                sorted(levels, key=lambda level: (level.sgx, level.tdx, level.pcesvn), reverse=True)
            ),
        )

    def module(self, number: int) -> ModuleIdentity | None:
        """The identity of the TDX module with major version `number` (`TDX_<number>`; 0: `tdxModule`)."""
        return next((module for module in self.modules if module.number == number), None)


@dataclass(frozen=True, slots=True, eq=False)
class QeIdentity:
    """The identity of a quoting enclave, version 2, and its TCB levels, best first."""

    id: str
    version: int
    issued: datetime
    next_update: datetime
    evaluation_number: int
    miscselect: int
    miscselect_mask: int
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[SvnLevel, ...]

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """The identity in the signed bytes; MalformedEvidence for what does not fit its schema."""
        return _read(content, cls._from_table)

    @classmethod
    def _from_table(cls, table: dict[str, Any]) -> Self:
        return cls(
            id=_text(table["id"]),
            version=_number(table["version"]),
            issued=_instant(table["issueDate"]),
            next_update=_instant(table["nextUpdate"]),
            evaluation_number=_number(table["tcbEvaluationDataNumber"]),
            miscselect=int.from_bytes(_octets(table["miscselect"], 4), "big"),
            miscselect_mask=int.from_bytes(_octets(table["miscselectMask"], 4), "big"),
            attributes=_octets(table["attributes"], 16),
            attributes_mask=_octets(table["attributesMask"], 16),
            mrsigner=_octets(table["mrsigner"], 32),
            isvprodid=_number(table["isvprodid"]),
            levels=_svn_levels(table["tcbLevels"]),
        )


def masked(value: bytes, mask: bytes) -> bytes:
    """`value` with the bits outside `mask` cleared."""
    return bytes(map(int.__and__, value, mask))


@lru_cache(maxsize=4)
def _forms(name: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    member = rb'\s*"' + name.encode("ascii") + rb'"\s*:\s*(\{.*\})\s*'
    first = re.compile(rb"\s*\{" + member + b"," + _SIGNATURE + rb"\}\s*", re.DOTALL)
    return first, re.compile(rb"\s*\{" + _SIGNATURE + b"," + member + rb"\}\s*", re.DOTALL)


def _read(content: bytes, build: Callable[[dict[str, Any]], T]) -> T:
    try:
        return build(json.loads(content))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise MalformedEvidence(f"signed JSON does not fit its schema: {error!r}") from None


def _platform_level(level: dict[str, Any], tdx: bool) -> PlatformLevel:
    tcb = level["tcb"]
    return PlatformLevel(
        sgx=_components(tcb["sgxtcbcomponents"]),
        tdx=_components(tcb["tdxtcbcomponents"]) if tdx else b"",
        pcesvn=_number(tcb["pcesvn"]),
        status=_status(level, PLATFORM_STATUSES),
        date=_date(level),
        advisories=_advisories(level),
    )


def _components(items: list[dict[str, Any]]) -> bytes:
    svns = bytes([item["svn"] for item in items])
    if len(svns) != 16:
        raise ValueError(f"{len(svns)} TCB components")
    return svns


def _svn_levels(items: Any) -> tuple[SvnLevel, ...]:
    levels = [
        SvnLevel(
            _number(item["tcb"]["isvsvn"]),
            _status(item, COMPONENT_STATUSES),
            _date(item),
            _advisories(item),
        )
        for item in _list(items)
    ]
    return tuple(sorted(levels, key=lambda level: level.isvsvn, reverse=True))


def _numbered(item: dict[str, Any]) -> ModuleIdentity:
    found = _MODULE_ID.fullmatch(item["id"])
    if found is None:
        raise ValueError(f"module id {item['id']!r}")
    return _module(item, int(found[1], 16))


def _module(item: dict[str, Any], number: int) -> ModuleIdentity:
    return ModuleIdentity(
        number=number,
        mrsigner=_octets(item["mrsigner"], 48),
        attributes=_octets(item["attributes"], 8),
        attributes_mask=_octets(item["attributesMask"], 8),
        levels=_svn_levels(item["tcbLevels"]) if number else (),
    )


def _status(level: dict[str, Any], known: frozenset[TcbStatus]) -> TcbStatus:
    status = _STATUSES.get(_text(level["tcbStatus"]), TcbStatus.UNSUPPORTED)
    return status if status in known else TcbStatus.UNSUPPORTED


def _date(level: dict[str, Any]) -> str:
    _instant(level["tcbDate"])
    return _text(level["tcbDate"])


def _advisories(level: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(level.get("advisoryIDs", [])))


def _instant(value: Any) -> datetime:
    return _moment(_text(value))


@lru_cache(maxsize=64)
def _moment(text: str) -> datetime:
    if len(text) != 20 or text[-1] != "Z":
        raise ValueError(f"date {text!r}")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not UTC:
        raise ValueError(f"date {text!r}")
    return moment


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r} is not a string")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise TypeError(f"{value!r} is not a number in range")
    return value


def _octets(value: Any, size: int) -> bytes:
    raw = bytes.fromhex(_text(value))
    if len(raw) != size or len(value) != 2 * size:
        raise ValueError(f"{value!r} is not {size} bytes")
    return raw


def _list(value: Any) -> list[Any]:
    if type(value) is not list or len(value) > MAX_LEVELS:
        raise TypeError("not a list, or too long a one")
    return value
