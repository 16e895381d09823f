"""Reference manifests against a device: which one, who signed it, and every rule of comparison."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography.x509.ocsp import OCSPCertStatus

from attestation.nvidia import GpuReport, appraise
from attestation.roots import Roots
from attestation.verdict import Outcome, Sheet

from .nvidia import RIMS, accepted, case, context, failures, outcome, policy, result
from .nvidia_maker import NONCE, NOW, Device, Publisher, issue, resource, roots

DEVICE = Device()
PUBLISHER = Publisher()
ROOTS = roots(device_identity_ca=DEVICE.parties[0], corim_signing_root_ca=PUBLISHER.parties[0])
REPORT = GpuReport.from_bytes(DEVICE.report())
VBIOS = "96.00.5E.00.01"
ZERO = "00" * 48


def value(index: int) -> str:
    """What the made device measures at RIM index `index`."""
    measured = REPORT.measurement(index + 1)
    assert measured is not None
    return measured.hex()


def driver(*indices: int, publisher: Publisher = PUBLISHER, **facts: Any) -> bytes:
    """A driver manifest that agrees with the device at `indices`."""
    return publisher.rim({index: [value(index)] for index in indices}, **facts)


VBIOS_RIM = driver(3, 4, version=VBIOS)
DRIVER_RIM = driver(1, 2)


def judge(*rims: bytes, trusted: Roots = ROOTS, report: bytes | None = None, **rules: Any) -> Sheet:
    """The sheet of a made device with these manifests."""
    around = context(policy(trusted, **(RIMS | rules)), NOW, rims=rims)
    return appraise(report or DEVICE.report(), DEVICE.chain, around, subject="gpu0", nonce=NONCE)


def test_agreeing_manifests_are_accepted() -> None:
    assert accepted(judge(DRIVER_RIM, VBIOS_RIM), at=NOW)


# Which manifest.


@pytest.mark.parametrize(
    "rims", [(DRIVER_RIM,), (VBIOS_RIM,), (DRIVER_RIM, driver(3, version="96.00.5E.00.02"))]
)
def test_a_missing_manifest_is_unevaluable(rims: tuple[bytes, ...]) -> None:
    sheet = judge(*rims)
    assert failures(sheet) == []
    for check in ("nvidia.rim-found", "nvidia.rim-conflict", "nvidia.rim-measurements"):
        assert outcome(sheet, check) is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)


def test_one_manifest_is_enough_where_the_policy_says_so() -> None:
    for rim in (DRIVER_RIM, VBIOS_RIM):
        assert accepted(judge(rim, allow_missing_rim=True), at=NOW)
    assert not accepted(judge(allow_missing_rim=True), at=NOW)
    wrong = PUBLISHER.rim({1: [ZERO]})
    assert failures(judge(wrong, allow_missing_rim=True)) == ["nvidia.rim-measurements"]
    both = driver(2, 3, version=VBIOS)
    assert failures(judge(DRIVER_RIM, both, allow_missing_rim=True)) == ["nvidia.rim-conflict"]


def test_a_manifest_for_another_chip_fails() -> None:
    assert failures(judge(driver(1, product="GH20"), VBIOS_RIM)) == ["nvidia.rim-found"]
    assert failures(judge(DRIVER_RIM, driver(3, version=VBIOS, product="GB100"))) == ["nvidia.rim-found"]


def test_versions_compare_without_regard_to_case() -> None:
    assert accepted(judge(DRIVER_RIM, driver(3, version=VBIOS.lower())), at=NOW)


def test_the_best_of_several_manifests_counts() -> None:
    stranger = driver(1, publisher=Publisher())
    old = issue("Old Signer", PUBLISHER.parties[0], authority=False, end=NOW - timedelta(days=1))
    expired = driver(1, publisher=Publisher((PUBLISHER.parties[0], old)))
    changed = DRIVER_RIM.replace(b'edition="GPU"', b'edition="gpu"')
    board = PUBLISHER.rim({1: [ZERO]})
    for other in (stranger, expired, changed, board, driver(1, product="GB100"), b"<junk/>", b""):
        assert accepted(judge(other, DRIVER_RIM, VBIOS_RIM), at=NOW)
        assert accepted(judge(VBIOS_RIM, DRIVER_RIM, other), at=NOW)


# Who signed.


def test_an_altered_manifest_fails() -> None:
    changed = DRIVER_RIM.replace(value(1).encode(), ZERO.encode())
    assert failures(judge(changed, VBIOS_RIM)) == ["nvidia.rim-signature", "nvidia.rim-measurements"]


def test_a_signer_under_another_root_fails() -> None:
    assert failures(judge(driver(1, publisher=Publisher()), VBIOS_RIM)) == ["nvidia.rim-signer"]


def test_a_signer_under_the_device_root_fails() -> None:
    """The two hierarchies are not each other's."""
    leaf = issue("RIM Signer", DEVICE.parties[0], authority=False)
    publisher = Publisher((DEVICE.parties[0], leaf))
    assert failures(judge(driver(1, publisher=publisher), VBIOS_RIM)) == ["nvidia.rim-signer"]


