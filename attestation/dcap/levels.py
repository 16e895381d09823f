"""TCB info and QE identity chosen from the collateral, the quoting enclave and the TCB judged by them."""

from dataclasses import dataclass
from functools import lru_cache

from ..collateral import Kind
from ..verdict import Sheet
from .checks import DcapCheck as Check
from .collateral import best, held, signed_qe_identity, signed_tcb_info
from .documents import QeIdentity, TcbInfo, masked
from .enclave import EnclaveReport
from .pck import PckExtension
from .platform import Platform, day
from .status import TcbStatus
from .tcb import Evaluation, PlatformLevel, SvnLevel, converge, platform_level, relaunch, svn_level

_IDENTITIES = {"TDX": "TD_QE", "SGX": "QE"}


def check_documents(platform: Platform) -> None:
    extension = platform.chain.extension if platform.chain else None
    context, sheet, grace = platform.context, platform.sheet, platform.rules.collateral_grace
    items = context.collateral.of(Kind.INTEL_TCB_INFO)
    infos = [info for raw in items if (info := signed_tcb_info(raw, platform.signers))]
    ours = [info for info in infos if extension and _fits(platform, info)]
    info = best(ours, context.now, grace) or best(infos, context.now, grace)
    _record_signed(sheet, Check.TCB_INFO_SIGNATURE, items, info is not None)
    identities = context.collateral.of(Kind.INTEL_QE_IDENTITY)
    read = [item for raw in identities if (item := signed_qe_identity(raw, platform.signers))]
    named = [item for item in read if item.id == _IDENTITIES[platform.tee] and item.version == 2]
    identity = best(named, context.now, grace)
    _record_signed(sheet, Check.QE_IDENTITY_SIGNATURE, identities, identity is not None)
    if info is not None:
        _record_held(platform, Check.TCB_INFO_CURRENT, info)
        found = f"{info.id} version {info.version}, FMSPC {info.fmspc.hex()}, PCEID {info.pceid.hex()}"
        expected = f"{platform.tee} version 3, this platform's FMSPC and PCEID"
        if extension is None:
            sheet.unevaluable(Check.TCB_INFO_MATCH, "no PCK certificate to compare with", found)
        elif sheet.record(Check.TCB_INFO_MATCH, bool(ours), found, expected):
            platform.tcb_info = info
    if identity is not None:
        _record_held(platform, Check.QE_IDENTITY_CURRENT, identity)
        platform.qe_identity = identity
    if info is not None and identity is not None:
        number = min(info.evaluation_number, identity.evaluation_number)
        minimum = platform.rules.minimum_tcb_evaluation_data_number
        sheet.record(Check.EVALUATION_NUMBER, number >= minimum, str(number), f"at least {minimum}")


def _fits(platform: Platform, info: TcbInfo) -> bool:
    extension = platform.chain.extension if platform.chain else None
    right = (platform.tee, 3, extension.fmspc, extension.pceid) if extension else None
    return (info.id, info.version, info.fmspc, info.pceid) == right


def _record_signed(sheet: Sheet, check: Check, items: tuple[bytes, ...], found: bool) -> None:
    expected = "signed by Intel's TCB signing key, over the bytes as received"
    if found or items:
        sheet.record(check, found, "signed" if found else f"none of {len(items)} is", expected)
    else:
        sheet.unevaluable(check, "none in the collateral", expected)


def _record_held(platform: Platform, check: Check, document: TcbInfo | QeIdentity) -> None:
    now = platform.context.now
    span = f"{day(document.issued)} to {day(document.next_update)}"
    if held(document, now, platform.rules.collateral_grace):
        platform.sheet.record(check, True, span, day(now))
    else:
        platform.sheet.unevaluable(check, f"stale, or not yet issued: {span}", day(now))


def check_qe_identity(platform: Platform) -> None:
    sheet, identity, report = platform.sheet, platform.qe_identity, platform.qe_report
    minimums = platform.rules.minimum_pcesvn, platform.rules.minimum_qe_isvsvn
    if platform.chain and (extension := platform.chain.extension):
        svns = extension.pcesvn, report.isvsvn
        enough = svns[0] >= minimums[0] and svns[1] >= minimums[1]
        expected = f"at least PCE {minimums[0]}, QE {minimums[1]}"
        sheet.record(Check.MINIMUM_SVNS, enough, f"PCE {svns[0]}, QE {svns[1]}", expected)
    if identity is None:
        sheet.unevaluable(Check.QE_IDENTITY, "no QE identity to compare with")
        return
    matched, found, wanted = _compared(identity, report)
    sheet.record(Check.QE_IDENTITY, matched, found, wanted)


@lru_cache(maxsize=128)
def _compared(identity: QeIdentity, report: EnclaveReport) -> tuple[bool, str, str]:
    """Whether `report` is by the enclave that `identity` describes; what it is and what it should be."""
    found = _Enclave(
        report.miscselect & identity.miscselect_mask,
        masked(report.attributes, identity.attributes_mask),
        report.mrsigner,
        report.isvprodid,
    )
    wanted = _Enclave(identity.miscselect, identity.attributes, identity.mrsigner, identity.isvprodid)
    return found == wanted, str(found), str(wanted)


