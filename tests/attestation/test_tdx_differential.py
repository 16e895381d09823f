"""Against dcap-qvl: equal statuses on equal evidence; docs/tdx-divergences.md explains what differs."""

import itertools
import random
from typing import Any

import pytest

pytest.importorskip("dcap_qvl", reason="dcap-qvl, a development dependency, is not installed")

from attestation import Collateral, Kind, MalformedEvidence, sgx, tdx
from attestation.context import Context
from attestation.dcap.policy import ACCEPTABLE

from . import tdx_cases as cases
from . import tdx_pki as pki
from .tdx_cases import context, load, sgx_rules, tdx_rules, verdict
from .tdx_machine import Platform, launched, td_report
from .tdx_peer import REJECTED, verify
from .tdx_pki import NOW
from .tdx_vectors import ACCEPTED, SEPT, attributes, xfam
from .tdx_vectors import REJECTED as CHANGES

# What dcap-qvl leaves to its caller is left open here too.
OPEN: dict[str, Any] = {"tcb_statuses": sorted(ACCEPTABLE), "allow_any_advisory": True}
NAMED_ELSEWHERE = {
    "pck named otherwise",
    "signing certificate named otherwise",
    "root crl early",
    "pceid",
    "evaluation number of the qe identity",
    "no x87",
    "undefined feature",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
}
STRICTER_ATTRIBUTES = {16, 18, 19, 20, 21, 22, 27, 30, 31, 62, 63}
XFAM_DEFINED = 0x6DBE7


def ours(quote: bytes, surroundings: Context) -> str:
    """Our TCB status if the quote is accepted, else REJECTED."""
    appraise = tdx.appraise if surroundings.policy.tdx else sgx.appraise
    try:
        sheet = appraise(quote, surroundings, subject="cpu0", report_data=None)
    except MalformedEvidence:
        return REJECTED
    accepted = verdict(sheet, surroundings.now).accepted
    return str(sheet.claims["tcb"]["converged_tcb_status"]) if accepted else REJECTED


def both(platform: Platform, **items: tuple[bytes, ...]) -> tuple[str, str]:
    """Our answer and dcap-qvl's for a platform under our root."""
    collateral, quote = platform.collateral(**items), platform.quote().to_bytes()
    mine = ours(quote, context(tdx_rules(**OPEN), collateral, NOW, platform.roots))
    return mine, verify(quote, collateral, NOW, platform.roots)


@pytest.mark.parametrize("name", cases.names("tdx") + cases.names("sgx"))
def test_genuine_evidence(name: str) -> None:
    case = load(name)
    loose = OPEN | {"allow_any_config_ids": True}
    rules = tdx_rules(**loose) if name.startswith("tdx/") else sgx_rules(**OPEN)
    mine, theirs = ours(case.quote, case.context(rules)), verify(case.quote, case.collateral, case.now)
    assert mine == theirs
    if "alibaba" in name:  # a service TD: ours to allow, never theirs
        allowed = tdx_rules(**loose, allow_any_service_td=True)
        assert mine == REJECTED
        assert ours(case.quote, case.context(allowed)) == case.expected["tcb"]["converged_tcb_status"]


# Rows that turn on a policy key of ours have no counterpart there.
SHARED = [row for row in CHANGES if all(key.isupper() for key in row[2])]


@pytest.mark.parametrize("row", SHARED, ids=[row[0] for row in SHARED])
def test_altered_platforms(row: tuple[str, dict[str, Any], dict[str, Any], str]) -> None:
    name, changes, keys, _ = row
    mine, theirs = both(Platform(**changes), **keys)
    assert mine == REJECTED
    assert theirs == REJECTED or name in NAMED_ELSEWHERE or theirs.startswith("not expressible")


@pytest.mark.parametrize("row", [row for row in ACCEPTED if not row[2]], ids=lambda row: str(row[0]))
def test_accepted_platforms(row: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    assert both(Platform(**row[1])) == ("UpToDate", "UpToDate")


WORDS = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
         "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked", "Splendid")  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_every_combination_of_statuses(word: str) -> None:
    parts = ("UpToDate", "OutOfDate", "Revoked")
    for module, enclave in itertools.product(parts, parts):
        platform = Platform(
            info=pki.tcb_info(
                tcbLevels=[pki.level(word)], tdxModuleIdentities=[pki.module(1, pki.svn_level(6, module))]
            ),
            identity=pki.qe_identity(tcbLevels=[pki.svn_level(6, enclave)]),
        )
        mine, theirs = both(platform)
        assert mine == theirs, (word, module, enclave)


def test_every_svn_of_a_module_at_launch_and_now() -> None:
    info = pki.tcb_info(tdxModuleIdentities=[pki.module(1, pki.svn_level(6), pki.svn_level(4, "OutOfDate"))])
    for first, second in itertools.product(((3, 1), (4, 1), (6, 1), (5, 0), (6, 2)), repeat=2):
        now = launched(bytes([*second, 3, *([0] * 13)]))
        report = td_report(tee_tcb_svn=bytes([*first, 3, *([0] * 13)]), launched=now)
        mine, theirs = both(Platform(info=info, report=report))
        assert mine == theirs, (first, second)


@pytest.mark.parametrize("bit", range(64))
def test_every_attribute_and_every_feature(bit: int) -> None:
    mine, theirs = both(Platform(**attributes(SEPT | 1 << bit)))
    assert mine == theirs or (mine == REJECTED and bit in STRICTER_ATTRIBUTES)
    mine, theirs = both(Platform(**xfam(0x3 | 1 << bit)))
    assert mine == theirs or (mine == REJECTED and not XFAM_DEFINED >> bit & 1)


@pytest.mark.parametrize("name", ["tdx/v5-uptodate", "tdx/v4-uptodate"])
def test_bytes_changed_at_random(name: str) -> None:
    """Whatever dcap-qvl refuses we refuse; whatever we accept it accepts, with the same status."""
    case, chance = load(name), random.Random(name)
    kinds = [kind for kind in Kind if kind.name.startswith("INTEL") and case.collateral.of(kind)]
    for _ in range(300):
        quote, items = bytearray(case.quote), dict(case.collateral.items)
        target = chance.choice([None, *kinds])
        if target is None:
            quote[chance.randrange(len(quote))] ^= 1 << chance.randrange(8)
        else:
            raw = bytearray(items[target][0])
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            items[target] = (bytes(raw),)
        collateral = Collateral(items)
        mine = ours(bytes(quote), context(tdx_rules(**OPEN), collateral, case.now))
        try:
            theirs = verify(bytes(quote), collateral, case.now)
        except MalformedEvidence:
            theirs = REJECTED
        assert mine in (theirs, REJECTED), (target, theirs)
