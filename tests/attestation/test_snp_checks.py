"""Each check on a SEV-SNP report, with a vector that it accepts and one that it rejects.

The two differ in one field; every variant is signed again, so that no other check is in the way.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from attestation import CheckId
from attestation.snp import (
    Cpuid,
    FirmwareVersion,
    GuestFlag,
    GuestPolicy,
    PlatformInfo,
    SignerInfo,
    SigningKey,
    SnpCheck,
    Tcb,
)

from .snp_cases import blocking, policy, verify
from .snp_maker import NOW, REPORT, STRICT, der_ia5, der_int, issue, line

C = SnpCheck
PLAIN = REPORT.policy.flags
NOTHING = GuestFlag(0)
VLEK = SignerInfo(signing_key=SigningKey.VLEK)
ZERO = bytes(64)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A change to the strictly acceptable evidence: report fields, VCEK, CRL, clock, what comes along."""

    report: dict[str, Any] = field(default_factory=dict)
    vcek: dict[str, Any] = field(default_factory=dict)
    revoked: tuple[int, ...] = ()
    days: int = 0
    crl: bool = True
    vlek: str | None = None
    root: bool = False  # a foreign ARK under the line's name comes along
    tamper: bool = False


def flags(extra: GuestFlag = NOTHING, **changes: Any) -> dict[str, Any]:
    return {"policy": replace(GuestPolicy(1, 55, PLAIN | extra), **changes)}


def platform(value: PlatformInfo) -> dict[str, Any]:
    return {"platform_info": value}


def ev(**report: Any) -> Evidence:
    return Evidence(report=report)


BASE = Evidence()
LOW = Tcb(bl=10, tee=0, snp=22, ucode=84)
HIGH = Tcb(bl=10, tee=0, snp=23, ucode=85)
ALIAS = PlatformInfo.ALIAS_CHECK_COMPLETE
NO_MIT = {"launch_mit_vector": None, "current_mit_vector": None}
VLEK_RULES = {"allow_vlek": True, "csp_ids": ["CN=example"]}
VLEK_OK = Evidence(report={"signer_info": VLEK, "chip_id": ZERO}, vlek="CN=example")

