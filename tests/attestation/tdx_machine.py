"""A machine with a quoting enclave of our own: TD reports, quotes and the collateral that goes with them.

Change the fields of a `Platform`, then ask for `quote()` and `collateral()`.
"""

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from attestation import Collateral, Kind, Roots
from attestation.dcap.enclave import EnclaveReport
from attestation.dcap.quote import INTEL_QE_VENDOR, BodyType, Header, Quote
from attestation.tdx.report import LaunchedReport, TdReport

from .tdx_pki import (
    LATEST,
    PCK,
    PLATFORM_CA,
    QE_SIGNER,
    ROOT,
    TCB_SIGNING,
    Key,
    crl,
    issue,
    key,
    pem,
    qe_identity,
    raw_signature,
    root,
    sgx_extension,
    signed_json,
    tcb_info,
)


def td_report(**fields: Any) -> TdReport:
    """A TD report 1.0 of a module 1.6 without debug, changed by `fields`."""
    table: dict[str, Any] = dict.fromkeys(
        ("mrseam", "mrsignerseam", "mrtd", "mrconfigid", "mrowner", "mrownerconfig"), bytes(48)
    )
    table |= dict.fromkeys(("rtmr0", "rtmr1", "rtmr2", "rtmr3"), bytes(48))
    table |= {
        "tee_tcb_svn": bytes([6, 1, 3, *([0] * 13)]),
        "seam_attributes": bytes(8),
        "td_attributes": bytes([0, 0, 0, 0x10, 0, 0, 0, 0]),
        "xfam": bytes.fromhex("e702060000000000"),
        "report_data": bytes(64),
    }
    return TdReport(**(table | fields))


def launched(svn2: bytes = bytes([6, 1, 3, *([0] * 13)]), service: bytes = bytes(48)) -> LaunchedReport:
    """The 1.5 part of a TD report."""
    return LaunchedReport(tee_tcb_svn2=svn2, mrservicetd=service)


@dataclass(kw_only=True)
class Platform:
    """One machine, its quoting enclave and what Intel publishes about it."""

    components: bytes = LATEST
    pcesvn: int = 13
    info: dict[str, Any] = field(default_factory=tcb_info)
    identity: dict[str, Any] = field(default_factory=qe_identity)
    report: TdReport = field(default_factory=td_report)
    body: bytes | None = None
    body_type: BodyType | None = None
    header: dict[str, Any] = field(default_factory=dict)
    qe: dict[str, Any] = field(default_factory=dict)
    pck: dict[str, Any] = field(default_factory=dict)
    authority: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, str, str, str] = (ROOT, PLATFORM_CA, PCK, TCB_SIGNING)
    signing: dict[str, Any] = field(default_factory=dict)
    extension: bytes | None = None
    pck_revoked: tuple[int, ...] = ()
    root_revoked: tuple[int, ...] = ()
    crl_days: tuple[int, int] = (-1, 30)
    keys: dict[str, str] = field(default_factory=dict)
    qe_report_data: bytes | None = None

    def key(self, role: str) -> Key:
        return key(self.keys.get(role, role))

    @property
    def roots(self) -> Roots:
        """Our root in the place of Intel's."""
        anchors = {"intel": MappingProxyType({"test": root()})}
        return Roots(names=frozenset({"test"}), anchors=MappingProxyType(anchors), custom=True)

    def chain(self) -> bytes:
        """The PCK chain as PEM."""
        ca, leaf = key("ca"), key("pck")
        _, authority_name, leaf_name, _ = self.names
        authority = issue(
            authority_name, ca, ROOT, self.key("root"), **({"ca": True, "serial": 77} | self.authority)
        )
        extension = self.extension or sgx_extension(self.components, self.pcesvn)
        fields: dict[str, Any] = {"ca": False, "serial": 99, "extension": extension} | self.pck
        certificate = issue(leaf_name, leaf, authority_name, self.key("ca"), **fields)
        return b"".join(pem(item) for item in (certificate, authority, root())) + b"\0"

    def quote(self, **fields: Any) -> Quote:
        """A quote of `report`, signed as hardware would; `fields` are changed after signing."""
        kind = self.body_type or (BodyType.TD_15 if self.report.launched else BodyType.TD_10)
        header = {
            "version": 4 if kind is BodyType.TD_10 else 5,
            "key_type": 2,
            "tee_type": 0x81,
            "qe_svn": 0,
            "pce_svn": 0,
            "qe_vendor": INTEL_QE_VENDOR,
            "user_data": bytes(20),
        } | self.header
        public = self.key("ak").public_key().public_numbers()
        point = public.x.to_bytes(32, "big") + public.y.to_bytes(32, "big")
        auth = bytes(range(32))
        committed = self.qe_report_data or hashlib.sha256(point + auth).digest() + bytes(32)
        qe_report = qe_enclave(committed, **self.qe)
        draft: dict[str, Any] = {
            "header": Header(**header),
            "body_type": kind,
            "body": self.body or self.report.to_bytes(),
            "signature": bytes(64),
            "attestation_key": point,
            "qe_report": qe_report,
            "qe_signature": raw_signature(self.key("pck"), qe_report),
            "qe_auth_data": auth,
            "certification_type": 5,
            "certification_data": self.chain(),
        }
        signed = Quote(**draft).signed
        return Quote(**(draft | {"signature": raw_signature(key("ak"), signed)} | fields))

    def collateral(self, **items: tuple[bytes, ...]) -> Collateral:
        """All collateral, each kind replaced by what `items` gives under its name."""
        signer = self.key("tcb")
        signing = issue(
            self.names[3], key("tcb"), ROOT, self.key("root"), **({"ca": False, "serial": 55} | self.signing)
        )
        table = {
            Kind.INTEL_TCB_INFO: (signed_json("tcbInfo", self.info, signer),),
            Kind.INTEL_QE_IDENTITY: (signed_json("enclaveIdentity", self.identity, signer),),
            Kind.INTEL_TCB_SIGNING_CHAIN: (pem(signing) + pem(root()),),
            Kind.INTEL_PCK_CRL: (crl(PLATFORM_CA, key("ca"), self.pck_revoked, self.crl_days),),
            Kind.INTEL_ROOT_CRL: (crl(ROOT, key("root"), self.root_revoked, self.crl_days),),
        }
        return Collateral(MappingProxyType(table | {Kind[kind]: found for kind, found in items.items()}))


def qe_enclave(report_data: bytes, **fields: Any) -> bytes:
    """The quoting enclave's report, changed by `fields`."""
    table: dict[str, Any] = {
        "cpusvn": LATEST,
        "miscselect": 0,
        "reserved1": bytes(12),
        "isvextprodid": bytes(16),
        "attributes": b"\x11" + bytes(7) + b"\xe7" + bytes(7),
        "mrenclave": b"\x01" * 32,
        "reserved2": bytes(32),
        "mrsigner": QE_SIGNER,
        "reserved3": bytes(32),
        "configid": bytes(64),
        "isvprodid": 2,
        "isvsvn": 6,
        "configsvn": 0,
        "reserved4": bytes(42),
        "isvfamilyid": bytes(16),
        "report_data": report_data,
    }
    return EnclaveReport(**(table | fields)).to_bytes()
