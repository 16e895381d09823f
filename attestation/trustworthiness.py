"""AR4SI: what a verdict says of each subject in the vocabulary that other relying parties read.

draft-ietf-rats-ar4si-10, 2.3. Fail closed: a claim is affirming only if checks that feed it were
required, all of them passed, none failed, and the evidence they rest on is authentic; a failure is
contraindicated, never a mere warning. docs/ear.md has the rules, docs/checks.md the claim of each check.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .verdict import Outcome, Result, Verdict


class Tier(StrEnum):
    """The four trustworthiness tiers."""

    AFFIRMING = "affirming"
    NONE = "none"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"

    @classmethod
    def of(cls, value: int) -> "Tier":
        """The tier that a claim's value, -128 to 127, belongs to (AR4SI 2.3.2)."""
        if -1 <= value <= 1:
            return cls.NONE
        if -32 <= value <= 31:
            return cls.AFFIRMING
        return cls.WARNING if -96 <= value <= 95 else cls.CONTRAINDICATED


_ORDER = (Tier.AFFIRMING, Tier.NONE, Tier.WARNING, Tier.CONTRAINDICATED)


def worst(tiers: Iterable[Tier]) -> Tier:
    """The least trusted of `tiers`; "none" is less than affirming, and no tier at all is "none"."""
    return max(tiers, key=_ORDER.index, default=Tier.NONE)


class TrustClaim(StrEnum):
    """The AR4SI claims that a verdict can speak of."""

    INSTANCE_IDENTITY = "instance-identity"
    CONFIGURATION = "configuration"
    EXECUTABLES = "executables"
    HARDWARE = "hardware"
    RUNTIME_OPAQUE = "runtime-opaque"


AUTHENTICITY = "authenticity"
"""Not a claim: without it no claim of the subject says anything."""

_NO_CONCLUSION = 0
_CRYPTOGRAPHY = 99
_UNTRUSTED_ROOTS = -33  # a warning that AR4SI does not enumerate: judged against a caller's own roots
_CONTRAINDICATED = 96
_AFFIRMING = {
    TrustClaim.INSTANCE_IDENTITY: 2,
    TrustClaim.CONFIGURATION: 2,
    TrustClaim.EXECUTABLES: 3,  # during boot; what is loaded later is the measured software's affair
    TrustClaim.HARDWARE: 2,
    TrustClaim.RUNTIME_OPAQUE: 2,
}
_FAILED = dict.fromkeys(TrustClaim, _CONTRAINDICATED) | {TrustClaim.INSTANCE_IDENTITY: 97}

_TABLE: Mapping[str, str] = {
    AUTHENTICITY: """
        bundle.nonce bundle.freshness evidence.inputs evidence.freshness
        composite.nonce composite.certificate composite.channel-key composite.devices-bound
        snp.root snp.chain snp.certificate-validity snp.certificate-form snp.signing-key
        snp.report-signature snp.report-data
        dcap.quote-format dcap.qe-vendor dcap.pck-chain dcap.pck-validity dcap.pck-extension
        dcap.qe-report-signature dcap.attestation-key dcap.quote-signature
        tdx.report-data sgx.report-data
        nvidia.chain-form nvidia.chain-root nvidia.chain-signatures nvidia.chain-validity nvidia.request
        nvidia.nonce nvidia.report-signature nvidia.fwid
        tpm.ak-chain tpm.ak-validity tpm.ak-certificate tpm.ak-attributes tpm.quote-signature
        tpm.quote-nonce tpm.quote-banks tpm.pcr-digest
        nitro.signature nitro.chain nitro.validity nitro.freshness nitro.nonce nitro.user-data
        nitro.public-key
        maa.key maa.signature maa.issuer maa.validity maa.nonce maa.runtime
        nras.key nras.signature nras.issuer nras.validity nras.nonce nras.submodules
        nras-device.signature nras-device.token nras-device.nonce nras-device.report
        azure.hardware azure.runtime azure.ak azure.user-data
        aci.uvm-signature aci.uvm-issuer aci.uvm-chain aci.uvm-validity aci.uvm-usage aci.host-data
        """,
    TrustClaim.INSTANCE_IDENTITY: """
        snp.chip-id snp.chip-allowed snp.csp-id snp.report-id
        dcap.platform dcap.pck-not-revoked
        nvidia.ocsp nvidia.device nvidia-list.distinct
        tpm.ak-pinned nras.distinct nras-device.device
        """,
    TrustClaim.CONFIGURATION: """
        bundle.cpu-tee bundle.devices evidence.policy composite.format
        keyset.validity session.validity workload.policies workload.consent workload.clock
        snp.guest-debug snp.guest-migration snp.smt snp.guest-policy snp.guest-abi snp.guest-svn snp.vmpl
        snp.host-data snp.family-id snp.image-id snp.id-key snp.author-key
        tdx.debug tdx.attributes tdx.xfam tdx.service-td tdx.config-ids
        sgx.debug sgx.config
        nvidia.tcb-flags nvidia.mode nvidia-list.count nvidia-list.single-mode nvidia-list.topology
        nitro.debug
        maa.compliance maa.debug maa.migration maa.secure-boot maa.policy-hash
        nras.devices nras-device.secure-boot nras-device.debug nras-device.warning
        azure.secure-boot azure.tpm aci.security-policy
        """,
    TrustClaim.EXECUTABLES: """
        workload.software workload.models workload.adapters
        snp.measurement tdx.mrtd tdx.rtmrs tdx.event-log sgx.measurement sgx.isvsvn
        nvidia.driver-version nvidia.measurements nvidia.rim-conflict nvidia.rim-measurements
        tpm.pcr-values tpm.event-log nitro.pcrs maa.measurement
        nras-device.measurements nras-device.driver
        aci.uvm-feed aci.uvm-svn aci.measurement
        """,
    TrustClaim.HARDWARE: """
        snp.report-version snp.product snp.crl snp.certificate-tcb snp.tcb-claimed snp.tcb-reported
        snp.tcb-committed snp.tcb-launch snp.tcb-current snp.committed-firmware snp.firmware-version
        snp.mitigations snp.platform-alias-check snp.platform-info
        dcap.root-crl dcap.ca-not-revoked dcap.pck-crl dcap.tcb-signing-chain dcap.tcb-info-signature
        dcap.tcb-info-current dcap.tcb-info-match dcap.qe-identity-signature dcap.qe-identity-current
        dcap.tcb-evaluation-number dcap.qe-identity dcap.tcb-status dcap.advisories dcap.minimum-svns
        tdx.module tdx.mrseam tdx.minimum-tcb
        nvidia.chip nvidia.vbios-version nvidia.rim-found nvidia.rim-signature nvidia.rim-signer
        nvidia.rim-validity nvidia.rim-ocsp
        maa.isolation maa.tcb
        nras.result nras-device.rims nras-device.model nras-device.vbios
        """,
}
FEEDS: Mapping[str, str] = {name: claim for claim, names in _TABLE.items() for name in names.split()}
SIGNATURES = frozenset(
    name for name in FEEDS if name.endswith((".report-signature", ".quote-signature", ".signature"))
) | {"aci.uvm-signature"}
_DEBUG_FACTS = ("policy_debug", "debug")  # claims of SNP; of TDX and SGX


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """What a verdict says of one subject: its tier, and the vector that explains it."""

    status: Tier
    vector: Mapping[TrustClaim, int]


