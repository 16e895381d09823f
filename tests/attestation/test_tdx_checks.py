"""Every check of a TDX quote fails for one reason at a time; the unchanged platform passes all.

Quotes and collateral are signed under a root of our own in the place of Intel's.
"""

from dataclasses import replace
from typing import Any

import pytest

from attestation import Collateral, Kind, Roots, tdx
from attestation.dcap.checks import DcapCheck
from attestation.dcap.quote import CertificationType
from attestation.tdx import TdxCheck
from attestation.verdict import Outcome, Sheet

from . import tdx_pki as pki
from .tdx_cases import context, tdx_rules, verdict
from .tdx_machine import Platform, launched, td_report
from .tdx_pki import NOW
from .tdx_vectors import ACCEPTED, REJECTED, SOME


def appraise(platform: Platform, /, quote: dict[str, Any] | None = None, **keys: Any) -> Sheet:
    """The sheet for `platform`; `quote` changes fields after signing, upper-case `keys` are collateral."""
    items = {name: keys.pop(name) for name in [*keys] if name.isupper()}
    roots = keys.pop("roots", platform.roots)
    log, data = keys.pop("event_log", None), keys.pop("bound", None)
    surroundings = context(tdx_rules(**keys), platform.collateral(**items), NOW, roots)
    raw = platform.quote(**(quote or {})).to_bytes()
    return tdx.appraise(raw, surroundings, subject="cpu0", report_data=data, event_log=log)


def blocking(sheet: Sheet) -> set[str]:
    """The checks that keep the sheet from being accepted, as long as something was really judged."""
    found = verdict(sheet, NOW).blocking()
    decided = {str(result.check) for result in found if result.outcome is not Outcome.NOT_REACHED}
    return decided or {str(result.check) for result in found}


def test_the_unchanged_platform_passes_every_check() -> None:
    platform = Platform(report=td_report(launched=launched()))
    found = verdict(appraise(platform), NOW)
    assert found.accepted, found.summary()
    assert {r.check for r in found.results} == set(DcapCheck) | set(TdxCheck) - {TdxCheck.EVENT_LOG}


# What a failing check takes with it: there is nothing left to judge these by.
FOLLOW = {
    "dcap.root-crl": {"dcap.ca-not-revoked"},
    "dcap.pck-crl": {"dcap.pck-not-revoked"},
    "dcap.tcb-info-match": {"dcap.tcb-status", "tdx.module"},
    "dcap.tcb-info-signature": {
        "dcap.tcb-status",
        "tdx.module",
        "dcap.qe-identity-signature",
        "dcap.qe-identity",
    },
    "dcap.qe-identity-signature": {"dcap.tcb-status", "dcap.qe-identity"},
    "dcap.pck-extension": {"dcap.tcb-status", "tdx.module", "dcap.tcb-info-match"},
    "dcap.pck-chain": {"dcap.tcb-status", "tdx.module", "dcap.tcb-info-match"},
    "dcap.ca-not-revoked": {
        "dcap.tcb-signing-chain",
        "dcap.tcb-info-signature",
        "dcap.qe-identity-signature",
        "dcap.tcb-status",
        "dcap.qe-identity",
        "tdx.module",
    },
    "dcap.tcb-signing-chain": {
        "dcap.tcb-info-signature",
        "dcap.qe-identity-signature",
        "dcap.tcb-status",
        "dcap.qe-identity",
        "tdx.module",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "keys", "check"), [row[1:] for row in REJECTED], ids=[r[0] for r in REJECTED]
)
def test_rejected_for_one_reason(changes: dict[str, Any], keys: dict[str, Any], check: str) -> None:
    found = blocking(appraise(Platform(**changes), **keys))
    assert check in found
    assert found <= {check} | FOLLOW.get(check, set())


def test_every_check_has_a_rejecting_vector() -> None:
    elsewhere = {"dcap.quote-signature", "dcap.tcb-status", "dcap.advisories"}
    assert {row[3] for row in REJECTED} | elsewhere == {str(c) for c in (*DcapCheck, *TdxCheck)}


