"""Evidence with a part left out: what the policy or the verifier asked for is missed, not forgotten."""

from dataclasses import replace

import pytest

from attestation import AciEvidence, Collateral, Policy, Roots, SnpEvidence, Verdict, recognise, verify
from attestation.sources import Evidence
from attestation.tpm import TpmCheck
from tests.attestation import snp_maker
from tests.attestation.tdx_pki import NOW as TDX_NOW
from tests.attestation.test_bundle_tees import AT, SNP, TDX, VTPM, blocking, judge, snp_bundle, tdx_bundle
from tests.attestation.test_forms import load
from tests.evidence_cases import Case, policy_for

NUMBERS = dict.fromkeys(("gpus", "switches", "devices"), "1") | {"issuer": "https://x.invalid"}


def under(policy: Policy, evidence: Evidence, case: Case, nonce: bytes | None = None) -> Verdict:
    pinned = policy.with_roots(Roots.pinned({"amd", "azure", "google"}))
    return verify(evidence, Collateral(), pinned, nonce=nonce, now=case.at)


def test_a_container_instance_without_its_endorsement_is_not_a_bare_report() -> None:
    case = load("azure-aci/milan-2023-uvm-svn22")
    whole = recognise(case.files).evidence
    assert isinstance(whole, AciEvidence)
    policy = policy_for("azure-aci", [], NUMBERS)
    assert under(policy, whole, case).accepted
    stripped = SnpEvidence(report=whole.report, endorsements=whole.endorsements)
    assert blocking(under(policy, stripped, case)) == {"evidence evidence.policy"}
    assert under(replace(policy, azure_aci=None), stripped, case).accepted


def test_hardware_under_a_paravisor_is_not_taken_without_it() -> None:
    case = load("azure-snp-vtpm/genoa-hcl-only")
    policy = policy_for("azure-snp-vtpm", [], NUMBERS)
    assert under(policy, recognise(case.files).evidence, case).accepted
    report, vcek = case.files["hcl_report.bin"][32 : 32 + 1184], case.files["vcek.pem"]
    stripped = SnpEvidence(report=report, endorsements=(vcek,))
    assert blocking(under(policy, stripped, case)) == {"evidence evidence.policy"}
    assert under(replace(policy, azure_vtpm=None), stripped, case).accepted


def test_a_bundle_that_leaves_the_vtpm_out() -> None:
    """A guest of somebody's own on genuine hardware, where registers of Azure's vTPM are pinned."""
    made, roots = snp_bundle((), AT), snp_maker.line().roots()
    assert judge(made, SNP, roots, AT).accepted
    assert blocking(judge(made, SNP + VTPM, roots, AT)) == {"bundle bundle.cpu-tee"}
    made, machine = tdx_bundle()
    assert judge(made, TDX, machine.roots, TDX_NOW).accepted
    assert blocking(judge(made, TDX + VTPM, machine.roots, TDX_NOW)) == {"bundle bundle.cpu-tee"}


@pytest.mark.parametrize("name", ["azure-snp-vtpm/genoa-hcl-only", "tpm/gce-ak-chain"])
def test_a_nonce_that_nothing_quotes_is_not_answered(name: str) -> None:
    case = load(name)
    policy, evidence = policy_for(case.tee, [], NUMBERS), recognise(case.files).evidence
    assert under(policy, evidence, case).accepted
    asked = under(policy, evidence, case, nonce=b"mine")
    assert [r.check for r in asked.blocking()] == [TpmCheck.QUOTE_NONCE]
