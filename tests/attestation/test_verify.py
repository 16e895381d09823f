"""`verify` over every kind of evidence: missing sections, values it cannot carry, stapled keys."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from attestation import (
    AciEvidence,
    AzureVtpm,
    Bundle,
    Collateral,
    CpuEvidence,
    DeviceEvidence,
    DstackDocument,
    Evidence,
    GpuEvidence,
    Kind,
    MaaEvidence,
    MalformedEvidence,
    NitroEvidence,
    NrasEvidence,
    Policy,
    RimEvidence,
    SgxEvidence,
    SnpEvidence,
    TdxEvidence,
    TinfoilDocument,
    TpmQuotes,
    Verdict,
    recognise,
    verify,
)
from attestation.policy import SECTIONS, TEES
from attestation.standalone import FORMS
from tests.evidence_cases import SHARED, Case, cases
from tests.shared import shared

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HEAD = 'version = 1\nroots = ["amd", "nvidia"]\nmax_verdict_age = 3600\n'
SNP = HEAD + '[snp]\nproducts = ["Genoa"]\nallow_any_measurement = true\nallow_any_tcb = true\n'
GPU = (
    HEAD + '[nvidia_gpu]\ncount = 1\nchips = ["GH100"]\nallow_any_driver = true\nallow_any_vbios = true\n'
    "allow_any_measurements = true\nallow_missing_fwid = true\nallow_missing_ocsp = true\n"
)
GENUINE = {
    SnpEvidence: "snp/turin-v5-vcek",
    TdxEvidence: "tdx/v5-uptodate",
    SgxEvidence: "sgx/v3-config-and-swhardening-needed",
    GpuEvidence: "nvidia-gpu/h100-550",
    RimEvidence: "nvidia-rim/vbios-gh100-74-1c",
    TpmQuotes: "tpm/gce-cos85-nonce9009",
    NitroEvidence: "aws-nitro/dstack-2025",
    MaaEvidence: "azure-maa/windows-cvm-2023",
    NrasEvidence: "nvidia-nras/v3-single-h100",
    AciEvidence: "azure-aci/milan-2023-uvm-svn22",
    AzureVtpm: "azure-snp-vtpm/genoa",
    TinfoilDocument: "composite/tdx-h100-bound-channel",
    DstackDocument: "composite/dstack-tdx-8x-h200",
}


def genuine(kind: type[Any]) -> tuple[Evidence, Case]:
    (case,) = cases(shared("evidence", *GENUINE[kind].split("/")))
    return recognise(case.files).evidence, Case(case.folder, case.fields, (SHARED,))


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {f"{r.subject} {r.check}": str(r.outcome) for r in verdict.results}


def test_every_kind_of_evidence_has_a_form() -> None:
    assert set(FORMS) == set(GENUINE)
    assert set(TEES) | {"workload", "composite"} == set(SECTIONS)


@pytest.mark.parametrize("kind", [kind for kind in GENUINE if kind is not SnpEvidence])
def test_a_policy_without_the_section_rejects(kind: type[Any]) -> None:
    evidence, case = genuine(kind)
    verdict = verify(evidence, Collateral(), Policy.from_toml(SNP), nonce=None, now=case.at)
    assert outcomes(verdict) == {"evidence evidence.policy": "fail"}
    assert not verdict.accepted


def test_a_policy_without_snp_rejects_snp() -> None:
    evidence, case = genuine(SnpEvidence)
    verdict = verify(evidence, Collateral(), Policy.from_toml(GPU), nonce=None, now=case.at)
    assert outcomes(verdict) == {"evidence evidence.policy": "fail"}


@pytest.mark.parametrize(
    ("kind", "text", "given"),
    [
        (SnpEvidence, SNP, {"nonce": bytes(32)}),
        (SnpEvidence, SNP, {"user_data": b"x"}),
        (SnpEvidence, SNP, {"public_key": b"x"}),
        (SnpEvidence, SNP, {"runtime": {}}),
        (GpuEvidence, GPU, {"report_data": bytes(64)}),
        (RimEvidence, GPU, {"nonce": bytes(32)}),
    ],
)
def test_what_evidence_cannot_carry_fails_instead_of_being_ignored(
    kind: type[Any], text: str, given: dict[str, Any]
) -> None:
    evidence, case = genuine(kind)
    verdict = verify(evidence, Collateral(), Policy.from_toml(text), **({"nonce": None} | given), now=case.at)
    assert outcomes(verdict)["evidence evidence.inputs"] == "fail"


def test_report_data_that_a_caller_asks_for_is_compared() -> None:
    evidence, case = genuine(SnpEvidence)
    assert isinstance(evidence, SnpEvidence)
    signed = evidence.report[0x50:0x90]
    for wanted, outcome in ((signed, "pass"), (b"\1" * 64, "fail")):
        verdict = verify(
            evidence, Collateral(), Policy.from_toml(SNP), nonce=None, now=case.at, report_data=wanted
        )
        assert outcomes(verdict)["cpu0 snp.report-data"] == outcome
        assert outcomes(verdict)["evidence evidence.inputs"] == "pass"


@pytest.mark.parametrize(("age", "outcome"), [(60, "pass"), (61, "fail"), (-1, "fail")])
def test_freshness_is_judged_where_an_age_is_given(age: int, outcome: str) -> None:
    evidence, case = genuine(GpuEvidence)
    nonce = bytes.fromhex(case.fields["inputs"]["expected_nonce"])
    verdict = verify(
        evidence,
        Collateral(),
        Policy.from_toml(GPU),
        nonce=nonce,
        now=case.at,
        nonce_age=timedelta(seconds=age),
    )
    assert outcomes(verdict)["evidence evidence.freshness"] == outcome
    assert verdict.accepted == (outcome == "pass")


def test_a_verdict_on_a_token_ends_with_the_token() -> None:
    from tests.evidence_cases import judge

    _, case = genuine(NrasEvidence)
    verdict = judge(case)
    assert verdict.accepted
    assert verdict.expires_at == datetime.fromtimestamp(1782702483, UTC)


def test_now_needs_a_time_zone() -> None:
    evidence, _ = genuine(SnpEvidence)
    with pytest.raises(ValueError, match="time zone"):
        verify(evidence, Collateral(), Policy.from_toml(SNP), nonce=None, now=datetime(2026, 1, 1))


def test_keys_that_nobody_signed_are_not_taken_from_evidence() -> None:
    both = Collateral(
        MappingProxyType(
            {
                Kind.AMD_CRL: (b"signed",),
                Kind.AZURE_MAA_KEYS: (b"not signed",),
                Kind.NVIDIA_NRAS_KEYS: (b"not signed",),
            }
        )
    )
    assert dict(both.stapled().items) == {Kind.AMD_CRL: (b"signed",)}


def test_unknown_devices_are_refused() -> None:
    device = DeviceEvidence(tee="other", report=b"", chain=b"")
    verdict = verify(GpuEvidence(devices=(device,)), Collateral(), Policy.from_toml(GPU), nonce=None, now=NOW)
    assert outcomes(verdict) == {"evidence evidence.policy": "fail"}


def test_azure_documents_of_a_bundle_parse_back() -> None:
    evidence, _ = genuine(AzureVtpm)
    assert isinstance(evidence, AzureVtpm)
    assert AzureVtpm.from_json(evidence.to_json(), evidence.endorsements) == evidence
    bare = replace(evidence, quote=None, pcrs={}, td_quote=b"x")
    assert AzureVtpm.from_json(bare.to_json(), bare.endorsements) == bare
    text = evidence.to_json().decode()
    for old, new in (
        ('"quote"', '"quota"'),
        ('"sha256":{"0"', '"sha256":{"00"'),
        ('"sha256":{', '"sha256":[{'),
        ("azure-vtpm/v1", "azure-vtpm/v2"),
    ):
        with pytest.raises(MalformedEvidence):
            AzureVtpm.from_json(text.replace(old, new, 1).encode())


def test_a_bundle_of_a_tee_without_a_section_names_what_is_accepted() -> None:
    from tests.enclave.simulation import Machine, judge

    bundle: Bundle = replace(Machine().bundle(), cpu=CpuEvidence(tee="tdx", report=b"x"))
    assert {r.found for r in judge(bundle).results if r.check == "bundle.cpu-tee"} == {"tdx"}
    assert not judge(bundle).accepted