# check, what the policy adds, accepted, rejected by exactly this check
VECTORS: list[tuple[SnpCheck, dict[str, Any], Evidence, Evidence]] = [
    (C.REPORT_VERSION, {"minimum_report_version": 5}, BASE, ev(version=4, **NO_MIT)),
    (C.ROOT, {}, BASE, Evidence(root=True)),
    (C.CHAIN, {}, BASE, Evidence(vcek={"by": "another"})),
    (C.VALIDITY, {}, BASE, Evidence(vcek={"valid": (NOW - timedelta(2), NOW - timedelta(1))})),
    (C.VALIDITY, {}, BASE, Evidence(vcek={"valid": (NOW + timedelta(1), NOW + timedelta(2))})),
    (C.CRL, {}, Evidence(revoked=(99,)), Evidence(revoked=(2,))),
    (C.CRL, {}, BASE, Evidence(revoked=(1,))),
    (C.CRL, {}, BASE, Evidence(crl=False)),
    (C.CRL, {}, BASE, Evidence(days=40)),
    (C.CRL, {"allow_missing_crl": True}, Evidence(crl=False), Evidence(revoked=(2,))),
    (C.CERTIFICATE_FORM, {}, BASE, Evidence(vcek={"amd": {"STRUCT_VERSION": der_int(1)}})),
    (C.CERTIFICATE_FORM, {}, BASE, Evidence(vcek={"amd": {"CSP_ID": der_ia5("CN=example")}})),
    (C.CERTIFICATE_FORM, {}, BASE, Evidence(vcek={"amd": {"SPL_5": der_int(1)}})),
    (C.CERTIFICATE_FORM, {}, BASE, Evidence(vcek={"pss": False})),
    (C.PRODUCT, {}, BASE, ev(cpuid=Cpuid(0x19, 0x01, 1))),
    (C.PRODUCT, {}, ev(cpuid=Cpuid(0x19, 0xA0, 2)), ev(cpuid=Cpuid(0x19, 0x50, 2))),
    (C.SIGNING_KEY, {}, BASE, ev(signer_info=SignerInfo(signing_key=SigningKey.NONE))),
    (C.SIGNING_KEY, {}, BASE, ev(signer_info=SignerInfo(signing_key=SigningKey.VCEK, mask_chip_key=True))),
    (C.REPORT_SIGNATURE, {}, BASE, Evidence(tamper=True)),
    (C.REPORT_SIGNATURE, {}, BASE, ev(signature_algo=0)),
    (C.CHIP_ID, {}, BASE, ev(chip_id=bytes(63) + b"\x01")),
    (C.CHIP_ID, {"allow_masked_chip_id": True}, ev(chip_id=ZERO), ev(chip_id=b"\x01" + ZERO[1:])),
    (C.CHIP_ID, VLEK_RULES, VLEK_OK, replace(VLEK_OK, report={"signer_info": VLEK})),
    (
        C.CHIP_ALLOWED,
        {"allow_masked_chip_id": True, "chip_ids": [REPORT.chip_id.hex()]},
        BASE,
        ev(chip_id=ZERO),
    ),
    (C.CSP_ID, VLEK_RULES, VLEK_OK, replace(VLEK_OK, vlek="CN=other")),
    (C.CERTIFICATE_TCB, {}, BASE, Evidence(vcek={"tcb": HIGH})),
    (C.TCB_CLAIMED, {}, BASE, Evidence(report={"reported_tcb": HIGH}, vcek={"tcb": HIGH})),
    (C.TCB_REPORTED, {}, BASE, Evidence(report={"reported_tcb": LOW}, vcek={"tcb": LOW})),
    (C.TCB_COMMITTED, {"allow_provisional_firmware": True}, BASE, ev(committed_tcb=LOW)),
    (C.TCB_LAUNCH, {}, BASE, ev(launch_tcb=LOW)),
    (C.COMMITTED_FIRMWARE, {}, ev(current_tcb=HIGH, committed_tcb=HIGH), ev(current_tcb=HIGH)),
    (C.COMMITTED_FIRMWARE, {}, BASE, ev(committed_version=FirmwareVersion(1, 55, 39))),
    (
        C.COMMITTED_FIRMWARE,
        {"allow_provisional_firmware": True},
        ev(current_tcb=HIGH),
        ev(committed_tcb=HIGH),
    ),
    (
        C.COMMITTED_FIRMWARE,
        {"allow_provisional_firmware": True},
        ev(current_version=FirmwareVersion(1, 55, 41)),
        ev(committed_version=FirmwareVersion(1, 55, 41)),
    ),
    (
        C.FIRMWARE_VERSION,
        {"minimum_version": "1.55", "minimum_build": 40},
        BASE,
        ev(current_version=FirmwareVersion(1, 55, 39), committed_version=FirmwareVersion(1, 55, 39)),
    ),
    (C.MITIGATIONS, {"require_launch_mitigations": 2}, BASE, ev(launch_mit_vector=1)),
    (C.MITIGATIONS, {"require_current_mitigations": 2}, BASE, ev(current_mit_vector=1)),
    (C.MITIGATIONS, {"require_current_mitigations": 1}, BASE, ev(version=4, **NO_MIT)),
    (C.DEBUG, {}, BASE, ev(**flags(GuestFlag.DEBUG))),
    (C.MIGRATION, {}, BASE, ev(**flags(GuestFlag.MIGRATE_MA))),
    (C.MIGRATION, {}, BASE, ev(report_id_ma=b"\x01" * 32)),
    (
        C.MIGRATION,
        {"allow_migrate_ma": True, "migration_report_ids": ["01" * 32]},
        Evidence(report={**flags(GuestFlag.MIGRATE_MA), "report_id_ma": b"\x01" * 32}),
        Evidence(report={**flags(GuestFlag.MIGRATE_MA), "report_id_ma": b"\x02" * 32}),
    ),
    (C.SMT, {}, BASE, ev(**flags(GuestFlag.SMT))),
    (C.SMT, {}, BASE, ev(**platform(REPORT.platform_info | PlatformInfo.SMT))),
    (C.GUEST_POLICY, {}, BASE, ev(policy=GuestPolicy(1, 55, GuestFlag.SINGLE_SOCKET))),
    (C.GUEST_POLICY, {}, BASE, ev(**flags(GuestFlag(1 << 26)))),
    (C.GUEST_POLICY, {"allow_cxl": True}, ev(**flags(GuestFlag.CXL)), ev(**flags(GuestFlag(1 << 63)))),
    (C.GUEST_POLICY, {}, BASE, ev(**flags(GuestFlag.CXL))),
    (C.GUEST_ABI, {"minimum_guest_abi": "1.55"}, BASE, ev(**flags(abi_minor=54))),
    (C.GUEST_SVN, {"minimum_guest_svn": 2}, BASE, ev(guest_svn=1)),
    (C.VMPL, {}, BASE, ev(vmpl=1)),
    (C.VMPL, {"vmpls": [1]}, ev(vmpl=1), BASE),
    (C.ALIAS_CHECK, {}, BASE, ev(**platform(PlatformInfo.ECC))),
    (C.PLATFORM_INFO, {}, BASE, ev(**platform(ALIAS | PlatformInfo.TIO))),
    (C.PLATFORM_INFO, {}, BASE, ev(**platform(ALIAS | PlatformInfo(1 << 8)))),
    (
        C.PLATFORM_INFO,
        {"allow_tio": True},
        ev(**platform(ALIAS | PlatformInfo.TIO)),
        ev(platform_info=ALIAS | 256),
    ),
    (C.REPORT_DATA, {}, BASE, ev(report_data=b"\x11" * 63 + b"\x10")),
    (C.MEASUREMENT, {}, BASE, ev(measurement=b"\x22" * 47 + b"\x23")),
    (C.HOST_DATA, {}, BASE, ev(host_data=bytes(31) + b"\x01")),
    (C.HOST_DATA, {"host_data": ["01" * 32]}, ev(host_data=b"\x01" * 32), BASE),
    (C.FAMILY_ID, {}, BASE, ev(family_id=bytes(15) + b"\x01")),
    (C.FAMILY_ID, {"family_ids": ["01" * 16]}, ev(family_id=b"\x01" * 16), BASE),
    (C.IMAGE_ID, {}, BASE, ev(image_id=bytes(15) + b"\x01")),
    (C.IMAGE_ID, {"image_ids": ["01" * 16]}, ev(image_id=b"\x01" * 16), BASE),
    (C.ID_KEY, {}, BASE, ev(id_key_digest=bytes(47) + b"\x01")),
    (C.ID_KEY, {"id_key_digests": ["01" * 48]}, ev(id_key_digest=b"\x01" * 48), BASE),
    (C.AUTHOR_KEY, {}, BASE, ev(author_key_digest=bytes(47) + b"\x01")),
    (
        C.AUTHOR_KEY,
        {"author_key_digests": ["01" * 48]},
        ev(
            author_key_digest=b"\x01" * 48,
            signer_info=SignerInfo(signing_key=SigningKey.VCEK, author_key_en=True),
        ),
        ev(author_key_digest=b"\x01" * 48),
    ),
    (C.REPORT_ID, {"report_ids": ["33" * 32]}, BASE, ev(report_id=b"\x34" * 32)),
]
REQUIRED_FEATURES = [
    *(
        (n, {"require_guest": [n]}, flags(b), flags())
        for n, b in (
            ("mem-aes-256-xts", GuestFlag.MEM_AES_256_XTS),
            ("rapl-disabled", GuestFlag.RAPL_DISABLED),
            ("ciphertext-hiding", GuestFlag.CIPHERTEXT_HIDING),
            ("page-swap-disabled", GuestFlag.PAGE_SWAP_DISABLED),
        )
    ),
    *(
        (n, {"require_platform": [n]}, platform(ALIAS | b), platform(ALIAS))
        for n, b in (
            ("tsme", PlatformInfo.TSME),
            ("ecc", PlatformInfo.ECC),
            ("rapl-disabled", PlatformInfo.RAPL_DISABLED),
            ("ciphertext-hiding", PlatformInfo.CIPHERTEXT_HIDING),
            ("iommu-write-safe", PlatformInfo.IOMMU_WRITE_SAFE),
            ("tio", PlatformInfo.TIO),
        )
    ),
]
ALLOWED = {
    "allow_debug": flags(GuestFlag.DEBUG),
    "allow_migrate_ma": flags(GuestFlag.MIGRATE_MA),
    "allow_smt": flags(GuestFlag.SMT),
    "allow_cxl": flags(GuestFlag.CXL),
    "allow_tio": platform(ALIAS | PlatformInfo.TIO),
    "allow_missing_alias_check": platform(PlatformInfo.ECC),
    "allow_unknown_platform_bits": platform(ALIAS | PlatformInfo(1 << 8)),
    "allow_provisional_firmware": {"current_tcb": HIGH},
    "allow_masked_chip_id": {"chip_id": ZERO},
    "allow_any_host_data": {"host_data": b"\x01" * 32},
    "allow_any_id_block": {"family_id": b"\x01" * 16, "id_key_digest": b"\x02" * 48},
    "allow_any_measurement": {"measurement": b"\x23" * 48},
    "allow_any_report_data": {"report_data": b"\x23" * 64},
    "allow_any_tcb": {"launch_tcb": LOW},
}  # fmt: skip