def appraisals(verdict: Verdict) -> dict[str, Appraisal]:
    """The appraisal of every subject of `verdict`, in the order of its results."""
    subjects = dict.fromkeys(result.subject for result in verdict.results)
    return {subject: _appraise(verdict, subject) for subject in subjects}


def _appraise(verdict: Verdict, subject: str) -> Appraisal:
    results = [result for result in verdict.results if result.subject == subject]
    vector = {claim: _value(verdict, results, claim) for claim in _spoken_of(results)}
    opaque = _runtime_opaque(verdict.claims.get(subject, {}))
    if opaque is not None:
        vector[TrustClaim.RUNTIME_OPAQUE] = _limited(verdict, results, TrustClaim.RUNTIME_OPAQUE, opaque)
    tiers = [Tier.of(value) for value in vector.values()]
    return Appraisal(status=worst([_standing(verdict, results), *tiers]), vector=vector)


def _spoken_of(results: list[Result]) -> list[TrustClaim]:
    fed = {FEEDS.get(result.check, TrustClaim.CONFIGURATION) for result in results}
    return [claim for claim in TrustClaim if claim in fed] or [TrustClaim.CONFIGURATION]


def _standing(verdict: Verdict, results: list[Result]) -> Tier:
    """The tier that the results as a whole allow, before any claim is looked at."""
    if verdict.simulated or any(result.outcome is Outcome.FAIL for result in results):
        return Tier.CONTRAINDICATED
    if not _all_required_passed(verdict, results) or not _authentic(verdict, results):
        return Tier.NONE
    return Tier.WARNING if verdict.custom_roots else Tier.AFFIRMING


def _value(verdict: Verdict, results: list[Result], claim: TrustClaim) -> int:
    feeding = [result for result in results if FEEDS.get(result.check, claim) == claim]
    if any(result.outcome is Outcome.FAIL for result in feeding):
        return _limited(verdict, results, claim, _FAILED[claim])
    if not _all_required_passed(verdict, feeding):
        return _limited(verdict, results, claim, _NO_CONCLUSION)
    return _limited(verdict, results, claim, _AFFIRMING[claim])


def _limited(verdict: Verdict, results: list[Result], claim: TrustClaim, value: int) -> int:
    """`value`, or what stands above it: broken cryptography, the simulator's roots, a caller's roots."""
    proofs = [result for result in results if FEEDS.get(result.check) == AUTHENTICITY]
    if any(result.outcome is Outcome.FAIL for result in proofs):
        return _CRYPTOGRAPHY
    about_hardware = claim not in (TrustClaim.CONFIGURATION, TrustClaim.EXECUTABLES)
    if verdict.simulated and about_hardware:
        return _CONTRAINDICATED
    if Tier.of(value) is not Tier.AFFIRMING:
        return value
    if verdict.simulated or not _authentic(verdict, results):
        return _NO_CONCLUSION
    return _UNTRUSTED_ROOTS if verdict.custom_roots and about_hardware else value


def _authentic(verdict: Verdict, results: list[Result]) -> bool:
    """Whether these results rest on evidence that was signed, or on a verdict accepted as a whole."""
    proofs = [result for result in results if FEEDS.get(result.check) == AUTHENTICITY]
    open_ = [r for r in proofs if verdict.requires(r) and r.outcome is not Outcome.PASS]
    signed = any(r.check in SIGNATURES and r.outcome is Outcome.PASS for r in proofs)
    return not open_ and (signed or verdict.accepted)


def _all_required_passed(verdict: Verdict, results: list[Result]) -> bool:
    required = [result for result in results if verdict.requires(result)]
    return bool(required) and all(result.outcome is Outcome.PASS for result in required)


def _runtime_opaque(claims: Mapping[str, Any]) -> int | None:
    """Whether memory is closed to the host, from the report's own words; None if it says nothing."""
    debug = [claims[name] for name in _DEBUG_FACTS if name in claims]
    if not debug:
        return None
    return _CONTRAINDICATED if any(debug) else _AFFIRMING[TrustClaim.RUNTIME_OPAQUE]
