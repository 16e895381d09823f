"""Every check of a bundle as a whole fails for one reason at a time; the unchanged bundle passes all.

The hardware is simulated. Each changed bundle is gathered anew, so its reports cover what it says.
"""

import io
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from attestation import Bundle, LoadedModel, OhttpKey, Policy, Session, Verdict, Workload, verify
from attestation.bundles import SESSION_WINDOW
from attestation.checks import BundleCheck
from cloister.cli import render
from enclave.simulator.gpu import measurement_digest
from enclave.simulator.reference import policy_for
from tests.enclave import simulation
from tests.enclave.simulation import CODE, MEASUREMENT, NONCE, NONE, NOW, Machine

MODEL = LoadedModel(name="faq", root=b"m" * 32, owner="aa" * 32)
ADAPTER = LoadedModel(name="tone", root=b"a" * 32, owner="aa" * 32)
WORKLOAD = Workload(
    software="cloister test",
    models=(MODEL,),
    adapters=(ADAPTER,),
    engine={"dtype": "float32", "insecure_gpu": True},
    policies=("issuer:sha256:00",),
    consent="sha256:11",
    clock="host",
)
SESSION = Session(
    key=OhttpKey(key_id=9, kem=0x20, public_key=bytes(32), suites=((1, 1),)),
    not_after=int(NOW.timestamp()) + 60,
)
POLICY: dict[str, Any] = {
    "software": WORKLOAD.software,
    "models": {"faq": MODEL.root},
    "adapters": {"tone": ADAPTER.root},
    "owners": [bytes.fromhex(MODEL.owner)],
    "policies": WORKLOAD.policies,
    "consents": [WORKLOAD.consent],
}


def policy(devices: int = 1, head: str = "", **changes: Any) -> Policy:
    text = policy_for(MEASUREMENT, measurement_digest(CODE), devices=devices, **(POLICY | changes))
    return Policy.from_toml(head + text)


def bundle(session: Session | None = SESSION, start: int = 0, life: int = 3600, **changes: Any) -> Bundle:
    """Evidence of a worker that has loaded WORKLOAD with `changes`; its keyset holds from NOW + `start`."""
    return Machine().bundle(
        session=session and session.to_bytes(),
        keys=simulation.keyset(NOW + timedelta(seconds=start), life=life),
        loaded=replace(WORKLOAD, **changes).to_bytes(),
    )


def judge(made: Bundle, rules: Policy | None = None, nonce: bytes | None = NONCE, age: float = 1) -> Verdict:
    received = Bundle.from_json(made.to_json())
    return verify(received, NONE, rules or policy(), nonce=nonce, now=NOW, nonce_age=timedelta(seconds=age))


def asked(**values: Any) -> set[str]:
    """What blocks an untouched bundle whose verifier expects `values` besides the nonce."""
    verdict = verify(bundle(), NONE, policy(), nonce=NONCE, now=NOW, nonce_age=timedelta(seconds=1), **values)
    return blocking(verdict)


def blocking(verdict: Verdict) -> set[str]:
    return {str(result.check) for result in verdict.blocking()}


def test_the_unchanged_bundle_passes_every_check() -> None:
    verdict = judge(bundle())
    assert verdict.word == "SIMULATED", verdict.summary()
    passed = {r.check for r in verdict.results if r.subject == "bundle" and r.outcome == "pass"}
    assert passed == set(BundleCheck)
    claims = verdict.claims["bundle"]
    assert claims["software"] == "cloister test"
    assert claims["engine"] == {"dtype": "float32", "insecure_gpu": True}
    assert [item["name"] for item in (*claims["models"], *claims["adapters"])] == ["faq", "tone"]


def test_at_the_borders_it_still_passes() -> None:
    assert judge(bundle(), age=60).accepted
    assert judge(bundle(), age=0).accepted
    assert judge(bundle(start=9, life=24 * 3600 - 9)).accepted
    assert judge(bundle(policies=(), adapters=())).accepted
    latest = int(NOW.timestamp()) + SESSION_WINDOW
    assert judge(bundle(session=replace(SESSION, not_after=latest))).accepted
    assert judge(bundle(session=None)).accepted


