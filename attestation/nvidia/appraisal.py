"""One GPU or NVSwitch: its chain, its report, and what it says of itself, check by check."""

from collections.abc import Mapping
from itertools import pairwise

from ..context import Context
from ..errors import PolicyError
from ..verdict import Sheet
from .chain import DEVICE, Certificate, CertificateChain
from .checks import NvidiaCheck as Check
from .manifests import ALWAYS, check_manifests, check_signers, check_status
from .opaque import DISABLED, ENABLED, FeatureFlag, OpaqueData, OpaqueType
from .policy import DevicePolicy, NvidiaGpuPolicy, NvidiaSwitchPolicy
from .report import SPDM_VERSION, GpuReport, gpu_report
from .rim import Rim
from .roots import DEVICE_ROOT, anchors
from .signature import ecdsa_p384
from .tcb_info import TcbInfo

_REQUIRED = frozenset(
    {
        Check.CHAIN_FORM,
        Check.CHAIN_ROOT,
        Check.CHAIN_SIGNATURES,
        Check.CHAIN_VALIDITY,
        Check.CHIP,
        Check.REQUEST,
        Check.NONCE,
        Check.SIGNATURE,
        Check.VBIOS,
    }
)
_MODES = frozenset({None, *FeatureFlag})


def appraise(report: bytes, chain: bytes, context: Context, *, subject: str, nonce: bytes | None) -> Sheet:
    """Every check on a GPU's report and PEM chain under [nvidia_gpu].

    `nonce` is what the report must answer; None makes that unevaluable. Raises MalformedEvidence
    for bytes that do not parse.

    1. the chain leads to the pinned root;  2. its key signed this report, for this nonce;
    3. the firmware that holds the key is the certified one, and in a safe state;
    4. versions and mode are allowed;  5. the measurements are those referred to.
    """
    rules = context.policy.nvidia_gpu
    if rules is None:
        raise PolicyError("the policy has no [nvidia_gpu] section")
    parsed, offered = gpu_report(report), CertificateChain.from_pem(chain)
    conflict = {Check.RIM_CONFLICT} if rules.require_rims and not rules.allow_missing_rim else set()
    sheet = Sheet(subject, _required(rules, offered.tcb_info) | {Check.DRIVER, Check.MODE} | conflict)
    _check_device(sheet, parsed, offered, context, rules, nonce)
    opaque = parsed.opaque
    sheet.record(
        Check.DRIVER,
        rules.driver.allow(opaque.driver_version),
        opaque.driver_version or "none",
        str(rules.driver),
    )
    _check_mode(sheet, opaque, rules)
    versions = {"driver": opaque.driver_version, "VBIOS": opaque.vbios_version}
    _check_measurements(sheet, parsed, offered, versions, context, rules)
    return sheet


def appraise_switch(
    report: bytes,
    chain: bytes,
    context: Context,
    *,
    subject: str,
    nonce: bytes | None,
    rules: NvidiaSwitchPolicy,
) -> Sheet:
    """Every check on an NVSwitch's report and PEM chain under `rules`; else as `appraise`."""
    parsed, offered = gpu_report(report), CertificateChain.from_pem(chain)
    sheet = Sheet(subject, _required(rules, offered.tcb_info))
    _check_device(sheet, parsed, offered, context, rules, nonce)
    versions = {"BIOS": parsed.opaque.vbios_version}
    _check_measurements(sheet, parsed, offered, versions, context, rules)
    return sheet


def appraise_rim(manifest: bytes, context: Context, *, subject: str) -> Sheet:
    """The checks on a manifest alone: its signature, its signer's chain, validity. No device."""
    parsed = Rim.from_bytes(manifest)
    sheet = Sheet(subject, {Check.RIM_SIGNATURE, Check.RIM_SIGNER, Check.RIM_VALIDITY})
    check_signers(sheet, [parsed], context)
    sheet.claims |= {
        "product": parsed.product,
        "edition": parsed.edition,
        "version": parsed.version,
        "tag_id": parsed.tag_id,
        "signer": parsed.signer.name,
        "signer_valid": [str(parsed.signer.not_before), str(parsed.signer.not_after)],
        "active_measurements": len(parsed.active),
    }
    return sheet


