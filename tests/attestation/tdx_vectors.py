"""Platforms that fail for one reason each, and their accepting neighbours: vectors as data."""

from typing import Any

from attestation.dcap.quote import BodyType

from . import tdx_pki as pki
from .tdx_machine import launched, td_report
from .tdx_pki import FMSPC, PPID

Rejection = tuple[str, dict[str, Any], dict[str, Any], str]

BIT = {bit: (1 << bit).to_bytes(8, "little") for bit in range(64)}
SEPT = 1 << 28


def attributes(value: int) -> dict[str, Any]:
    return {"report": td_report(td_attributes=value.to_bytes(8, "little"))}


def xfam(value: int) -> dict[str, Any]:
    return {"report": td_report(xfam=value.to_bytes(8, "little"))}


def seam(**fields: Any) -> dict[str, Any]:
    return {"report": td_report(**fields)}


SOME = bytes([1]) + bytes(47)

# name, changes of the platform, policy keys or collateral, the one check that must block
REJECTED: list[Rejection] = [
    (
        "tee type",
        {"header": {"tee_type": 0x82, "version": 5}, "body_type": BodyType.TD_10},
        {},
        "dcap.quote-format",
    ),
    (
        "tee type sgx",
        {"header": {"tee_type": 0, "version": 5}, "body_type": BodyType.TD_10},
        {},
        "dcap.quote-format",
    ),
    ("key type", {"header": {"key_type": 3}}, {}, "dcap.quote-format"),
    ("qe vendor", {"header": {"qe_vendor": bytes(16)}}, {}, "dcap.qe-vendor"),
    ("ca signed by another root", {"keys": {"ca": "x", "root": "root"}}, {}, "dcap.pck-chain"),
    (
        "pck named otherwise",
        {"names": (pki.ROOT, pki.PLATFORM_CA, "PCK", pki.TCB_SIGNING)},
        {},
        "dcap.pck-chain",
    ),
    ("pck is a ca", {"pck": {"ca": True}}, {}, "dcap.pck-chain"),
    ("pck ca is none", {"authority": {"ca": False}}, {}, "dcap.pck-chain"),
    ("critical extension", {"pck": {"critical": True}}, {}, "dcap.pck-chain"),
    ("pck expired", {"pck": {"days": (-30, -1)}}, {}, "dcap.pck-validity"),
    ("pck ca not yet valid", {"authority": {"days": (1, 30)}}, {}, "dcap.pck-validity"),
    ("no sgx extension", {"pck": {"extension": None}}, {}, "dcap.pck-extension"),
    ("sgx extension of 16 bits", {"extension": b"\x30\x00"}, {}, "dcap.pck-extension"),
    ("platform not listed", {}, {"fmspcs": ["00" * 6]}, "dcap.platform"),
    ("ppid not listed", {}, {"ppids": ["00" * 16]}, "dcap.platform"),
    ("root crl missing", {}, {"INTEL_ROOT_CRL": ()}, "dcap.root-crl"),
    ("root crl of another key", {}, {"INTEL_ROOT_CRL": (pki.crl(pki.ROOT, pki.key("x")),)}, "dcap.root-crl"),
    (
        "root crl stale",
        {},
        {"INTEL_ROOT_CRL": (pki.crl(pki.ROOT, pki.key("root"), (), (-9, -1)),)},
        "dcap.root-crl",
    ),
    (
        "root crl early",
        {},
        {"INTEL_ROOT_CRL": (pki.crl(pki.ROOT, pki.key("root"), (), (1, 9)),)},
        "dcap.root-crl",
    ),
    ("pck ca revoked", {"root_revoked": (77,)}, {}, "dcap.ca-not-revoked"),
    ("tcb signing revoked", {"root_revoked": (55,)}, {}, "dcap.ca-not-revoked"),
    ("pck crl missing", {}, {"INTEL_PCK_CRL": ()}, "dcap.pck-crl"),
    (
        "pck crl of another key",
        {},
        {"INTEL_PCK_CRL": (pki.crl(pki.PLATFORM_CA, pki.key("x")),)},
        "dcap.pck-crl",
    ),
    (
        "pck crl of another ca",
        {},
        {"INTEL_PCK_CRL": (pki.crl("Intel SGX PCK Processor CA", pki.key("ca")),)},
        "dcap.pck-crl",
    ),
    ("pck crl no crl", {}, {"INTEL_PCK_CRL": (b"\x30\x00",)}, "dcap.pck-crl"),
    ("pck revoked", {"pck_revoked": (98, 99)}, {}, "dcap.pck-not-revoked"),
    ("signing chain missing", {}, {"INTEL_TCB_SIGNING_CHAIN": ()}, "dcap.tcb-signing-chain"),
    ("signing certificate expired", {"signing": {"days": (-30, -1)}}, {}, "dcap.tcb-signing-chain"),
    ("signing certificate is a ca", {"signing": {"ca": True}}, {}, "dcap.tcb-signing-chain"),
    (
        "signing certificate named otherwise",
        {"names": (pki.ROOT, pki.PLATFORM_CA, pki.PCK, "Somebody")},
        {},
        "dcap.tcb-signing-chain",
    ),
    ("tcb info missing", {}, {"INTEL_TCB_INFO": ()}, "dcap.tcb-info-signature"),
    ("tcb info by another key", {"keys": {"tcb": "x"}}, {}, "dcap.tcb-info-signature"),
    ("tcb info without levels", {"info": {"id": "TDX"}}, {}, "dcap.tcb-info-signature"),
    (
        "tcb info stale",
        {"info": pki.tcb_info(nextUpdate="2026-05-01T11:59:59Z")},
        {},
        "dcap.tcb-info-current",
    ),
    ("tcb info early", {"info": pki.tcb_info(issueDate="2026-05-01T12:00:01Z")}, {}, "dcap.tcb-info-current"),
    ("fmspc", {"info": pki.tcb_info(fmspc="00806F050000")}, {}, "dcap.tcb-info-match"),
    ("pceid", {"info": pki.tcb_info(pceId="0001")}, {}, "dcap.tcb-info-match"),
    ("tcb info version", {"info": pki.tcb_info(version=2)}, {}, "dcap.tcb-info-match"),
    ("tcb info for sgx", {"info": pki.tcb_info(id="SGX")}, {}, "dcap.tcb-info-match"),
    ("qe identity missing", {}, {"INTEL_QE_IDENTITY": ()}, "dcap.qe-identity-signature"),
    ("qe identity of the sgx qe", {"identity": pki.qe_identity(id="QE")}, {}, "dcap.qe-identity-signature"),
    ("qe identity version", {"identity": pki.qe_identity(version=1)}, {}, "dcap.qe-identity-signature"),
    (
        "qe identity stale",
        {"identity": pki.qe_identity(nextUpdate="2026-04-21T00:00:00Z")},
        {},
        "dcap.qe-identity-current",
    ),
    ("evaluation number", {}, {"minimum_tcb_evaluation_data_number": 20}, "dcap.tcb-evaluation-number"),
    (
        "evaluation number of the qe identity",
        {"identity": pki.qe_identity(tcbEvaluationDataNumber=14)},
        {},
        "dcap.tcb-evaluation-number",
    ),
    ("qe report by another key", {"keys": {"pck": "x"}}, {}, "dcap.qe-report-signature"),
    ("attestation key not bound", {"qe_report_data": bytes(64)}, {}, "dcap.attestation-key"),
    ("misc select", {"qe": {"miscselect": 1}}, {}, "dcap.qe-identity"),
    ("debug qe", {"qe": {"attributes": b"\x13" + bytes(15)}}, {}, "dcap.qe-identity"),
    ("qe signer", {"qe": {"mrsigner": bytes(32)}}, {}, "dcap.qe-identity"),
    ("qe product", {"qe": {"isvprodid": 1}}, {}, "dcap.qe-identity"),
    ("old pce", {}, {"minimum_pcesvn": 14}, "dcap.minimum-svns"),
    ("old qe", {}, {"minimum_qe_isvsvn": 7}, "dcap.minimum-svns"),
    ("seam signer", seam(mrsignerseam=SOME), {}, "tdx.module"),
    ("seam attributes", seam(seam_attributes=BIT[0]), {}, "tdx.module"),
    ("module build not listed", {}, {"mrseams": ["11" * 48]}, "tdx.mrseam"),
    ("minimum tcb", {}, {"minimum_tee_tcb_svn": "060104" + "00" * 13}, "tdx.minimum-tcb"),
    ("debug", attributes(SEPT | 1), {}, "tdx.debug"),
    ("profiling", attributes(SEPT | 1 << 5), {"allow_debug": True}, "tdx.debug"),
    ("ve not disabled", attributes(0), {}, "tdx.attributes"),
    ("reserved attribute", attributes(SEPT | 1 << 40), {}, "tdx.attributes"),
    ("migratable", attributes(SEPT | 1 << 29), {}, "tdx.attributes"),
    ("perfmon", attributes(SEPT | 1 << 63), {"allow_attributes": ["PKS"]}, "tdx.attributes"),
    ("no x87", xfam(0x2), {}, "tdx.xfam"),
    ("undefined feature", xfam(0x3 | 1 << 60), {}, "tdx.xfam"),
    ("xfam not listed", {}, {"xfams": ["03" + "00" * 7]}, "tdx.xfam"),
    (
        "mrtd",
        {},
        {
            "allow_any_measurement": None,
            "allow_any_registers": [f"rtmr{i}" for i in range(4)],
            "mrtds": ["11" * 48],
        },
        "tdx.mrtd",
    ),
    ("report data", {}, {"allow_any_report_data": None, "report_data": ["11" * 64]}, "tdx.report-data"),
    ("report data unknown", {}, {"allow_any_report_data": None}, "tdx.report-data"),
    ("report data of another binding", {}, {"bound": b"\x01" * 64}, "tdx.report-data"),
    ("service td", seam(launched=launched(service=SOME)), {}, "tdx.service-td"),
    ("mrconfigid", seam(mrconfigid=SOME), {}, "tdx.config-ids"),
    ("mrowner", seam(mrowner=SOME), {}, "tdx.config-ids"),
    ("mrownerconfig", seam(mrownerconfig=SOME), {}, "tdx.config-ids"),
    ("event log required", {}, {"require_event_log": True}, "tdx.event-log"),
    *[
        (
            f"rtmr{i}",
            {},
            {
                "allow_any_measurement": None,
                "allow_any_registers": [
                    name for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3") if name != f"rtmr{i}"
                ],
                f"rtmr{i}s": ["11" * 48],
            },
            "tdx.rtmrs",
        )
        for i in range(4)
    ],
]
# name, changes of the platform, policy keys: each the accepting neighbour of a rejection above
ACCEPTED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("debug written out", attributes(SEPT | 1), {"allow_debug": True}),
    ("ve allowed", attributes(0), {"allow_sept_ve": True}),
    ("attributes", attributes(SEPT | 1 << 29 | 1 << 63), {"allow_attributes": ["MIGRATABLE", "PERFMON"]}),
    ("platform listed", {}, {"fmspcs": [FMSPC.hex()], "ppids": [PPID.hex()]}),
    ("service td listed", seam(launched=launched(service=SOME)), {"mrservicetds": [SOME.hex()]}),
    ("any service td", seam(launched=launched(service=SOME)), {"allow_any_service_td": True}),
    ("mrconfigid listed", seam(mrconfigid=SOME), {"mrconfigids": [SOME.hex()]}),
    ("any config ids", seam(mrowner=SOME), {"allow_any_config_ids": True}),
    ("report data listed", {}, {"allow_any_report_data": None, "report_data": ["00" * 64]}),
    ("report data of the binding", {}, {"allow_any_report_data": None, "bound": bytes(64)}),
    ("root crl waived", {}, {"INTEL_ROOT_CRL": (), "allow_missing_root_crl": True}),
    ("pck crl waived", {}, {"INTEL_PCK_CRL": (), "allow_missing_pck_crl": True}),
    ("enclave minimums met", {}, {"minimum_pcesvn": 13, "minimum_qe_isvsvn": 6}),
    ("tcb minimum met", {}, {"minimum_tee_tcb_svn": "060103" + "00" * 13}),
    ("evaluation number met", {}, {"minimum_tcb_evaluation_data_number": 19}),
    ("only xfam bits that exist", xfam(0x6DBE7), {}),
    ("mrtd listed", {}, {"allow_any_measurement": None, **{f"{name}s": ["00" * 48] for name in
                         ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}}),
]  # fmt: skip