@dataclass(frozen=True, slots=True)
class _Enclave:
    miscselect: int
    attributes: bytes
    mrsigner: bytes
    isvprodid: int

    def __str__(self) -> str:
        signer = self.mrsigner.hex()
        return f"misc {self.miscselect:x}, attributes {self.attributes.hex()}, {signer}, {self.isvprodid}"


def check_tcb(platform: Platform, svns: tuple[bytes, ...]) -> None:
    """TCB status and advisories; `svns` as in `appraise_platform`."""
    sheet, rules = platform.sheet, platform.rules
    chain, info, identity = platform.chain, platform.tcb_info, platform.qe_identity
    if chain is None or chain.extension is None or info is None or identity is None:
        sheet.unevaluable(Check.TCB_STATUS, "no TCB info and QE identity for this platform to judge by")
        return
    tcb = _evaluated(info, identity, chain.extension, platform.qe_report.isvsvn, svns)
    authority = chain.certificates[1].common_name
    sheet.claims["tcb"] = _claims(tcb, info, chain.extension, authority, platform.qe_report.isvsvn)
    module = f", module {tcb.module_word}" if tcb.module_word else ""
    found = f"{tcb.status} (platform {_word(tcb.launch.platform)}, QE {_word(tcb.qe)}{module})"
    accepted = ", ".join(sorted(rules.tcb_statuses))
    sheet.record(Check.TCB_STATUS, tcb.status in rules.tcb_statuses, found, accepted)
    fine = tcb.status is TcbStatus.UP_TO_DATE or rules.allow_any_advisory
    fine = fine or tcb.advisories <= rules.advisories
    expected = ", ".join(sorted(rules.advisories)) or "none, or UpToDate"
    sheet.record(Check.ADVISORIES, fine, ", ".join(sorted(tcb.advisories)) or "none", expected)


@dataclass(frozen=True, slots=True, eq=False)
class _Tcb:
    """Launch levels, the QE's level, everything converged; `module_word` is None for SGX."""

    launch: Evaluation
    qe: SvnLevel | None
    status: TcbStatus
    module_word: str | None
    advisories: frozenset[str]


@lru_cache(maxsize=128)
def _evaluated(
    info: TcbInfo, identity: QeIdentity, pck: PckExtension, isvsvn: int, svns: tuple[bytes, ...]
) -> _Tcb:
    qe = svn_level(identity.levels, isvsvn)
    evaluations = [_evaluate(info, pck, svn, qe) for svn in svns or (b"",)]
    launch, status = evaluations[0], evaluations[0].status
    if len(evaluations) > 1:
        status = relaunch(status, evaluations[1].status)
    # Major version 0 has no levels of its own: it is judged by `tdxModule` and the platform's level.
    module = (_word(launch.module) if svns[0][1] else "OK") if svns else None
    levels = [level for level in (launch.platform, launch.module, qe) if level]
    return _Tcb(launch, qe, status, module, frozenset(item for level in levels for item in level.advisories))


def _evaluate(info: TcbInfo, pck: PckExtension, svn: bytes, qe: SvnLevel | None) -> Evaluation:
    """Platform, module and converged status for one TEE TCB SVN (empty for SGX), 4.1.2.5.1 and 4.1.2.5.2."""
    platform = platform_level(info.levels, pck, svn)
    numbered = bool(svn) and svn[1] > 0
    identity = info.module(svn[1]) if numbered else None
    module = svn_level(identity.levels, svn[0]) if identity else None
    if platform is None or qe is None or (numbered and module is None):
        return Evaluation(platform, module, TcbStatus.UNSUPPORTED)
    components = [qe.status] + ([module.status] if module else [])
    return Evaluation(platform, module, converge(platform.status, components))


def _claims(tcb: _Tcb, info: TcbInfo, pck: PckExtension, authority: str, isvsvn: int) -> dict[str, object]:
    platform, module = tcb.launch.platform, tcb.launch.module
    return {
        "fmspc": pck.fmspc.hex(),
        "platform_tcb_status": _word(platform),
        "tcb_date": platform.date if platform else None,
        "advisories": list(platform.advisories) if platform else [],
        "module_status": tcb.module_word,
        "module_advisories": None if tcb.module_word is None else list(module.advisories) if module else [],
        "qe_status": _word(tcb.qe),
        "qe_isvsvn": isvsvn,
        "tcb_eval_num": info.evaluation_number,
        "pck_sgx_components": list(pck.components),
        "pcesvn": pck.pcesvn,
        "pck_ca": authority,
        "converged_tcb_status": str(tcb.status),
        "ppid": pck.ppid.hex(),
        "smt_enabled": pck.smt_enabled,
        "dynamic_platform": pck.dynamic_platform,
        "cached_keys": pck.cached_keys,
    }


def _word(level: PlatformLevel | SvnLevel | None) -> str:
    return str(level.status if level else TcbStatus.UNSUPPORTED)
