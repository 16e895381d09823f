"""What the [tdx] and [sgx] sections share: platform, quoting enclave, collateral."""

from typing import Any

from .words import (
    Explainer,
    Key,
    Statement,
    Writing,
    accepts,
    allowance,
    extra,
    fill,
    flag,
    floor,
    hexes,
    listed,
    loosening,
    restricted,
    weakened,
)


def number(name: str, meaning: str, high: int, **more: Any) -> Key:
    return Key(
        name=name,
        type=f"integer, 0 to {high}",
        default="0",
        meaning=meaning,
        weakens="Without a minimum, old versions with known holes pass.",
        **({"value": "1"} | more),
    )


PLATFORM = (
    Key(
        name="tcb_statuses",
        type="array of Intel's TCB statuses, without Revoked and Unsupported",
        default='["UpToDate"]',
        meaning="Statuses to which platform, module and quoting enclave may converge.",
        weakens="Any other status means that a published hole is open or a mitigation is not configured.",
        value='["UpToDate"]',
    ),
    Key(
        name="advisories",
        type="array of strings",
        default="none",
        meaning="Intel advisories that may be open under an accepted status other than UpToDate.",
        weakens="Each is a hole that you accept.",
        value='["INTEL-SA-00000"]',
    ),
    loosening("allow_any_advisory", "Take any open advisory.", "Holes that you have not read about pass."),
    Key(
        name="minimum_tcb_evaluation_data_number",
        type="integer, 0 to 4294967295",
        default="required",
        meaning="Least TCB recovery that the collateral must answer.",
        weakens="0 takes old collateral within its dates, which hides newer recoveries.",
        value=fill("the tcbEvaluationDataNumber of current collateral"),
        writing=Writing.ALWAYS,
    ),
    number("minimum_pcesvn", "Least version of the provisioning enclave.", 65535),
    number("minimum_qe_isvsvn", "Least version of the quoting enclave.", 65535),
    hexes("fmspcs", 6, "Platform models that are trusted.", "any"),
    hexes(
        "ppids",
        16,
        "Platforms that are trusted, one by one.",
        "any genuine platform",
        weakens="Without it a genuine platform in an attacker's hands is as good as yours:"
        " physical attacks, relays.",
        value=fill("an array of platform identities"),
        writing=Writing.STRICT,
    ),
    Key(
        name="collateral_grace_hours",
        type="integer, 0 to 2160",
        default="0",
        meaning="How long collateral is used after its nextUpdate.",
        weakens="Recoveries published in that time go unseen.",
        value="24",
    ),
    loosening(
        "allow_missing_root_crl", "Do without the root's revocation list.", "A revoked authority passes."
    ),
    loosening("allow_missing_pck_crl", "Do without the PCK revocation list.", "A revoked platform passes."),
    hexes(
        "report_data",
        64,
        "REPORTDATA of quotes without a binding from the caller.",
        "none: the caller must bring the binding",
    ),
    loosening("allow_any_report_data", "Take any REPORTDATA.", "Nothing binds keys or nonce."),
)


def _statuses(value: frozenset[str]) -> Statement:
    loose = value - {"UpToDate"}
    if loose:
        return weakened(f"TCB status: besides UpToDate also {listed(loose)}")
    return accepts("TCB status: UpToDate alone")


PLATFORM_FIELDS: dict[str, Explainer] = {
    "tcb_statuses": _statuses,
    "advisories": extra("open advisories that are accepted", "open advisories: none is accepted"),
    "allow_any_advisory": flag("any open advisory is accepted", "advisories are judged one by one"),
    "minimum_tcb_evaluation_data_number": floor("TCB recovery (tcbEvaluationDataNumber)"),
    "minimum_pcesvn": floor("provisioning enclave"),
    "minimum_qe_isvsvn": floor("quoting enclave"),
    "fmspcs": restricted("platform models (FMSPC)", "platform models: any"),
    "ppids": restricted("platforms (PPID)", "platforms: any genuine one, also in somebody else's hands"),
    "collateral_grace": allowance("collateral is used after its time", "collateral must be current"),
    "allow_missing_root_crl": flag("the root's CRL need not be at hand", "the root's CRL must be at hand"),
    "allow_missing_pck_crl": flag("the PCK CRL need not be at hand", "the PCK CRL must be at hand"),
    "report_data": restricted("REPORTDATA without a binding", "REPORTDATA: what the caller binds"),
    "allow_any_report_data": flag("any REPORTDATA: keys and nonce are not bound", "REPORTDATA is judged"),
}
