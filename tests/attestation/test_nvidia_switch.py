"""An NVSwitch alone: its report, chain, BIOS manifest, each with a switch that fails it."""

from typing import Any

import pytest

from attestation import MalformedEvidence
from attestation.nvidia import appraise_switch
from attestation.verdict import Outcome, Sheet

from .nvidia import RIMS, accepted, case, context, failures, policy, result, switch_policy

LS10 = case("nvidia-nvswitch/ls10-full-rim-match")


def judge(
    report: bytes = LS10.report,
    chain: bytes = LS10.chain,
    *,
    nonce: bytes | None = LS10.nonce,
    rims: tuple[bytes, ...] = LS10.rims,
    **rules: Any,
) -> Sheet:
    """The sheet of a genuine switch, or of an alteration of it."""
    around = context(policy(), LS10.at, rims=rims)
    written = switch_policy(**(RIMS | rules))
    return appraise_switch(report, chain, around, subject="switch0", nonce=nonce, rules=written)


def test_a_genuine_switch_is_accepted() -> None:
    sheet = judge()
    assert accepted(sheet, at=LS10.at)
    assert result(sheet, "nvidia.rim-measurements").found == "31 active, none differs"
    assert sheet.claims["chip"] == "LS10"


def test_an_altered_report_fails() -> None:
    raw = bytearray(LS10.report)
    raw[60] ^= 1  # inside the first measurement
    assert failures(judge(bytes(raw))) == ["nvidia.report-signature", "nvidia.rim-measurements"]


def test_another_nonce_fails() -> None:
    assert failures(judge(nonce=bytes(32))) == ["nvidia.nonce"]


def test_a_gpus_chain_fails() -> None:
    gpu = case("nvidia-gpu/h100-550").chain
    found = failures(judge(chain=gpu))
    assert found == ["nvidia.chip", "nvidia.report-signature", "nvidia.rim-found"]


def test_an_altered_manifest_fails() -> None:
    altered = case("nvidia-nvswitch/fail-rim-altered").rims
    found = failures(judge(rims=altered))
    assert found == ["nvidia.rim-signature", "nvidia.rim-validity", "nvidia.rim-measurements"]


@pytest.mark.parametrize("manifest", [(), case("nvidia-rim/vbios-gh100-74-1c").files["rim.xml"]])
def test_a_missing_manifest_is_unevaluable(manifest: bytes | tuple[()]) -> None:
    sheet = judge(rims=(manifest,) if manifest else ())
    assert result(sheet, "nvidia.rim-found").outcome is Outcome.UNEVALUABLE
    assert not accepted(sheet, at=LS10.at)


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({"vbios_versions": ["96.10.55.00.01"]}, True),
        ({"minimum_vbios": ["96.10.56.00.00"]}, False),
        ({"minimum_vbios": ["96.00.00.00.00"]}, False),
    ],
)
def test_bios_versions(rules: dict[str, Any], passes: bool) -> None:
    sheet = judge(allow_any_vbios=None, **rules)
    assert failures(sheet) == ([] if passes else ["nvidia.vbios-version"])


def test_a_report_cut_short_is_malformed() -> None:
    with pytest.raises(MalformedEvidence):
        judge(LS10.report[:-1])