OTHER = replace(MODEL, root=b"o" * 32)
REJECTED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], BundleCheck]] = [
    ({}, {}, {"nonce": bytes(32)}, BundleCheck.NONCE),
    ({}, {}, {"nonce": None}, BundleCheck.NONCE),
    ({}, {}, {"age": 61}, BundleCheck.FRESHNESS),
    ({}, {}, {"age": -1}, BundleCheck.FRESHNESS),
    ({}, {"devices": 2}, {}, BundleCheck.DEVICES),
    ({"start": 10}, {}, {}, BundleCheck.KEYSET_VALIDITY),
    ({"start": -3600}, {}, {}, BundleCheck.KEYSET_VALIDITY),
    ({"life": 24 * 3600}, {}, {}, BundleCheck.KEYSET_VALIDITY),
    ({"session": None}, {"head": "require_session = true\n"}, {}, BundleCheck.SESSION_VALIDITY),
    ({"session": replace(SESSION, not_after=int(NOW.timestamp()))}, {}, {}, BundleCheck.SESSION_VALIDITY),
    ({"session": replace(SESSION, not_after=SESSION.not_after + 9999)}, {}, {}, BundleCheck.SESSION_VALIDITY),
    ({"session": replace(SESSION, key=replace(SESSION.key, key_id=1))}, {}, {}, BundleCheck.SESSION_VALIDITY),
    ({"software": "cloister other"}, {}, {}, BundleCheck.WORKLOAD_SOFTWARE),
    ({"models": (OTHER,)}, {}, {}, BundleCheck.WORKLOAD_MODELS),
    ({"models": (MODEL, replace(OTHER, name="more"))}, {}, {}, BundleCheck.WORKLOAD_MODELS),
    ({"models": (replace(MODEL, name="expert"),)}, {}, {}, BundleCheck.WORKLOAD_MODELS),
    ({"models": (replace(MODEL, owner="bb" * 32),)}, {}, {}, BundleCheck.WORKLOAD_MODELS),
    ({"adapters": (replace(ADAPTER, root=b"o" * 32),)}, {}, {}, BundleCheck.WORKLOAD_ADAPTERS),
    ({"adapters": (replace(ADAPTER, name="other"),)}, {}, {}, BundleCheck.WORKLOAD_ADAPTERS),
    ({"adapters": (replace(ADAPTER, owner="bb" * 32),)}, {}, {}, BundleCheck.WORKLOAD_ADAPTERS),
    ({}, {"adapters": {}}, {}, BundleCheck.WORKLOAD_ADAPTERS),
    ({"policies": ("issuer:sha256:00", "issuer:sha256:01")}, {}, {}, BundleCheck.WORKLOAD_POLICIES),
    ({}, {"policies": []}, {}, BundleCheck.WORKLOAD_POLICIES),
    ({"consent": "sha256:22"}, {}, {}, BundleCheck.WORKLOAD_CONSENT),
    ({"consent": ""}, {}, {}, BundleCheck.WORKLOAD_CONSENT),
    ({}, {"clock": "tee"}, {}, BundleCheck.WORKLOAD_CLOCK),
]


FOLLOW = {BundleCheck.DEVICES: {"nvidia-list.count"}}  # the list of GPUs counts itself as well


@pytest.mark.parametrize(("made", "rules", "keys", "check"), REJECTED)
def test_rejected_for_one_reason(
    made: dict[str, Any], rules: dict[str, Any], keys: dict[str, Any], check: BundleCheck
) -> None:
    expected = {str(check)} | FOLLOW.get(check, set())
    assert blocking(judge(bundle(**made), policy(**rules), **keys)) == expected


def test_a_policy_for_another_tee_rejects() -> None:
    """The verdict stops at the CPU: without a section for it nothing ties keys to hardware."""
    text = policy_for(MEASUREMENT, measurement_digest(CODE), **POLICY)
    start, end = text.index("[snp]"), text.index("[nvidia_gpu]")
    tdx = "[tdx]\nminimum_tcb_evaluation_data_number = 1\nallow_any_measurement = true\n\n"
    verdict = judge(bundle(), Policy.from_toml(text[:start] + tdx + text[end:]))
    assert blocking(verdict) == {"bundle.cpu-tee"}


def test_a_policy_that_knows_of_no_gpu_rejects_a_worker_with_one() -> None:
    text = policy_for(MEASUREMENT, measurement_digest(CODE), **POLICY)
    verdict = judge(bundle(), Policy.from_toml(text[: text.index("[nvidia_gpu]")]))
    assert blocking(verdict) == {"bundle.devices"}


def test_what_a_bundle_has_no_place_for_rejects() -> None:
    """Its report data binds keys and workload, so no other can be asked for; a nonce it does carry."""
    assert asked() == set()
    for name in ("report_data", "user_data", "public_key"):
        assert asked(**{name: bytes(64)}) == {"evidence.inputs"}
    assert asked(runtime={"a": 1}) == {"evidence.inputs"}


@pytest.mark.parametrize("insecure", [True, False])
def test_a_person_reads_that_the_gpu_is_vouched_for_by_nothing(insecure: bool) -> None:
    console = Console(record=True, file=io.StringIO())
    render.verdict(console, judge(bundle(engine={"insecure_gpu": True} if insecure else {})))
    assert ("no evidence vouches for (insecure_gpu)" in console.export_text()) == insecure