@pytest.mark.parametrize(("changes", "keys"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_accepted(changes: dict[str, Any], keys: dict[str, Any]) -> None:
    found = verdict(appraise(Platform(**changes), **keys), NOW)
    assert found.accepted, found.summary()


@pytest.mark.parametrize("name", ["header", "body"])
def test_what_the_attestation_key_did_not_sign(name: str) -> None:
    platform = Platform()
    quote = platform.quote()
    changed = {
        "header": replace(quote.header, user_data=b"\x01" * 20),
        "body": td_report(rtmr3=SOME).to_bytes(),
    }
    assert blocking(appraise(platform, {name: changed[name]})) == {"dcap.quote-signature"}


def test_an_attestation_key_off_the_curve() -> None:
    sheet = appraise(Platform(), {"attestation_key": bytes(64)})
    assert blocking(sheet) == {"dcap.quote-signature", "dcap.attestation-key"}


def test_a_revoked_certificate_stays_revoked_when_a_newer_crl_forgets_it() -> None:
    lists = pki.crl(pki.PLATFORM_CA, pki.key("ca"), (99,), (-3, 30), 1)
    forgets = pki.crl(pki.PLATFORM_CA, pki.key("ca"), (), (-1, 30), 2)
    for items in ((lists, forgets), (forgets, lists)):
        assert blocking(appraise(Platform(), INTEL_PCK_CRL=items)) == {"dcap.pck-not-revoked"}


def test_a_revoked_signing_certificate_beside_one_that_is_not() -> None:
    platform = Platform(root_revoked=(56,))
    revoked = pki.issue(pki.TCB_SIGNING, pki.key("x"), pki.ROOT, pki.key("root"), ca=False, serial=56)
    chains = platform.collateral().of(Kind.INTEL_TCB_SIGNING_CHAIN)
    sheet = appraise(platform, INTEL_TCB_SIGNING_CHAIN=(pki.pem(revoked), *chains))
    assert verdict(sheet, NOW).accepted


def test_a_waived_crl_that_is_there_still_revokes() -> None:
    sheet = appraise(Platform(pck_revoked=(99,)), allow_missing_pck_crl=True)
    assert blocking(sheet) == {"dcap.pck-not-revoked"}


def test_our_root_is_not_intels() -> None:
    platform = Platform()
    sheet = appraise(platform, roots=Roots.pinned({"intel"}))
    assert "dcap.pck-chain" in blocking(sheet)


def test_no_root_at_all() -> None:
    sheet = appraise(Platform(), roots=Roots.pinned({"amd"}))
    assert "dcap.pck-chain" in blocking(sheet)
    assert not verdict(sheet, NOW).accepted


def test_an_empty_collateral_is_not_evaluable() -> None:
    surroundings = context(tdx_rules(), Collateral(), NOW, Platform().roots)
    raw = Platform().quote().to_bytes()
    found = verdict(tdx.appraise(raw, surroundings, subject="cpu0", report_data=None), NOW)
    assert found.unevaluable and not found.accepted


@pytest.mark.parametrize("kind", [1, 2, 3, 4, CertificationType.QE_REPORT, 7])
def test_certification_data_without_a_chain(kind: int) -> None:
    sheet = appraise(Platform(), {"certification_type": kind})
    assert verdict(sheet, NOW).unevaluable


@pytest.mark.parametrize(
    "chain",
    [
        b"",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" * 9,
    ],
)
def test_certification_data_that_is_no_chain(chain: bytes) -> None:
    assert "dcap.pck-chain" in blocking(appraise(Platform(), {"certification_data": chain}))


@pytest.mark.parametrize("count", [1, 2])
def test_a_chain_must_reach_the_root(count: int) -> None:
    platform = Platform()
    mark = b"-----BEGIN"
    parts = platform.chain().split(mark)[1 : count + 1]
    chain = b"".join(mark + part for part in parts)
    assert "dcap.pck-chain" in blocking(appraise(platform, {"certification_data": chain}))