def _required(rules: DevicePolicy, tcb: TcbInfo | None) -> frozenset[Check]:
    conditions = {
        Check.DEVICE: rules.devices is not None,
        Check.FWID: not rules.allow_missing_fwid,
        Check.TCB_FLAGS: tcb is not None and tcb.flags is not None,
        Check.OCSP: not rules.allow_missing_ocsp,
        Check.MEASUREMENTS: not rules.require_rims or bool(rules.measurements),
        Check.RIM_OCSP: rules.require_rims and not rules.allow_missing_ocsp,
    } | dict.fromkeys(ALWAYS, rules.require_rims)
    if rules.allow_missing_rim:
        conditions |= dict.fromkeys((Check.RIM_FOUND, Check.RIM_MEASUREMENTS), False)
    return _REQUIRED | {check for check, wanted in conditions.items() if wanted}


def _check_device(
    sheet: Sheet,
    report: GpuReport,
    chain: CertificateChain,
    context: Context,
    rules: DevicePolicy,
    nonce: bytes | None,
) -> None:
    sheet.claims |= _claims(report, chain)
    _check_chain(sheet, chain, context, rules)  # 1
    _check_identity(sheet, chain, rules)
    _check_report(sheet, report, chain, nonce)  # 2
    _check_firmware(sheet, report, chain.tcb_info, rules)  # 3
    version = report.opaque.vbios_version
    sheet.record(Check.VBIOS, rules.vbios.allow(version), version or "none", str(rules.vbios))  # 4


def _check_chain(sheet: Sheet, chain: CertificateChain, context: Context, rules: DevicePolicy) -> None:
    formed = chain.complete and chain.leaf.signs_data and not chain.leaf.authority
    found = " < ".join(each.name for each in chain.certificates)
    sheet.record(Check.CHAIN_FORM, formed, found, "five certificates, the first for signing data")
    roots = anchors(context, DEVICE_ROOT)
    last = chain.certificates[-1]
    root = next((each for each in roots if last.same_key(each)), roots[0] if roots else None)
    if root is None:
        sheet.unevaluable(Check.CHAIN_ROOT, "no device root is among the policy's roots")
        sheet.unevaluable(Check.CHAIN_SIGNATURES, "no device root is among the policy's roots")
        return
    sheet.record(Check.CHAIN_ROOT, last.same_key(root), f"{last.name} {last.key_id}", root.key_id)
    broken = chain.broken_links(root)
    linked = chain.complete and not broken
    sheet.record(
        Check.CHAIN_SIGNATURES, linked, f"broken at {broken}" if broken else found, "each by the next"
    )
    path = (*chain.certificates[:-1], root)
    expired = [each.name for each in path if not each.current(context.now)]
    sheet.record(Check.CHAIN_VALIDITY, not expired, ", ".join(expired) or "valid", f"valid at {context.now}")
    _check_revocation(sheet, path, context, rules)


def _check_revocation(
    sheet: Sheet, path: tuple[Certificate, ...], context: Context, rules: DevicePolicy
) -> None:
    """The status of every certificate but the leaf, which the device itself issued, and the root."""
    check_status(sheet, Check.OCSP, pairwise(path[DEVICE:]), context, rules)


def _check_identity(sheet: Sheet, chain: CertificateChain, rules: DevicePolicy) -> None:
    chip, _ = chain.device_name or ("none", "")
    sheet.record(Check.CHIP, chip in rules.chips, chip, ", ".join(sorted(rules.chips)))
    if rules.devices is not None:
        key = chain.device_key
        listed = bytes.fromhex(key) in rules.devices
        sheet.record(Check.DEVICE, listed, key, ", ".join(sorted(each.hex() for each in rules.devices)))