def test_a_signer_whose_chain_only_reads_like_one_fails() -> None:
    """The genuine root stands above it by name; it did not sign it, or not what signed it."""
    root = PUBLISHER.parties[0]
    impostor = issue("CoRIM Root", None)
    leaf = issue("RIM Signer", impostor, authority=False)
    middle = issue("CA", impostor)
    below = issue("RIM Signer", middle, authority=False)
    for parties in ((root, leaf), (root, middle, below), (impostor, leaf), (impostor, middle, below)):
        assert failures(judge(driver(1, publisher=Publisher(parties)), VBIOS_RIM)) == ["nvidia.rim-signer"]
    real = issue("CA", root)
    chain = (root, real, issue("RIM Signer", real, authority=False))
    assert accepted(judge(driver(1, publisher=Publisher(chain)), VBIOS_RIM), at=NOW)


def test_without_a_root_for_manifests_the_signer_is_unevaluable() -> None:
    sheet = judge(DRIVER_RIM, VBIOS_RIM, trusted=DEVICE.roots)
    assert outcome(sheet, "nvidia.rim-signer") is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)


def test_the_root_itself_may_not_sign_manifests() -> None:
    publisher = Publisher(PUBLISHER.parties[:1])
    assert failures(judge(driver(1, publisher=publisher), VBIOS_RIM)) == ["nvidia.rim-signer"]


def test_an_authority_may_not_sign_manifests() -> None:
    publisher = Publisher((PUBLISHER.parties[0], issue("CA", PUBLISHER.parties[0])))
    assert failures(judge(driver(1, publisher=publisher), VBIOS_RIM)) == ["nvidia.rim-signer"]


def test_an_expired_signer_fails() -> None:
    leaf = issue("RIM Signer", PUBLISHER.parties[0], authority=False, end=NOW - timedelta(days=1))
    publisher = Publisher((PUBLISHER.parties[0], leaf))
    sheet = judge(driver(1, publisher=publisher), VBIOS_RIM)
    assert failures(sheet) == ["nvidia.rim-validity"]
    assert result(sheet, "nvidia.rim-validity").found == "RIM Signer"


def test_a_signers_status_is_asked_for() -> None:
    rules = RIMS | {"allow_missing_ocsp": False}
    around = context(policy(ROOTS, **rules), NOW, rims=(DRIVER_RIM, VBIOS_RIM))
    sheet = appraise(DEVICE.report(), DEVICE.chain, around, subject="gpu0", nonce=NONCE)
    assert outcome(sheet, "nvidia.rim-ocsp") is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)


def test_a_revoked_signer_is_not_hidden_by_a_namesake() -> None:
    root = PUBLISHER.parties[0]
    other = Publisher((root, issue("RIM Signer", root, authority=False)))
    devices = Device(above=DEVICE.parties[:4])
    good = [DEVICE.ocsp(depth) for depth in (1, 2, 3)]

    def said(publisher: Publisher, status: OCSPCertStatus) -> bytes:
        devices.parties = publisher.parties
        return devices.ocsp(1, status)

    rims = (DRIVER_RIM, driver(3, version=VBIOS, publisher=other))
    for first, second, expected in (
        (OCSPCertStatus.GOOD, OCSPCertStatus.GOOD, Outcome.PASS),
        (OCSPCertStatus.GOOD, OCSPCertStatus.REVOKED, Outcome.FAIL),
        (OCSPCertStatus.REVOKED, OCSPCertStatus.GOOD, Outcome.FAIL),
        (OCSPCertStatus.UNKNOWN, OCSPCertStatus.GOOD, Outcome.UNEVALUABLE),
    ):
        responses = (*good, said(PUBLISHER, first), said(other, second))
        rules = policy(ROOTS, **(RIMS | {"allow_missing_ocsp": False}))
        around = context(rules, NOW, rims=rims, ocsp=responses)
        sheet = appraise(DEVICE.report(), DEVICE.chain, around, subject="gpu0", nonce=NONCE)
        assert outcome(sheet, "nvidia.rim-ocsp") is expected
        assert accepted(sheet, at=NOW) is (expected is Outcome.PASS)


