"""The GPUs and switches of one machine together: as many as asked for, distinct, in one mode."""

from collections.abc import Sequence

from ..context import Context
from ..errors import MalformedEvidence
from ..evidence import DeviceEvidence
from ..verdict import Sheet
from .chain import CertificateChain
from .checks import NvidiaListCheck as Check
from .opaque import OpaqueData
from .policy import NvidiaSwitchPolicy
from .report import gpu_report
from .signature import ecdsa_p384

GPU = "nvidia-gpu"
SWITCH = "nvidia-nvswitch"


def appraise_list(
    devices: Sequence[DeviceEvidence],
    context: Context,
    *,
    subject: str,
    switch_rules: NvidiaSwitchPolicy | None = None,
) -> Sheet:
    """What no single device shows. Each device needs its own sheet from `appraise` as well.

    Devices other than GPUs and NVSwitches are not looked at. Raises MalformedEvidence.
    """
    reports = {
        kind: [gpu_report(each.report) for each in devices if each.tee == kind] for kind in (GPU, SWITCH)
    }
    gpus = [report.opaque for report in reports[GPU]]
    switches = [report.opaque for report in reports[SWITCH]]
    protected = any(gpu.mode == "protected-pcie" for gpu in gpus)
    rules = context.policy.nvidia_gpu
    lenient = rules is not None and rules.allow_unattested_switches
    required = {Check.COUNT, Check.DISTINCT} | ({Check.SINGLE_MODE} if gpus else set())
    if protected and (switches or not lenient):
        required |= {Check.TOPOLOGY}
    sheet = Sheet(subject, required)
    wanted = (rules.count if rules else 0, switch_rules.count if switch_rules else 0)
    counted = (len(gpus), len(switches))
    sheet.record(Check.COUNT, counted == wanted, *(f"{g} GPUs, {s} switches" for g, s in (counted, wanted)))
    chains = [CertificateChain.from_pem(each.chain) for each in devices if each.tee in reports]
    keys = {chain.device_key for chain in chains} if all(chain.complete for chain in chains) else set()
    distinct = len(keys) == len(chains) > 0
    sheet.record(Check.DISTINCT, distinct, f"{len(keys)} distinct", f"{len(chains)}")
    if gpus:
        modes = {gpu.mode for gpu in gpus}
        sheet.record(Check.SINGLE_MODE, len(modes) == 1, ", ".join(sorted(modes)), "one mode")
    if protected:
        _check_topology(sheet, gpus, switches)
    every = [report for kind in (GPU, SWITCH) for report in reports[kind]]
    nonces = {report.request.nonce.hex() for report in every}
    sheet.claims |= {
        "devices": len(chains),
        "distinct_devices": len(keys),
        "nonce": nonces.pop() if len(nonces) == 1 else None,
        "protected_pcie": [_octet(report.opaque.protected_pcie) for report in every],
    }
    return sheet


def signed_under(report: bytes, chain: bytes) -> bool:
    """Whether the key of the first certificate in `chain` signed `report`; false where one does not parse."""
    try:
        parsed, leaf = gpu_report(report), CertificateChain.from_pem(chain).leaf
    except MalformedEvidence:
        return False
    return ecdsa_p384(leaf, parsed.signature, parsed.signed)


def _check_topology(sheet: Sheet, gpus: Sequence[OpaqueData], switches: Sequence[OpaqueData]) -> None:
    """Every GPU is linked to exactly the attested switches, and they to equally many GPUs."""
    seen = {gpu.switch_pdis for gpu in gpus}
    expected = "every GPU names exactly the attested switches, every switch the same GPUs"
    if not switches:
        sheet.unevaluable(Check.TOPOLOGY, "no switch evidence", expected)
        return
    own = [switch.device_pdi for switch in switches]
    known = None not in own and len(set(own)) == len(own)
    outward = seen == {frozenset(own)}
    inward = {switch.gpu_pdis for switch in switches}
    back = len(inward) == 1 and len(next(iter(inward))) == len(gpus)
    found = f"GPUs name {_listed(seen)}; switches are {sorted(map(str, own))}, name {_listed(inward)}"
    sheet.record(Check.TOPOLOGY, known and outward and back, found, expected)


def _listed(sets: set[frozenset[str]]) -> str:
    return " or ".join(str(sorted(each)) for each in sorted(sets, key=sorted))


def _octet(value: int | None) -> str | None:
    return None if value is None else f"{value:02x}"
