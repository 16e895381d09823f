"""The device chain: each way in which it can fail to lead from the leaf to the pinned root."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence
from attestation.nvidia import CertificateChain
from attestation.roots import Roots
from attestation.verdict import Outcome

from .nvidia import accepted, failures, outcome, result
from .nvidia_judge import DEVICE, GENUINE, genuine, judge
from .nvidia_maker import FWID, NAMES, NOW, Device, dice_tcb_info, issue, leaf_extras, pem


def test_a_chain_of_another_length_fails() -> None:
    parties = DEVICE.parties
    for fewer in (parties[1:], parties[:1], (*parties[:3], parties[4])):
        assert "nvidia.chain-form" in failures(judge(chain=pem(fewer)))
        assert "nvidia.chain-signatures" in failures(judge(chain=pem(fewer)))
    assert "nvidia.chain-form" in failures(judge(chain=pem((parties[0], *parties))))


def test_another_root_fails_even_with_the_same_name() -> None:
    impostor = issue(NAMES[0], None)
    sheet = judge(chain=pem((impostor, *DEVICE.parties[1:])))
    assert failures(sheet) == ["nvidia.chain-root"]
    assert failures(judge(roots=Device().roots)) == ["nvidia.chain-root", "nvidia.chain-signatures"]


def test_a_made_device_fails_under_the_pinned_root() -> None:
    sheet = judge(roots=Roots.pinned({"nvidia"}))
    assert failures(sheet) == ["nvidia.chain-root", "nvidia.chain-signatures"]


def test_no_device_root_is_unevaluable() -> None:
    sheet = judge(roots=Roots.pinned({"amd"}))
    assert outcome(sheet, "nvidia.chain-root") is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=NOW)


def test_a_certificate_by_another_issuer_fails() -> None:
    other = Device(above=DEVICE.parties[:1])
    spliced = (*DEVICE.parties[:3], *other.parties[3:])
    assert failures(judge(other.report(), pem(spliced))) == ["nvidia.chain-signatures"]


NOT_ISSUERS = [(depth, fact) for depth in (1, 2, 3) for fact in ("authority", "cert_sign")]


@pytest.mark.parametrize(("depth", "wrong"), [*NOT_ISSUERS, (1, "path_length"), (2, "path_length")])
def test_an_issuer_that_may_not_issue_fails(depth: int, wrong: str) -> None:
    facts: dict[str, Any] = {wrong: 0 if wrong == "path_length" else False}
    parties = list(DEVICE.parties[:depth])
    parties.append(issue(NAMES[depth], parties[-1], **facts))
    device = Device(above=tuple(parties))
    assert failures(judge(device=device)) == ["nvidia.chain-signatures"]


def test_a_path_length_that_suffices_passes() -> None:
    device = Device(above=(DEVICE.parties[0], issue(NAMES[1], DEVICE.parties[0], path_length=2)))
    assert accepted(judge(device=device), at=NOW)


def test_a_certificate_signed_with_sha256_fails() -> None:
    device = Device(above=(*DEVICE.parties[:2], issue(NAMES[2], DEVICE.parties[1], algorithm=SHA256())))
    assert failures(judge(device=device)) == ["nvidia.chain-signatures"]


def test_an_unknown_critical_extension_fails() -> None:
    extra = leaf_extras(dice_tcb_info(FWID))
    leaf = issue(NAMES[4], DEVICE.parties[3], authority=False, extra=extra, critical_extra=True)
    device = Device(above=DEVICE.parties[:4])
    device.parties = (*DEVICE.parties[:4], leaf)
    assert failures(judge(device=device)) == ["nvidia.chain-signatures"]


@pytest.mark.parametrize(
    ("authority", "signs", "expected"),
    [
        (False, True, []),
        (True, True, ["nvidia.chain-form"]),
        (False, False, ["nvidia.chain-form"]),
        (True, False, ["nvidia.chain-form"]),
    ],
)
def test_a_leaf_signs_data_and_is_no_authority(authority: bool, signs: bool, expected: list[str]) -> None:
    device = Device(above=DEVICE.parties[:4])
    extra = leaf_extras(dice_tcb_info(FWID))
    leaf = issue(NAMES[4], DEVICE.parties[3], authority=authority, signs=signs, extra=extra)
    device.parties = (*DEVICE.parties[:4], leaf)
    assert failures(judge(device=device)) == expected


@pytest.mark.parametrize("at", [datetime(2019, 12, 31, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)])
def test_a_chain_outside_its_validity_fails(at: datetime) -> None:
    assert failures(judge(at=at)) == ["nvidia.chain-validity"]


def test_one_expired_certificate_fails_and_validity_is_judged_each_time() -> None:
    soon = datetime(2026, 7, 1, tzinfo=UTC)
    device = Device(above=(*DEVICE.parties[:2], issue(NAMES[2], DEVICE.parties[1], end=soon)))
    assert accepted(judge(device=device), at=NOW)
    sheet = judge(device=device, at=datetime(2026, 7, 2, tzinfo=UTC))
    assert failures(sheet) == ["nvidia.chain-validity"]
    assert NAMES[2] in result(sheet, "nvidia.chain-validity").found


def test_a_chip_that_is_not_listed_fails() -> None:
    assert failures(judge(device=Device(chip="GB100"), chips=["GH100"])) == ["nvidia.chip"]
    assert accepted(judge(device=Device(chip="GB100"), chips=["GB100"]), at=NOW)


def test_a_device_that_is_not_listed_fails() -> None:
    key = judge().claims["device_certificate"]
    assert accepted(judge(devices=[key]), at=NOW)
    assert failures(judge(devices=["00" * 32])) == ["nvidia.device"]


def test_the_device_is_known_by_its_own_key_whatever_its_leaf() -> None:
    first, second = Device(above=DEVICE.parties[:4]), Device(above=DEVICE.parties[:3])
    known = judge().claims["device_certificate"]
    assert judge(device=first).claims["device_certificate"] == known
    assert judge(device=second).claims["device_certificate"] != known


@pytest.mark.parametrize(
    "chain",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        b"junk" + GENUINE.chain,
        GENUINE.chain + b"junk",
        GENUINE.chain.replace(b"\n-----END", b"!\n-----END", 1),
        GENUINE.chain * 2,
        b" " * 40_000,
    ],
)
def test_a_chain_that_is_not_certificates_is_malformed(chain: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        genuine(chain=chain)


@given(st.integers(0, GENUINE.chain.rindex(b"-----BEGIN") - 1), st.integers(0, 255))
def test_a_changed_chain_is_refused_or_differs_in_white_space(offset: int, value: int) -> None:
    raw = bytearray(GENUINE.chain)
    raw[offset] = value
    try:
        sheet = genuine(chain=bytes(raw))
    except MalformedEvidence:
        return
    if accepted(sheet, at=GENUINE.at):
        assert b"".join(bytes(raw).split()) == b"".join(GENUINE.chain.split())


@given(st.integers(0, 4), st.data())
def test_a_certificate_with_changed_der_is_refused(which: int, data: st.DataObject) -> None:
    ders = [bytearray(each.raw) for each in CertificateChain.from_pem(GENUINE.chain).certificates]
    offset = data.draw(st.integers(0, len(ders[which]) - 1))
    ders[which][offset] ^= data.draw(st.integers(1, 255))
    blocks = [
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(der)) + b"-----END CERTIFICATE-----\n"
        for der in ders
    ]
    try:
        sheet = genuine(chain=b"".join(blocks))
    except MalformedEvidence:
        return
    # The root is taken from the package: only its name and key are compared.
    assert which == 4 or not accepted(sheet, at=GENUINE.at)
