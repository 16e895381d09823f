"""Which evidence is at hand: told by content, in one place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import certificates
from ..azure.hcl import HclReport, ReportType
from ..dcap.quote import Quote
from ..errors import MalformedEvidence
from ..evidence import Bundle
from ..nvidia import CertificateChain, GpuReport
from ..snp import REPORT_SIZE, SnpReport, read_table
from ..snp.endorsement import is_endorsement


@dataclass(slots=True)
class Evidence:
    """Evidence by what collateral it calls for. Parsed, not verified.

    `endorsements` came with the SNP reports; a device's report or chain may be missing.
    """

    snp: list[SnpReport] = field(default_factory=list)
    endorsements: list[bytes] = field(default_factory=list)
    quotes: list[Quote] = field(default_factory=list)
    devices: list[tuple[GpuReport | None, CertificateChain | None]] = field(default_factory=list)


def recognise(documents: Sequence[bytes], names: Sequence[str] = ()) -> Evidence:
    """What `documents` are: our bundles, SNP reports with their certificates, HCL reports, DCAP quotes,
    NVIDIA reports and chains. Reports and chains of devices belong together in the order given.

    MalformedEvidence for a document that is none of these, by its name; without `names`, by its number.
    """
    found = Evidence()
    reports: list[GpuReport] = []
    chains: list[CertificateChain] = []
    for number, raw in enumerate(documents, 1):
        try:
            _sort(raw, found, reports, chains)
        except MalformedEvidence as error:
            name = names[number - 1] if names else f"document {number}"
            raise MalformedEvidence(f"{name}: {error}") from None
    for index in range(max(len(reports), len(chains))):
        report = reports[index] if index < len(reports) else None
        found.devices.append((report, chains[index] if index < len(chains) else None))
    return found


def _sort(raw: bytes, found: Evidence, reports: list[GpuReport], chains: list[CertificateChain]) -> None:
    if raw.lstrip()[:1] == b"{":
        _bundle(Bundle.from_json(raw), found)
    elif raw.lstrip().startswith(b"-----BEGIN CERTIFICATE"):
        if any(is_endorsement(item) for item in certificates.load_all(raw)):
            found.endorsements.append(raw)
        else:
            chains.append(CertificateChain.from_pem(raw))
    elif raw[:1] == b"\x30":
        certificates.load(raw)
        found.endorsements.append(raw)
    elif raw[:2] == b"\x11\xe0":  # SPDM 1.1, GET_MEASUREMENTS
        reports.append(GpuReport.from_bytes(raw))
    else:
        _cpu(raw, found)


def _cpu(raw: bytes, found: Evidence) -> None:
    if len(raw) == REPORT_SIZE:
        found.snp.append(SnpReport.from_bytes(raw))
    elif raw[:4] == b"HCLA":
        report = HclReport.from_bytes(raw)
        if report.report_type is ReportType.SNP:
            found.snp.append(SnpReport.from_bytes(report.hardware))
    elif raw[:2] in (b"\x03\x00", b"\x04\x00", b"\x05\x00"):
        found.quotes.append(Quote.from_bytes(raw))
    else:
        try:
            table = read_table(raw)
        except MalformedEvidence:
            table = ()
        if not table:
            raise MalformedEvidence("neither a bundle, nor a report, quote or certificate of a known kind")
        found.endorsements.append(raw)


def _bundle(bundle: Bundle, found: Evidence) -> None:
    _cpu(bundle.cpu.report, found)
    found.endorsements.extend(bundle.cpu.endorsements)
    for device in bundle.devices:
        report, chain = GpuReport.from_bytes(device.report), CertificateChain.from_pem(device.chain)
        found.devices.append((report, chain))
