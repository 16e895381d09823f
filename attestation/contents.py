"""Files as structures: each kind's parser, loaded when it is needed. Parsed, not verified."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from .encoding import strict_json
from .errors import MalformedEvidence
from .pieces import MAX_FILE, Piece, identify

P = Piece


def contents(piece: Piece, raw: bytes) -> Any:
    """What a file of kind `piece` holds: dataclasses, mappings, lists, scalars; MalformedEvidence."""
    parse = _PARSERS.get(piece)
    return parse(raw) if parse else _json_or_size(raw)


def _json_or_size(content: bytes) -> Any:
    try:
        return strict_json(content, limit=MAX_FILE)
    except MalformedEvidence:
        return {"bytes": len(content)}


def _snp(raw: bytes) -> Any:
    from .snp import REPORT_SIZE, SnpReport

    found: dict[str, Any] = {"report": SnpReport.from_bytes(raw[:REPORT_SIZE])}
    if len(raw) > REPORT_SIZE:
        found["table"] = _table(raw[REPORT_SIZE:])
    return found


def _table(raw: bytes) -> Any:
    from .snp import read_table

    return {guid.hex(): _certificates_or_size(content) for guid, content in read_table(raw)}


def _certificates_or_size(raw: bytes) -> Any:
    try:
        return _certificates(raw)
    except MalformedEvidence:
        return {"bytes": len(raw)}


def _certificates(raw: bytes) -> Any:
    from .certificates import common_name, load_all
    from .tpm.appraisal import unpadded

    return [
        {
            "subject": item.name,
            "issuer": common_name(item.issuer),
            "serial": f"{item.serial:x}",
            "not_before": item.not_before,
            "not_after": item.not_after,
            "extensions": sorted(name.dotted_string for name in item.extensions),
        }
        for item in load_all(unpadded(raw))
    ]


def _quote(raw: bytes) -> Any:
    from .dcap.enclave import EnclaveReport
    from .dcap.quote import BodyType, Quote
    from .tdx.report import TdReport

    quote = Quote.from_bytes(raw)
    if quote.body_type is BodyType.SGX:
        body: Any = EnclaveReport.from_bytes(quote.body)
    else:
        body = TdReport.from_bytes(quote.body_type, quote.body)
    return {
        "header": quote.header,
        "body_type": quote.body_type,
        "body": body,
        "signature": quote.signature,
        "attestation_key": quote.attestation_key,
        "qe_report": EnclaveReport.from_bytes(quote.qe_report),
        "qe_auth_data": quote.qe_auth_data,
        "certification_type": quote.certification_type,
        "padding": f"{len(quote.padding)} bytes",
    }


def _device(raw: bytes) -> Any:
    from .nvidia import GpuReport

    report = GpuReport.from_bytes(raw)
    names = [item.name for item in fields(report) if item.name not in ("request", "measurement_record")]
    shown = {name: getattr(report, name) for name in names}
    return {"request": report.request, "measurements": report.measurements} | shown


def _device_list(raw: bytes) -> Any:
    from .importers.members import devices

    listed = devices(strict_json(raw, limit=MAX_FILE), "nvidia")
    return {f"device{i}": _device(item.report) for i, item in enumerate(listed)}


def _hcl(raw: bytes) -> Any:
    from .azure import HclReport, ReportType
    from .snp import SnpReport

    report = HclReport.from_bytes(raw)
    genuine_snp = report.report_type is ReportType.SNP
    return {"hcl": report, "hardware": SnpReport.from_bytes(report.hardware) if genuine_snp else None}


def _tpm_quote(raw: bytes) -> Any:
    from .tpm import Quote

    quote = Quote.from_bytes(raw)
    return {"quote": quote, "selected": [f"{s.bank}: {list(s.indexes)}" for s in quote.selections]}


def _tpm_signature(raw: bytes) -> Any:
    from .tpm import Signature

    return Signature.from_bytes(raw)


def _tpm_public(raw: bytes) -> Any:
    from .tpm import Public

    return Public.from_bytes(raw)


def _event_log(raw: bytes) -> Any:
    from . import tdx, tpm

    try:
        return tdx.EventLog.from_bytes(raw)
    except MalformedEvidence:
        return tpm.EventLog.from_bytes(raw)


def _nitro(raw: bytes) -> Any:
    from .nitro import NitroDocument

    document = NitroDocument.from_bytes(raw)
    skipped = {"message", "certificate", "chain"}
    found = {item.name: getattr(document, item.name) for item in fields(document) if item.name not in skipped}
    return found | {"certificate": _certificates(document.certificate.raw)}


def _uvm(raw: bytes) -> Any:
    from .azure import UvmEndorsement

    endorsement = UvmEndorsement.from_bytes(raw)
    skipped = {"message", "chain"}
    names = [item.name for item in fields(endorsement) if item.name not in skipped]
    return {name: getattr(endorsement, name) for name in names} | {
        "chain": [item.name for item in endorsement.chain]
    }


def _token(raw: bytes) -> Any:
    from .jose import Token

    token = Token.from_compact(raw.decode("ascii").strip())
    return {"header": token.header, "claims": token.claims}


def _nras(raw: bytes) -> Any:
    from .nras import NrasResponse

    response = NrasResponse.from_bytes(raw)
    devices = {name: token.claims for name, token in response.devices.items()}
    return {"header": response.overall.header, "overall": response.overall.claims, **devices}


def _rim(raw: bytes) -> Any:
    from .nvidia import Rim

    manifest = Rim.from_bytes(raw)
    return {
        "product": manifest.product,
        "edition": manifest.edition,
        "version": manifest.version,
        "tag_id": manifest.tag_id,
        "signer": manifest.signer.name,
        "active": {str(index): list(golden.values) for index, golden in manifest.active.items()},
    }


def _crl(raw: bytes) -> Any:
    from .certificates import common_name
    from .crl import load_crl

    crl = load_crl(raw)
    return {
        "issuer": common_name(crl.issuer),
        "this_update": crl.this_update,
        "next_update": crl.next_update,
        "number": crl.number,
        "revoked": [f"{serial:x}" for serial in sorted(crl.revoked)],
    }


def _bundle(raw: bytes) -> Any:
    from .evidence import Bundle
    from .keyset import Keyset, Session, Workload

    bundle = Bundle.from_json(raw)
    found: dict[str, Any] = {
        "nonce": bundle.nonce,
        "keyset": Keyset.from_bytes(bundle.keyset),
        "session": Session.from_bytes(bundle.session) if bundle.session is not None else None,
        "workload": Workload.from_bytes(bundle.workload),
        "cpu.tee": bundle.cpu.tee,
        "cpu": _nested(bundle.cpu.report),
    }
    for index, device in enumerate(bundle.devices):
        found |= {f"device{index}.tee": device.tee, f"device{index}": _nested(device.report)}
    return found | {"collateral": {str(k): f"{len(v)} items" for k, v in bundle.collateral.items.items()}}


def _tinfoil(raw: bytes) -> Any:
    from .importers.tinfoil import Tinfoil

    document = Tinfoil.from_json(raw)
    devices = {f"device{i}": _nested(item.report) for i, item in enumerate(document.devices)}
    return {
        "report_data": document.parts,
        "platform": document.platform,
        "certificate": _certificates(document.certificate),
        "cpu": _nested(document.report),
        **devices,
    }


def _tinfoil_report(raw: bytes) -> Any:
    from .importers.tinfoil import report

    return {"body": _nested(report(raw))}


def _vtpm_document(raw: bytes) -> Any:
    from .sources import AzureVtpm

    return _vtpm(AzureVtpm.from_json(raw))


def _azure_document(raw: bytes) -> Any:
    from .importers.trustee import azure

    return _vtpm(azure(raw))


def _vtpm(evidence: Any) -> Any:
    quote = dict(zip(("tpm", "signature"), map(_nested, evidence.quote or ()), strict=False))
    td = {"td_quote": _nested(evidence.td_quote)} if evidence.td_quote is not None else {}
    return {"hcl": _nested(evidence.hcl), **quote, "pcrs": evidence.pcrs, **td}


def _tsm_report(raw: bytes) -> Any:
    from .importers.trustee import octets

    value = strict_json(raw, limit=MAX_FILE)
    blobs = {name: octets(value[name], name) for name in ("outblob", "auxblob") if value.get(name)}
    return {"provider": str(value.get("provider", "")).strip()} | {k: _nested(v) for k, v in blobs.items()}


def _tpm_document(raw: bytes) -> Any:
    from .importers.trustee import tpm

    evidence = tpm(raw)
    message, signature = evidence.quotes[0]
    return {"tpm": _nested(message), "signature": _nested(signature), "pcrs": evidence.pcrs}


def _nested(raw: bytes) -> Any:
    """A report inside a document, or its size where it is of no known kind, or another document.

    Documents within documents, compressed, would be more to show than anybody can wait for.
    """
    piece, content = identify(raw)
    parse = _PARSERS.get(piece) if piece not in _DOCUMENTS else None
    return parse(content) if parse else {"bytes": len(raw)}


_DOCUMENTS = {
    P.BUNDLE,
    P.TINFOIL,
    P.TINFOIL_REPORT,
    P.VTPM_DOCUMENT,
    P.AZURE_DOCUMENT,
    P.TPM_DOCUMENT,
    P.TSM_REPORT,
    P.DEVICE_LIST,
}
_PARSERS: dict[Piece, Callable[[bytes], Any]] = {
    P.BUNDLE: _bundle,
    P.TINFOIL: _tinfoil,
    P.TINFOIL_REPORT: _tinfoil_report,
    P.VTPM_DOCUMENT: _vtpm_document,
    P.AZURE_DOCUMENT: _azure_document,
    P.TPM_DOCUMENT: _tpm_document,
    P.TSM_REPORT: _tsm_report,
    P.SNP_REPORT: _snp,
    P.CERTIFICATE_TABLE: _table,
    P.TDX_QUOTE: _quote,
    P.SGX_QUOTE: _quote,
    P.HCL_REPORT: _hcl,
    P.DEVICE_REPORT: _device,
    P.DEVICE_LIST: _device_list,
    P.TPM_QUOTE: _tpm_quote,
    P.TPM_SIGNATURE: _tpm_signature,
    P.TPM_PUBLIC: _tpm_public,
    P.EVENT_LOG: _event_log,
    P.NITRO: _nitro,
    P.UVM: _uvm,
    P.MAA_TOKEN: _token,
    P.NRAS: _nras,
    P.RIM: _rim,
    P.CERTIFICATES: _certificates,
    P.INTEL_CHAIN: _certificates,
    P.CRL: _crl,
}
