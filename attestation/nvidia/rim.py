"""NVIDIA's reference integrity manifests (RIM): signed SWID tags with the measurements to expect."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Self

from ..errors import MalformedEvidence
from .chain import Certificate, broken_links
from .signature import ecdsa_p384
from .xmldsig import Node, SignedDocument, parse

SWID = "{http://standards.iso.org/iso/19770/-2/2015/schema.xsd}"
MAX_ALTERNATIVES = 64
MAX_INDEX = 253

_HASH = re.compile(r"\{http://www\.w3\.org/2001/04/xmlenc#sha384\}Hash(0|[1-9][0-9]?)")
_DIGITS = re.compile(r"0|[1-9][0-9]{0,3}")
_ACTIVE = {"True": True, "true": True, "False": False, "false": False}


@dataclass(frozen=True, slots=True)
class Golden:
    """What one measurement may be: `size` bytes, equal to one of `values`."""

    size: int
    values: tuple[bytes, ...]

    def allows(self, measured: bytes | None) -> bool:
        """Whether `measured` has the size and one of the values."""
        return measured is not None and len(measured) == self.size and measured in self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Rim:
    """A manifest. Parsed, not verified. `active` is by RIM index: SPDM block less one."""

    product: str
    edition: str
    version: str
    tag_id: str
    active: Mapping[int, Golden]
    certificates: tuple[Certificate, ...]
    intact: bool
    signed: bool = field(repr=False)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """The manifest in `raw`, or MalformedEvidence: XML, signature profile, schema, certificates."""
        document = parse(raw)
        root = document.root
        if root.tag != f"{SWID}SoftwareIdentity":
            raise MalformedEvidence("not a SWID tag")
        meta, payload = _only(root, "Meta"), _only(root, "Payload")
        return cls(
            product=_text(meta, "product"),
            edition=_text(meta, "edition"),
            version=_text(meta, "colloquialVersion"),
            tag_id=_text(root, "tagId"),
            active=MappingProxyType(_resources(payload)),
            certificates=document.certificates,
            intact=document.intact,
            signed=_signed(document),
        )

    @property
    def signer(self) -> Certificate:
        """The certificate of the key that signed the manifest."""
        return self.certificates[0]

    def chains_to(self, root: Certificate) -> bool:
        """Whether the signer's certificates end in `root`, each issued by the next."""
        anchored = self.certificates[-1].same_key(root)
        path = (*self.certificates[:-1], root)
        usable = len(path) > 1 and self.signer.signs_data and not self.signer.authority
        return anchored and usable and not broken_links(path)

    def expired(self, now: datetime) -> list[str]:
        """The names of the signer's certificates that are not valid at `now`."""
        return [item.name for item in self.certificates if not item.current(now)]


@lru_cache(maxsize=16)
def rim(raw: bytes) -> Rim:
    """The manifest in `raw`, parsed once for equal bytes: a fact of the bytes alone."""
    return Rim.from_bytes(raw)


def _signed(document: SignedDocument) -> bool:
    return ecdsa_p384(document.certificates[0], document.signature, document.signed_info)


def _only(root: Node, name: str) -> Node:
    found: list[Node] = root.findall(SWID + name)
    if len(found) != 1:
        raise MalformedEvidence(f"{len(found)} {name} elements where one belongs")
    return found[0]


def _text(node: Node, name: str) -> str:
    value = node.get(name)
    if not value or len(value) > 128:
        raise MalformedEvidence(f"{name} is missing or too long")
    return str(value)


def _resources(payload: Node) -> dict[int, Golden]:
    seen: set[int] = set()
    active: dict[int, Golden] = {}
    for node in payload:
        if node.tag != f"{SWID}Resource" or node.get("type") != "Measurement":
            raise MalformedEvidence("the payload holds something besides measurements")
        index, state = _number(node, "index", MAX_INDEX), _ACTIVE.get(_text(node, "active"))
        if index in seen or state is None:
            raise MalformedEvidence(f"measurement {index} is repeated, or neither active nor inactive")
        seen.add(index)
        golden = Golden(_number(node, "size", 1024), _values(node))
        if state:
            active[index] = golden
    if not seen:
        raise MalformedEvidence("the payload holds no measurements")
    return active


def _values(node: Node) -> tuple[bytes, ...]:
    """The values Hash0, Hash1... of a resource: as many as `alternatives` says, without gaps."""
    hashes = {int(match[1]): str(value) for name, value in node.items() if (match := _match(name))}
    if sorted(hashes) != list(range(_number(node, "alternatives", MAX_ALTERNATIVES))) or not hashes:
        raise MalformedEvidence("a measurement has other values than `alternatives` says")
    try:
        return tuple(bytes.fromhex(hashes[i]) for i in range(len(hashes)))
    except ValueError:
        raise MalformedEvidence("a golden value is not hexadecimal") from None


def _match(name: str | bytes) -> re.Match[str] | None:
    return _HASH.fullmatch(str(name))


def _number(node: Node, name: str, limit: int) -> int:
    text = _text(node, name)
    if not _DIGITS.fullmatch(text) or int(text) > limit:
        raise MalformedEvidence(f"{name} is {text!r}, not a number up to {limit}")
    return int(text)