def _check_report(sheet: Sheet, report: GpuReport, chain: CertificateChain, nonce: bytes | None) -> None:
    request = report.request
    asked = (request.attributes, request.operation, request.slot)
    sheet.record(Check.REQUEST, asked == (1, 0xFF, 0), str(asked), "(1, 255, 0)")
    if nonce is None:
        sheet.unevaluable(Check.NONCE, "the verifier gave no nonce", "32 bytes chosen by the verifier")
    else:
        sheet.equal(Check.NONCE, request.nonce, nonce)
    genuine = ecdsa_p384(chain.leaf, report.signature, report.signed)
    sheet.record(Check.SIGNATURE, genuine, "valid" if genuine else "invalid", f"by key {chain.leaf.key_id}")


def _check_firmware(sheet: Sheet, report: GpuReport, tcb: TcbInfo | None, rules: DevicePolicy) -> None:
    reported, certified = report.opaque.fwid, tcb.fwids[0] if tcb and tcb.fwids else b""
    if reported is None:
        sheet.unevaluable(Check.FWID, "the report names no firmware identity", certified.hex())
    else:
        sheet.equal(Check.FWID, reported, certified)
    if tcb is not None and tcb.flags is not None:
        unsafe = tcb.unsafe
        expected = (
            "any, as the policy spells out" if rules.allow_debug else "none of debug, recovery, notSecure"
        )
        sheet.record(Check.TCB_FLAGS, rules.allow_debug or not unsafe, ", ".join(unsafe) or "none", expected)


def _check_mode(sheet: Sheet, opaque: OpaqueData, rules: NvidiaGpuPolicy) -> None:
    protected, flag = opaque.protected_pcie, opaque.feature_flag
    known = protected in (None, ENABLED, DISABLED) and flag in _MODES
    agree = flag is None or (flag == FeatureFlag.PROTECTED_PCIE) == (protected == ENABLED)
    allowed = protected != ENABLED or rules.allow_protected_pcie
    expected = "any mode" if rules.allow_protected_pcie else "not protected-PCIe"
    sheet.record(Check.MODE, known and agree and allowed, opaque.mode, f"{expected}, without contradiction")


def _check_measurements(
    sheet: Sheet,
    report: GpuReport,
    chain: CertificateChain,
    versions: Mapping[str, str | None],
    context: Context,
    rules: DevicePolicy,
) -> None:
    digest = report.measurement_digest
    if rules.allow_any_measurements:
        sheet.record(Check.MEASUREMENTS, True, digest.hex(), "any, as the policy spells out")
    elif rules.measurements:
        listed = ", ".join(sorted(each.hex() for each in rules.measurements))
        sheet.record(Check.MEASUREMENTS, digest in rules.measurements, digest.hex(), listed)
    if rules.require_rims:
        chip, _ = chain.device_name or ("none", "")
        check_manifests(sheet, report, versions, chip, context, rules)


def _claims(report: GpuReport, chain: CertificateChain) -> dict[str, object]:
    """What report and leaf say, under stable names; it holds only if the checks pass."""
    opaque, tcb = report.opaque, chain.tcb_info
    chip, serial = chain.device_name or (None, None)
    return {
        "spdm_version": f"{SPDM_VERSION:#x}",
        "requester_nonce": report.request.nonce.hex(),
        "responder_nonce": report.responder_nonce.hex(),
        "measurement_blocks": report.count,
        "measurements": report.measurement_digest.hex(),
        "driver_version": opaque.driver_version,
        "vbios_version": opaque.vbios_version,
        "board_project": opaque.text(OpaqueType.PROJECT),
        "project_sku": opaque.text(OpaqueType.PROJECT_SKU),
        "chip_sku": opaque.text(OpaqueType.CHIP_SKU),
        "chip_info": opaque.chip_info,
        "fwid": opaque.fwid.hex() if opaque.fwid else None,
        "nvdec0_status": _octet(opaque.nvdec0_status),
        "protected_pcie": _octet(opaque.protected_pcie),
        "opaque_types": opaque.types,
        "mode": opaque.mode,
        "chip": chip,
        "serial": serial,
        "device_certificate": chain.device_key,
        "tcb_flags": sorted(tcb.flags) if tcb and tcb.flags is not None else None,
    }


def _octet(value: int | None) -> str | None:
    return None if value is None else f"{value:02x}"
