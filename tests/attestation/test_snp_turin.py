"""Turin: another TCB layout, short chip identities, structVersion 1."""

from typing import Any

from attestation import CheckId
from attestation.snp import Cpuid, Tcb
from attestation.snp import SnpCheck as C

from .snp_cases import blocking, policy, verify
from .snp_maker import GENOA_TCB, NOW, REPORT, STRICT, TURIN_TCB, line

NO_MIT = {"launch_mit_vector": None, "current_mit_vector": None}


def test_turin_counts_fmc_and_has_short_chip_identities() -> None:
    turin = line("Turin")
    tcbs = {f"{name}_tcb": TURIN_TCB for name in ("current", "reported", "committed", "launch")}
    report = {"cpuid": Cpuid(0x1A, 0x02, 1), "chip_id": REPORT.chip_id[:8].ljust(64, b"\0"), **tcbs}
    rules = {**STRICT, "products": ["Turin"]}

    def judge_turin(fmc: int, **changes: Any) -> set[CheckId]:
        rules["minimum_tcb"] = {"Turin": {"fmc": fmc, "bl": 1, "tee": 1, "snp": 4, "ucode": 81}}
        raw = turin.report(**{**report, **changes})
        certificate = turin.vcek(tcb=TURIN_TCB).der
        judged_by = policy(turin.roots(), **rules)
        return blocking(verify(raw, [certificate], judged_by, NOW, crls=[turin.crl()])[1])

    assert judge_turin(1) == set()
    assert judge_turin(2) == {C.TCB_REPORTED, C.TCB_COMMITTED, C.TCB_LAUNCH, C.TCB_CURRENT}
    assert judge_turin(1, chip_id=REPORT.chip_id) == {C.CHIP_ID}
    # Version 2 names no processor: a short chip identity says which layout it is.
    old = {"version": 2, "cpuid": None, **NO_MIT}
    assert judge_turin(1, **old) == set()


def test_tcb_layouts_do_not_compare() -> None:
    assert not TURIN_TCB.at_least(Tcb(bl=0, tee=0, snp=0, ucode=0))
    assert not GENOA_TCB.at_least(Tcb(fmc=0, bl=0, tee=0, snp=0, ucode=0))
