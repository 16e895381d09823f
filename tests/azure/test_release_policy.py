"""Our policy as a release policy of the vault: everything demanded is there, or it is refused by name."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import Policy
from attestation.snp import GuestFlag, Product, SnpPolicy, Tcb
from client.azure.release_policy import NotExpressible, Target, encode, release_policy
from tests.azure.standin import allowed, check_grammar, claims_of
from tests.broker.machines import bound
from tests.enclave import simulation

AUTHORITY = "https://127.0.0.1:8"
TCB = Tcb(bl=10, tee=0, snp=23, ucode=84)
WORKLOAD = bound().workload
TARGET = Target(authority=AUTHORITY, tcb=TCB, workloads=(WORKLOAD,))
LOOSE = (
    "allow_cxl",
    "allow_tio",
    "allow_missing_alias_check",
    "allow_unknown_platform_bits",
    "allow_provisional_firmware",
    "allow_vlek",
    "allow_masked_chip_id",
    "allow_missing_crl",
)


def expressible(**snp: Any) -> Policy:
    """A policy that spells out what Azure cannot show."""
    strict = simulation.policy()
    assert strict.snp is not None
    loose = dict.fromkeys(LOOSE, True)
    rules = replace(strict.snp, products=frozenset(Product), minimum_tcb=None, csp_ids=None, **loose)
    return replace(strict, snp=replace(rules, **snp), nvidia_gpu=None)


def claims(**changes: Any) -> dict[str, Any]:
    """What the service would say of the simulated machine."""
    from attestation.binding import sha256

    report = simulation.Machine().bundle().cpu.report
    from attestation.snp import SnpReport

    runtime = {"cloister": {"workload": f"sha256:{sha256(WORKLOAD).hex()}"}, "keys": []}
    made = claims_of(SnpReport.from_bytes(report)) | {"iss": AUTHORITY, "x-ms-runtime": runtime}
    return made | changes


CLAIMS = claims()


def test_the_machine_that_the_policy_means_is_allowed() -> None:
    made = release_policy(expressible(), TARGET)
    check_grammar(json.loads(encode(made)))
    assert allowed(made, CLAIMS)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://127.0.0.1:9"},
        {"x-ms-attestation-type": "azurevm"},
        {"x-ms-sevsnpvm-launchmeasurement": "00" * 48},
        {"x-ms-sevsnpvm-hostdata": "11" * 32},
        {"x-ms-sevsnpvm-familyId": "11" * 16},
        {"x-ms-sevsnpvm-is-debuggable": True},
        {"x-ms-sevsnpvm-is-debuggable": "false"},
        {"x-ms-sevsnpvm-migration-allowed": True},
        {"x-ms-sevsnpvm-smt-allowed": True},
        {"x-ms-sevsnpvm-vmpl": 1},
        {"x-ms-sevsnpvm-snpfw-svn": 22},
        {"x-ms-sevsnpvm-microcode-svn": 85},
        {"x-ms-runtime": {"cloister": {"workload": "sha256:" + "0" * 64}}},
        {"x-ms-runtime": {}},
    ],
    ids=str,
)
def test_any_other_machine_is_not(change: dict[str, Any]) -> None:
    assert not allowed(release_policy(expressible(), TARGET), CLAIMS | change)


def test_a_claim_that_is_missing_meets_nothing() -> None:
    made = release_policy(expressible(), TARGET)
    for name in CLAIMS.keys() - {"x-ms-sevsnpvm-guestsvn", "x-ms-sevsnpvm-reportid", "iss"}:
        assert not allowed(made, {key: value for key, value in CLAIMS.items() if key != name}), name


def test_several_values_are_alternatives() -> None:
    policy = expressible(measurements=frozenset({simulation.MEASUREMENT, bytes(48)}))
    made = release_policy(policy, TARGET)
    assert allowed(made, CLAIMS)
    assert not allowed(made, CLAIMS | {"x-ms-sevsnpvm-launchmeasurement": "22" * 48})


def test_our_strict_policy_is_refused_with_every_reason_at_once() -> None:
    with pytest.raises(NotExpressible) as caught:
        release_policy(simulation.policy(), Target(authority=AUTHORITY))
    said = "; ".join(caught.value.keys)
    for name in ("[nvidia_gpu]", "snp.products", "snp.minimum_tcb", "[workload]", *LOOSE):
        assert name in said, name


SNP = simulation.policy().snp
assert SNP is not None
STRICTER: dict[str, Any] = {
    "migration_report_ids": frozenset({bytes(32)}),
    "chip_ids": frozenset({bytes(64)}),
    "csp_ids": frozenset({"x"}),
    "minimum_guest_svn": 1,
    "minimum_report_version": 3,
    "minimum_guest_abi": (0, 31),
    "minimum_version": (1, 55),
    "minimum_build": 1,
    "require_launch_mitigations": 1,
    "require_current_mitigations": 1,
    "require_guest": GuestFlag.SINGLE_SOCKET,
    "require_platform": SNP.require_platform.__class__(4),
    "products": frozenset({Product.GENOA}),
    "measurements": frozenset(),
    **dict.fromkeys(LOOSE, False),
}


@pytest.mark.parametrize("key", STRICTER)
def test_what_no_claim_shows_is_refused_by_its_key(key: str) -> None:
    migrates = {"allow_migrate_ma": True} if key == "migration_report_ids" else {}
    with pytest.raises(NotExpressible, match=key):
        release_policy(expressible(**{key: STRICTER[key]}, **migrates), TARGET)


def test_every_key_of_the_section_is_either_written_or_refused() -> None:
    """A key that is added to [snp] some day may not fall through in silence."""
    from client.azure import release_policy as module

    written = {*module._SETS, *module._FLAGS, "vmpls", "minimum_tcb"}
    refused = {*module._UNSEEN_SETS, *module._UNSEEN_FLAGS, *module._UNSEEN_MINIMUMS}
    refused |= {"products", "migration_report_ids"}
    assert written | refused | {*module._BOUND} == set(SnpPolicy.__dataclass_fields__)
    assert not written & refused


def test_the_tcb_is_one_exact_version_at_or_above_the_minimum() -> None:
    policy = expressible(minimum_tcb={Product.GENOA: TCB})
    assert allowed(release_policy(policy, TARGET), CLAIMS)
    for wrong in (None, replace(TCB, snp=22), replace(TCB, fmc=1)):
        with pytest.raises(NotExpressible, match="minimum_tcb"):
            release_policy(policy, replace(TARGET, tcb=wrong))


def test_workloads_must_be_what_the_policy_allows() -> None:
    for wrong in (bound(models=(bytes(32),)).workload, b"{}"):
        with pytest.raises(NotExpressible, match="workload"):
            release_policy(expressible(), replace(TARGET, workloads=(wrong,)))


@pytest.mark.parametrize("authority", ["http://127.0.0.1", "https://127.0.0.1/", "https://maa.example", ""])
def test_authorities_that_will_not_do(authority: str) -> None:
    with pytest.raises(NotExpressible):
        release_policy(expressible(), replace(TARGET, authority=authority))


def test_other_roots_than_amds_are_refused() -> None:
    from attestation import Roots

    real = replace(TARGET, authority="https://x.attest.azure.net")
    assert release_policy(expressible().with_roots(Roots.pinned({"amd"})), real)
    for roots in (Roots.pinned({"intel"}), replace(Roots.pinned({"amd"}), custom=True)):
        with pytest.raises(NotExpressible, match="roots"):
            release_policy(expressible().with_roots(roots), real)


def test_compliance_can_be_demanded_too() -> None:
    made = release_policy(expressible(), replace(TARGET, compliance="azure-compliant-uvm"))
    assert not allowed(made, CLAIMS)
    assert allowed(made, CLAIMS | {"x-ms-compliance-status": "azure-compliant-uvm"})


@given(
    st.sampled_from(sorted(set(CLAIMS) - {"x-ms-sevsnpvm-guestsvn", "x-ms-sevsnpvm-reportid"})),
    st.text() | st.integers() | st.booleans(),
)
def test_no_altered_claim_is_allowed(name: str, value: Any) -> None:
    if type(value) is type(CLAIMS[name]) and value == CLAIMS[name]:
        return
    assert not allowed(release_policy(expressible(), TARGET), CLAIMS | {name: value})
