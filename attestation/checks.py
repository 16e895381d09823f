"""The vocabulary of checks. Each TEE's package lists its own, as an enum over `CheckId`.

A member is one check: its stable name, the clause it comes from, what fails it, what to do then.
"""

from enum import StrEnum
from typing import Self


class CheckId(StrEnum):
    """Base of every check name; the value is stable and is what `--json` prints."""

    clause: str
    fails: str
    remedy: str

    def __new__(cls, name: str, clause: str, fails: str, remedy: str) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.clause, member.fails, member.remedy = clause, fails, remedy
        return member


class BundleCheck(CheckId):
    """Checks on a Cloister bundle as a whole: what ties CPU, devices, keys and workload together."""

    NONCE = (
        "bundle.nonce",
        "docs/spec/evidence.md, Binding (N)",
        "the bundle answers another nonce, or the verifier had none of its own",
        "fetch fresh evidence with your own nonce",
    )
    FRESHNESS = (
        "bundle.freshness",
        "docs/policy.md (max_nonce_age)",
        "more time than max_nonce_age passed between making the nonce and having the evidence",
        "attest again; for archived evidence give the time the nonce was made",
    )
    CPU_TEE = (
        "bundle.cpu-tee",
        "docs/spec/evidence.md, Binding (D)",
        "the policy has no section for the CPU TEE of this bundle, or also one for a TEE that wraps it",
        "add a section for that TEE to the policy, or use a worker on a TEE the policy names",
    )
    DEVICES = (
        "bundle.devices",
        "docs/spec/evidence.md, Binding (D)",
        "the number or kind of devices is not what the policy asks for",
        "check whether the operator stripped device evidence; set the policy's device count",
    )
    KEYSET_VALIDITY = (
        "keyset.validity",
        "docs/spec/evidence.md, Documents (keyset)",
        "the keyset is expired, not yet valid, or valid for more than 24 h",
        "attest again; check the clocks of worker and client",
    )
    SESSION_VALIDITY = (
        "session.validity",
        "docs/spec/evidence.md, Documents (session)",
        "the one-time session key is expired, lives too long, reuses a key id, or is demanded and missing",
        "attest again; a busy worker may have none to give",
    )
    WORKLOAD_SOFTWARE = (
        "workload.software",
        "docs/spec/evidence.md, Documents (workload)",
        "the named software is not in the policy, or no measured register confirms it",
        "compare with the release you trust; see `cloister measure`",
    )
    WORKLOAD_MODELS = (
        "workload.models",
        "docs/spec/evidence.md, Documents (workload)",
        "a model is loaded whose root the policy does not list, or under another name, or owned by others",
        "add name=root to [workload] models, and the owner of a sealed one to owners, if you trust them",
    )
    WORKLOAD_ADAPTERS = (
        "workload.adapters",
        "docs/spec/evidence.md, Documents (workload)",
        "an adapter is loaded whose root the policy does not list, or under another name, or owned by others",
        "add name=root to [workload] adapters, and the owner of a sealed one to owners, if you trust them",
    )
    WORKLOAD_POLICIES = (
        "workload.policies",
        "docs/spec/evidence.md, Documents (workload)",
        "a policy or token issuer that your policy does not list is in force",
        "add its digest to [workload] policies if you trust it",
    )
    WORKLOAD_CONSENT = (
        "workload.consent",
        "docs/spec/consent.md, 3",
        "no consent of those that the policy names is in force, or one that it does not name",
        "read the consent (`cloister consent show`) and add its digest to [workload] consents if you agree",
    )
    WORKLOAD_CLOCK = (
        "workload.clock",
        "docs/spec/evidence.md, Documents (workload)",
        "the worker relies on the host's clock and the policy does not allow it",
        'write clocks = ["host"] in [workload] if that is acceptable',
    )


class EvidenceCheck(CheckId):
    """Checks on how evidence, policy and what the verifier asked for fit together."""

    POLICY = (
        "evidence.policy",
        "docs/verifying.md",
        "the policy has no section for this kind of evidence, or has one for what should come with it",
        "add the section that the check names, or send evidence of a kind that the policy accepts, all of it",
    )
    INPUTS = (
        "evidence.inputs",
        "docs/verifying.md",
        "a value was given that the evidence must carry, and this kind of evidence has no place for it",
        "give the value that this kind binds: a nonce or the report data; see docs/verifying.md",
    )
    FRESHNESS = (
        "evidence.freshness",
        "docs/policy.md (max_nonce_age)",
        "more time than max_nonce_age passed between making the nonce and having the evidence",
        "attest again; for archived evidence give the time the nonce was made",
    )
