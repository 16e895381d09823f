"""The TD report body of a TDX quote: version 1.0, 1.5 and 1.5 with the extended fields."""

import struct
from dataclasses import dataclass, fields
from typing import Self

from ..dcap.quote import BODY_SIZES, BodyType
from ..errors import MalformedEvidence
from .attributes import TdAttributes

_BASE = struct.Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s")
_LAUNCHED = struct.Struct("<16s48s")
_EXTENDED = struct.Struct("<B32s48s48s8s16s16s12s48s8s")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedReport:
    """What TD report 1.5 adds: the TCB SVN of now, after module updates, and the bound service TDs."""

    tee_tcb_svn2: bytes
    mrservicetd: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedReport:
    """What body type 4 adds: identity of the TD and of where it first ran, before any migration."""

    vmid: int
    td_id: bytes
    device_info: bytes
    init_service_td_hash: bytes
    init_service_td_attributes: bytes
    init_cpusvn: bytes
    init_tee_tcb_svn: bytes
    init_tee_fmspc: bytes
    service_td_hash: bytes
    service_td_attributes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A TD report body (TDX DCAP Quoting Library, appendix A.3). Parsed, not verified.

    `launched` is there from 1.5 on, `extended` with body type 4.
    """

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    launched: LaunchedReport | None = None
    extended: ExtendedReport | None = None

    @classmethod
    def from_bytes(cls, kind: BodyType, raw: bytes) -> Self:
        """The report in `raw`; MalformedEvidence if it is not a TD's or has another size."""
        if kind is BodyType.SGX or len(raw) != BODY_SIZES[kind]:
            raise MalformedEvidence(f"a TD report of type {kind.name} with {len(raw)} bytes")
        launched = extended = None
        if kind is not BodyType.TD_10:
            svn, service = _LAUNCHED.unpack_from(raw, _BASE.size)
            launched = LaunchedReport(tee_tcb_svn2=svn, mrservicetd=service)
        if kind is BodyType.TD_15_EX:
            values = _EXTENDED.unpack_from(raw, _BASE.size + _LAUNCHED.size)
            extended = ExtendedReport(**dict(zip(_EXTENDED_FIELDS, values, strict=True)))
        values = _BASE.unpack_from(raw)
        return cls(**dict(zip(_BASE_FIELDS, values, strict=True)), launched=launched, extended=extended)

    def to_bytes(self) -> bytes:
        """The body's bytes: 584, 648 or 885 of them."""
        raw = _BASE.pack(*(getattr(self, name) for name in _BASE_FIELDS))
        if self.launched:
            raw += self.launched.tee_tcb_svn2 + self.launched.mrservicetd
        if self.extended:
            raw += _EXTENDED.pack(*(getattr(self.extended, name) for name in _EXTENDED_FIELDS))
        return raw

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four runtime measurement registers."""
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3

    @property
    def attributes(self) -> TdAttributes:
        """ATTRIBUTES as flags."""
        return TdAttributes(int.from_bytes(self.td_attributes, "little"))

    @property
    def service_tds(self) -> tuple[bytes, ...]:
        """The measurements of bound service TDs that this report carries."""
        found = (self.launched.mrservicetd,) if self.launched else ()
        return (*found, self.extended.service_td_hash) if self.extended else found


_BASE_FIELDS = tuple(item.name for item in fields(TdReport))[:15]
_EXTENDED_FIELDS = tuple(item.name for item in fields(ExtendedReport))
