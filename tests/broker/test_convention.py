"""The `coco-kbs` convention: what the hardware signs for a broker, and that `verify` holds it to that."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence, Outcome, Policy
from attestation.binding import kbs_device_nonce, kbs_report_data, maa_report_data, report_data
from attestation.kbs import KbsEvidence, additional_evidence
from attestation.kbs.report_json import decode_report, encode_report
from attestation.nvidia import GpuReport
from attestation.snp import SnpReport
from sealing import kbs
from tests.broker.machines import NOW, Machine, bound, challenge, judged, machine
from tests.broker.vectors import VECTORS
from tests.enclave import simulation
from tests.shared import shared

KEY = kbs.TeeKeyPair.generate()


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with machine() as made:
        yield made


def without_workload() -> Policy:
    return replace(simulation.policy(), workload=None)


def test_canonical_json_is_hashed_as_the_attestation_service_hashes_it() -> None:
    vector = VECTORS["canonical"]
    assert hashlib.sha384(rfc8785.dumps(vector["json"])).hexdigest() == vector["sha384"]


def test_the_hashes_of_a_written_out_exchange() -> None:
    vector = VECTORS["binding"]
    runtime, additional = vector["runtime"], vector["additional_evidence"]
    assert rfc8785.dumps(runtime).decode() == vector["canonical_runtime"]
    primary = runtime | {"additional-evidence": additional}
    assert rfc8785.dumps(primary).decode() == vector["canonical_primary"]
    assert kbs_device_nonce(runtime).hex() == vector["device_nonce"]
    assert kbs_report_data(runtime, additional).hex() == vector["report_data"]
    assert kbs.RuntimeData.from_json(runtime).to_json() == runtime


def test_a_device_signs_the_first_32_bytes_of_the_digest() -> None:
    vector = VECTORS["device_nonce"]
    assert bytes.fromhex(vector["digest"])[:32].hex() == vector["nonce"]


def test_the_hashes_cover_what_the_server_hashes(box: Machine) -> None:
    asked = challenge(marked=False)
    sent = json.loads(box.attest(asked, KEY).to_bytes())
    runtime = {"nonce": asked.nonce, "tee-pubkey": sent["runtime-data"]["tee-pubkey"]}
    evidence = sent["tee-evidence"]
    cpu = hashlib.sha384(rfc8785.dumps(runtime | {"additional-evidence": evidence["additional_evidence"]}))
    assert bytes(evidence["primary_evidence"]["attestation_report"]["report_data"]) == cpu.digest() + bytes(
        16
    )
    (device,) = json.loads(evidence["additional_evidence"])["nvidia"]["device_evidence_list"]
    import base64

    report = GpuReport.from_bytes(base64.b64decode(device["evidence"]))
    assert report.request.nonce == hashlib.sha384(rfc8785.dumps(runtime)).digest()[:32]


def test_to_trustee_goes_nothing_of_ours(box: Machine) -> None:
    sent = json.loads(box.attest(challenge(marked=False), KEY, bound()).to_bytes())
    assert sent.keys() == {"init-data", "runtime-data", "tee-evidence"}
    assert sent["runtime-data"].keys() == {"nonce", "tee-pubkey"}
    assert kbs.MARK not in json.dumps(sent)


def test_to_a_broker_of_ours_goes_what_is_loaded(box: Machine) -> None:
    asked, worker = challenge(), bound()
    sent = box.attest(asked, KEY, worker)
    assert sent.runtime_data.bound == worker
    verdict = judged(sent, asked, simulation.policy())
    assert verdict.accepted and verdict.simulated


def test_a_client_of_trustee_is_judged_by_a_policy_without_workload(box: Machine) -> None:
    asked = challenge(marked=False)
    sent = replace(box.attest(asked, KEY), stapled=box.collateral.current().to_json())
    assert judged(sent, asked, without_workload()).accepted
    verdict = judged(sent, asked, simulation.policy())
    assert not verdict.accepted
    assert {str(r.check) for r in verdict.results if r.outcome is Outcome.UNEVALUABLE} >= {"workload.models"}


Change = Callable[[kbs.Attestation], kbs.Attestation]


def _runtime(**changes: Any) -> Change:
    return lambda sent: replace(sent, runtime_data=replace(sent.runtime_data, **changes))


def _evidence(**changes: Any) -> Change:
    return lambda sent: replace(sent, tee_evidence=replace(sent.tee_evidence, **changes))


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (_runtime(nonce="another"), {"bundle.nonce", "snp.report-data", "nvidia.nonce"}),
        (_runtime(tee_pubkey=kbs.TeeKeyPair.generate().public), {"snp.report-data", "nvidia.nonce"}),
        (_runtime(bound=bound(models=())), {"snp.report-data", "nvidia.nonce"}),
        (_runtime(bound=None), {"snp.report-data", "nvidia.nonce"}),
        (_evidence(additional=""), {"bundle.devices", "snp.report-data"}),
    ],
    ids=["nonce", "key", "workload", "no workload", "no devices"],
)
def test_what_is_altered_on_the_way_fails_its_check(box: Machine, change: Change, failing: set[str]) -> None:
    asked = challenge()
    sent = box.attest(asked, KEY, bound())
    assert judged(sent, asked, simulation.policy()).accepted
    verdict = judged(change(sent), asked, simulation.policy())
    assert failing <= simulation.failed(verdict), simulation.failed(verdict)
    assert not verdict.accepted


def test_devices_evidence_is_hashed_exactly_as_sent(box: Machine) -> None:
    asked = challenge()
    sent = box.attest(asked, KEY, bound())
    spaced = json.dumps(json.loads(sent.tee_evidence.additional))
    verdict = judged(_evidence(additional=spaced)(sent), asked, simulation.policy())
    assert simulation.failed(verdict) == {"snp.report-data"}


def test_devices_of_another_machine_are_not_taken(box: Machine) -> None:
    asked = challenge()
    with machine() as other:
        theirs = other.attest(asked, KEY, bound())
    sent = box.attest(asked, KEY, bound())
    spliced = _evidence(additional=theirs.tee_evidence.additional)(sent)
    assert simulation.failed(judged(spliced, asked, simulation.policy())) == {"snp.report-data"}


def test_an_old_answer_to_a_new_challenge(box: Machine) -> None:
    old = box.attest(challenge(), KEY, bound())
    assert "bundle.nonce" in simulation.failed(judged(old, challenge(), simulation.policy()))


def test_what_is_neither_snp_nor_tdx_is_refused_by_name() -> None:
    evidence = KbsEvidence(tee="sgx", runtime={}, primary={})
    with pytest.raises(MalformedEvidence, match="sgx"):
        evidence.cpu()


def test_no_convention_signs_what_another_does() -> None:
    runtime = {"nonce": "n", "tee-pubkey": {}}
    raw = rfc8785.dumps(runtime)
    values = {
        kbs_report_data(runtime, ""),
        maa_report_data(raw),
        report_data(bytes(32), raw, b"", [], raw),
        kbs_device_nonce(runtime).ljust(64, b"\0"),
    }
    assert len(values) == 4
    for strange in ({"nonce": "n"}, runtime | {"other": 1}):
        with pytest.raises(ValueError, match="runtime data"):
            kbs_report_data(strange, "")
    with pytest.raises(ValueError, match="JSON object"):
        maa_report_data(b"cloister/report-data/v1")


def test_genuine_reports_go_through_the_json_form_unchanged() -> None:
    seen = set()
    for path in sorted(shared("evidence", "snp").glob("*/*.bin")):
        raw = path.read_bytes()[:1184]
        try:
            report = SnpReport.from_bytes(raw)
        except MalformedEvidence:
            continue
        value = json.loads(json.dumps(encode_report(raw)))
        assert decode_report(value) == raw
        seen.add(report.version)
    assert len(seen) >= 2


def test_a_report_with_members_of_another_version_is_malformed() -> None:
    value = encode_report(simulation.Machine().bundle().cpu.report)
    assert value["launch_mit_vector"] is None
    for change in (
        {"launch_mit_vector": 3},
        {"cpuid_step": None},
        {"version": 9},
        {"policy": -1},
        {"more": 1},
    ):
        with pytest.raises(MalformedEvidence):
            decode_report(value | change)


@given(
    st.sampled_from(["snp", "tdx", "az-snp-vtpm", "az-tdx-vtpm", "sample"]),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["quote", "cert_chain", "a"]), x),
        max_leaves=5,
    ),
    st.text(max_size=30) | st.just('{"nvidia":{"device_evidence_list":[{}]}}'),
)
def test_nothing_but_malformed_evidence_escapes(tee: str, primary: Any, additional: str) -> None:
    evidence = KbsEvidence(
        tee=tee, runtime={"nonce": "", "tee-pubkey": {}}, primary=primary, additional=additional
    )
    for parse in (evidence.cpu, evidence.devices):
        try:
            parse()
        except MalformedEvidence:
            continue


def test_what_other_attesters_leave_out_or_add_is_taken(box: Machine) -> None:
    asked = challenge()
    sent = box.attest(asked, KEY, bound())
    primary = json.loads(json.dumps(sent.tee_evidence.primary))
    del primary["attestation_report"]["launch_mit_vector"]
    del primary["attestation_report"]["current_mit_vector"]
    primary["cert_chain"].append({"cert_type": {"OTHER": "some-uuid"}, "data": [1, 2, 3]})
    assert judged(_evidence(primary=primary)(sent), asked, simulation.policy()).accepted
    del primary["cert_chain"]
    verdict = judged(_evidence(primary=primary)(sent), asked, simulation.policy())
    assert not verdict.accepted  # nothing to judge the report's key by, and no error


def test_a_device_without_a_name_has_no_place() -> None:
    assert additional_evidence([]) == ""


def test_now_is_the_brokers(box: Machine) -> None:
    asked = challenge()
    sent = box.attest(asked, KEY, bound())
    late = NOW.replace(year=NOW.year + 1)
    assert "keyset.validity" in simulation.failed(judged(sent, asked, simulation.policy(), now=late))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=3), x, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(["nonce", "tee-pubkey", "cloister", "tee", "primary", "additional", "other"]), VALUES)
def test_verify_is_total_over_what_an_attestation_can_hold(box: Machine, name: str, value: Any) -> None:
    from attestation import Collateral, verify

    asked = challenge()
    sent = box.attest(asked, KEY, bound())
    runtime = sent.runtime_data.to_json()
    evidence = KbsEvidence(
        tee="snp",
        runtime=runtime,
        primary=sent.tee_evidence.primary,
        additional=sent.tee_evidence.additional,
    )
    if name in ("tee", "additional"):
        evidence = replace(evidence, **{name: str(value)})
    elif name == "primary":
        evidence = replace(evidence, primary={**evidence.primary, "cert_chain": value})
    else:
        evidence = replace(evidence, runtime=runtime | {name: value})
    try:
        verdict = verify(evidence, Collateral(), simulation.policy(), nonce=asked.nonce.encode(), now=NOW)
    except MalformedEvidence:
        return
    assert not verdict.accepted