# What it says.


def test_another_value_fails_and_names_its_index() -> None:
    sheet = judge(PUBLISHER.rim({1: [value(1)], 2: [ZERO], 7: [value(8)]}), VBIOS_RIM)
    assert failures(sheet) == ["nvidia.rim-measurements"]
    assert result(sheet, "nvidia.rim-measurements").found == "differs at [2, 7]"


def test_any_of_the_alternatives_passes() -> None:
    assert accepted(judge(PUBLISHER.rim({1: [ZERO, value(1), "11" * 48]}), VBIOS_RIM), at=NOW)


def test_an_inactive_value_is_not_compared() -> None:
    inner = resource(1, value(1)) + resource(2, ZERO, active=False)
    assert accepted(judge(PUBLISHER.rim({}, resources=inner), VBIOS_RIM), at=NOW)


@pytest.mark.parametrize("size", [47, 49, 0, 64])
def test_another_size_fails(size: int) -> None:
    inner = resource(1, value(1), size=size)
    assert failures(judge(PUBLISHER.rim({}, resources=inner), VBIOS_RIM)) == ["nvidia.rim-measurements"]


def test_a_measurement_that_the_device_lacks_fails() -> None:
    assert failures(judge(PUBLISHER.rim({64: [ZERO]}), VBIOS_RIM)) == ["nvidia.rim-measurements"]


def test_an_index_active_in_both_manifests_fails() -> None:
    assert failures(judge(driver(1, 3), VBIOS_RIM)) == ["nvidia.rim-conflict"]


def test_a_manifest_without_active_values_fails() -> None:
    inner = resource(1, value(1), active=False)
    assert failures(judge(PUBLISHER.rim({}, resources=inner), VBIOS_RIM)) == ["nvidia.rim-measurements"]


@pytest.mark.parametrize(("nvdec0", "passes"), [(b"\x55", True), (b"\xaa", False), (None, False)])
def test_index_35_counts_unless_nvdec0_is_off(nvdec0: bytes | None, passes: bool) -> None:
    rim = PUBLISHER.rim({1: [value(1)], 35: [ZERO]})
    sheet = judge(rim, VBIOS_RIM, report=DEVICE.report(NVDEC0_STATUS=nvdec0))
    assert failures(sheet) == ([] if passes else ["nvidia.rim-measurements"])


def test_genuine_manifests_agree_with_a_genuine_device() -> None:
    found = case("nvidia-gpu/h100-full-rim-match")
    around = context(policy(**RIMS), found.at, rims=found.rims)
    sheet = appraise(found.report, found.chain, around, subject="gpu0", nonce=found.nonce)
    assert result(sheet, "nvidia.rim-measurements").found == "33 active, none differs"


@pytest.mark.parametrize(
    ("name", "check", "found"),
    [
        ("fail-vbios-measurement-mismatch", "nvidia.rim-measurements", "differs at [1, 2, 3, 9]"),
        ("fail-vbios-rim-stale", "nvidia.rim-measurements", "differs at [9]"),
        ("fail-driver-rim-tampered", "nvidia.rim-signature", "535.86.09: the document was altered"),
        ("fail-rim-signer-expired", "nvidia.rim-validity", "HCC RIM L4 Signer"),
    ],
)
def test_a_case_fails_for_its_reason(name: str, check: str, found: str) -> None:
    about = case(f"nvidia-gpu/{name}")
    around = context(policy(**RIMS), about.at, rims=about.rims)
    sheet = appraise(about.report, about.chain, around, subject="gpu0", nonce=about.nonce)
    assert check in failures(sheet)
    assert result(sheet, check).found == found
