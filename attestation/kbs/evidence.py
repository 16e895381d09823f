"""Primary and additional evidence as Trustee's attesters write it and its verifiers read it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..encoding import canonical, strict_json
from ..errors import MalformedEvidence
from ..evidence import MAX_DEVICES, CpuEvidence, DeviceEvidence
from ..standalone import GPU, SWITCH
from ..values import exact, sequence, string
from .report_json import decode_report, encode_report

MAX_ADDITIONAL: Final = 4 * 1024 * 1024
MAX_CERTIFICATE: Final = 8192
SNP, TDX = "snp", "tdx"
TEES: Final = {"sev-snp": SNP, "tdx": TDX}
"""The CPUs whose evidence can be written for a broker, by our name: the protocol's name of each."""

AZURE: Final = {"az-snp-vtpm": "azure-snp-vtpm", "az-tdx-vtpm": "azure-tdx-vtpm"}
"""The same of Azure's confidential VMs, which can be read only: the protocol's name, then ours."""

_NAMES = {name: tee for tee, name in TEES.items()} | AZURE
_ARCHITECTURES = {"GH": "Hopper", "GB": "Blackwell", "LS": "LS10"}
_CERTIFICATES = ("VCEK", "VLEK", "ASK", "ARK")


@dataclass(frozen=True, slots=True, kw_only=True)
class KbsEvidence:
    """What POST /attest carries. Parsed no further than JSON, not verified.

    `tee`: as in the request ("snp"). `runtime`: the values that both sides hash. `additional`: exactly
    as sent.
    """

    tee: str
    runtime: Mapping[str, Any]
    primary: Any
    additional: str = ""

    def cpu(self) -> CpuEvidence:
        """The CPU's evidence. MalformedEvidence for what does not parse or is of an unsupported kind."""
        if self.tee not in _NAMES:
            raise MalformedEvidence(f"evidence of {self.tee!r} is not supported: {', '.join(_NAMES)} are")
        if self.tee in AZURE:
            return _azure(AZURE[self.tee], self.primary)
        report, endorsements = _snp(self.primary) if self.tee == SNP else _tdx(self.primary)
        return CpuEvidence(tee=_NAMES[self.tee], report=report, endorsements=endorsements)

    def devices(self) -> tuple[DeviceEvidence, ...]:
        """The devices' evidence, none if there is none. Raises MalformedEvidence."""
        if not self.additional:
            return ()
        try:
            raw = self.additional.encode("utf-8")
        except UnicodeEncodeError:
            raise MalformedEvidence("additional evidence holds half of a surrogate pair") from None
        table = strict_json(raw, limit=MAX_ADDITIONAL)
        if not isinstance(table, dict) or table.keys() != {"nvidia"}:
            raise MalformedEvidence("additional evidence is of another kind than nvidia")
        listed = exact(table["nvidia"], {"device_evidence_list"}, "nvidia evidence")["device_evidence_list"]
        return tuple(_device(item) for item in sequence(listed, "device_evidence_list", MAX_DEVICES))


def primary_evidence(cpu: CpuEvidence) -> dict[str, Any]:
    """The CPU's evidence as JSON values. MalformedEvidence for a TEE that has no such form here."""
    if cpu.tee == "sev-snp":
        pairs = [(_certificate_type(item), item) for item in cpu.endorsements]
        chain = [{"cert_type": kind, "data": list(item)} for kind, item in pairs]
        return {"attestation_report": encode_report(cpu.report), "cert_chain": chain}
    if cpu.tee == "tdx":
        log = base64.b64encode(cpu.endorsements[0]).decode() if cpu.endorsements else None
        return {"cc_eventlog": log, "quote": base64.b64encode(cpu.report).decode()}
    raise MalformedEvidence(f"a broker takes no evidence of {cpu.tee}")


def additional_evidence(devices: Sequence[DeviceEvidence]) -> str:
    """The devices' evidence as the text that is sent and hashed; empty if there are none."""
    if not devices:
        return ""
    return canonical({"nvidia": {"device_evidence_list": [_entry(each) for each in devices]}}).decode()


def _snp(value: Any) -> tuple[bytes, tuple[bytes, ...]]:
    if not isinstance(value, dict) or "attestation_report" not in value:
        raise MalformedEvidence("snp evidence has no attestation_report")
    chain = value.get("cert_chain")
    listed = sequence(chain, "cert_chain", 16) if chain is not None else []
    entries = [exact(item, {"cert_type", "data"}, "certificate") for item in listed]
    certificates = tuple(_certificate(each) for each in entries if each["cert_type"] in _CERTIFICATES)
    return decode_report(value["attestation_report"]), certificates


def _certificate(table: Mapping[str, Any]) -> bytes:
    data = sequence(table["data"], "certificate", MAX_CERTIFICATE)
    if not all(type(octet) is int and 0 <= octet <= 0xFF for octet in data):
        raise MalformedEvidence("a certificate's data is not an array of octets")
    return bytes(data)


def _certificate_type(raw: bytes) -> str:
    from ..certificates import load_all

    (certificate,) = load_all(raw)
    name = certificate.name
    kinds = {"SEV-VCEK": "VCEK", "SEV-VLEK": "VLEK"}
    return kinds.get(name, "ARK" if name.startswith("ARK") else "ASK")


def _tdx(value: Any) -> tuple[bytes, tuple[bytes, ...]]:
    if not isinstance(value, dict) or not {"quote"} <= value.keys() <= {
        "quote",
        "cc_eventlog",
        "aa_eventlog",
    }:
        raise MalformedEvidence("tdx evidence is not a quote with its event log")
    if value.get("aa_eventlog"):
        raise MalformedEvidence("tdx evidence with an agent's event log is not supported")
    log = value.get("cc_eventlog")
    return _base64(value["quote"]), (_base64(log),) if log else ()


def _azure(tee: str, value: Any) -> CpuEvidence:
    from ..importers.trustee import azure_parts

    parts = azure_parts(value)
    return CpuEvidence(tee=tee, report=parts.to_json(), endorsements=parts.endorsements)


def _device(value: Any) -> DeviceEvidence:
    table = exact(value, {"arch", "uuid", "evidence", "certificate"}, "device evidence")
    architecture, report = string(table["arch"]).lower(), string(table["evidence"])
    string(table["uuid"])
    if architecture not in {name.lower() for name in _ARCHITECTURES.values()}:
        raise MalformedEvidence("device evidence of an unknown architecture")
    raw = bytes.fromhex(report) if _is_hex(report) else _base64(report)  # attesters used to write hexadecimal
    tee = SWITCH if architecture == "ls10" else GPU
    return DeviceEvidence(tee=tee, report=raw, chain=_base64(table["certificate"]))


def _entry(device: DeviceEvidence) -> dict[str, str]:
    from ..nvidia import CertificateChain

    chip, serial = CertificateChain.from_pem(device.chain).device_name or ("", "")
    if chip[:2] not in _ARCHITECTURES:
        raise MalformedEvidence(f"a device of chip {chip[:16]!r} has no place in a broker's evidence")
    return {
        "arch": _ARCHITECTURES[chip[:2]],
        "uuid": f"GPU-{serial}",
        "evidence": base64.b64encode(device.report).decode(),
        "certificate": base64.b64encode(device.chain).decode(),
    }


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and bool(text) and set(text) <= set("0123456789abcdefABCDEF")


def _base64(value: Any) -> bytes:
    try:
        return base64.b64decode(string(value), validate=True)
    except ValueError:
        raise MalformedEvidence("evidence is not base64") from None