def judge(evidence: Evidence, **rules: Any) -> set[CheckId]:
    """What blocks `evidence` under the strict policy with `rules`."""
    genoa = line()
    vcek = dict(evidence.vcek)
    if vcek.get("by") == "another":
        vcek["by"] = issue("SEV-Genoa", genoa.ark, key=line("Milan").ask.key)
    issued = genoa.vlek(evidence.vlek) if evidence.vlek else genoa.vcek(**vcek)
    raw = bytearray(genoa.report(**evidence.report))
    if evidence.tamper:
        raw[0x2A0] ^= 1
    come_along = [issue("ARK-Genoa", None).der] if evidence.root else []
    _, verdict = verify(
        bytes(raw),
        [issued.der, *come_along],
        policy(genoa.roots(), **{k: v for k, v in {**STRICT, **rules}.items() if v is not None}),
        NOW + timedelta(days=evidence.days),
        crls=[genoa.crl(*evidence.revoked)] if evidence.crl else [],
    )
    assert verdict.accepted == (not blocking(verdict))
    return blocking(verdict)


def ids() -> list[str]:
    return [f"{index:02}-{check}" for index, (check, *_) in enumerate(VECTORS)]


@pytest.mark.parametrize(("check", "rules", "good", "bad"), VECTORS, ids=ids())
def test_a_check_accepts_one_vector_and_alone_rejects_its_neighbour(
    check: SnpCheck, rules: dict[str, Any], good: Evidence, bad: Evidence
) -> None:
    assert judge(good, **rules) == set()
    assert judge(bad, **rules) == {check}


def test_no_check_is_without_vectors() -> None:
    # CURRENT below the minimum while REPORTED is not: TCB_CLAIMED stands in the way, see below.
    assert {check for check, *_ in VECTORS} == set(SnpCheck) - {C.TCB_CURRENT}


def test_current_tcb_below_the_minimum() -> None:
    low = {"reported_tcb": LOW, "current_tcb": LOW, "committed_tcb": LOW, "launch_tcb": LOW}
    rejected = judge(Evidence(report=low, vcek={"tcb": LOW}))
    assert rejected == {C.TCB_REPORTED, C.TCB_COMMITTED, C.TCB_LAUNCH, C.TCB_CURRENT}


@pytest.mark.parametrize(("name", "rules", "good", "bad"), REQUIRED_FEATURES)
def test_a_required_feature_must_be_there(
    name: str, rules: dict[str, Any], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert judge(Evidence(report=good), **rules) == set()
    assert len(judge(Evidence(report=bad), **rules)) == 1


def test_single_socket_is_a_required_feature() -> None:
    without = ev(policy=GuestPolicy(1, 55, GuestFlag.RESERVED_ONE))
    assert judge(BASE, require_guest=["single-socket"]) == set()
    assert judge(without, require_guest=["single-socket"]) == {C.GUEST_POLICY}


@pytest.mark.parametrize(("key", "report"), ALLOWED.items())
def test_a_weakening_is_refused_until_it_is_written_out(key: str, report: dict[str, Any]) -> None:
    conflicting = {
        "allow_any_measurement": {"measurements": None},
        "allow_any_report_data": {"report_data": None},
        "allow_any_tcb": {"minimum_tcb": None},
    }
    assert judge(Evidence(report=report)) != set()
    assert judge(Evidence(report=report), **{key: True, **conflicting.get(key, {})}) == set()


def test_vlek_is_refused_by_default() -> None:
    assert judge(VLEK_OK) == {C.SIGNING_KEY, C.CSP_ID}
    assert judge(VLEK_OK, allow_vlek=True, allow_any_csp=True) == set()


def test_a_vcek_does_not_stand_for_a_vlek() -> None:
    report = {"signer_info": VLEK, "chip_id": ZERO}
    assert C.SIGNING_KEY in judge(Evidence(report=report), **VLEK_RULES)


def test_another_curve_is_no_vcek() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert judge(Evidence(vcek={"key": key})) == {C.CERTIFICATE_FORM, C.REPORT_SIGNATURE}
