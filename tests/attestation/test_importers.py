"""Other providers' documents: each link between keys, nonce, devices and CPU broken by itself."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from attestation import (
    DstackDocument,
    MalformedEvidence,
    Policy,
    Roots,
    TinfoilDocument,
    Verdict,
    recognise,
    verify,
)
from attestation.importers.members import devices, members
from attestation.importers.tinfoil import Tinfoil
from tests import evidence_cases
from tests.attestation.clouds import mutated, parses
from tests.evidence_cases import SHARED, Case, cases
from tests.shared import shared

TINFOIL = "composite/tdx-h100-bound-channel"
ROUTER = "composite/snp-genoa-bound-channel"
DSTACK = "composite/dstack-tdx-8x-h200"


def load(name: str) -> Case:
    (case,) = cases(shared("evidence", *name.split("/")))
    return Case(case.folder, case.fields, (SHARED,))


def judge(
    name: str,
    evidence: Any = None,
    *,
    nonce: bytes | None = b"",
    key: bytes | None = None,
    weak: bool = False,
    devices: int | None = None,
) -> Verdict:
    """The verdict on `evidence` in place of the case's, with its collateral and clock."""
    case = load(name)
    found = recognise(case.files)
    gpus = devices if devices is not None else {TINFOIL: 1, ROUTER: 0, DSTACK: 8}[name]
    supplies = (["gpus"] if gpus else []) + (["dstack"] if weak else [])
    numbers = {"gpus": str(gpus), "switches": "0", "devices": "1", "issuer": ""}
    policy = evidence_cases.policy_for("composite", supplies, numbers)
    collateral = found.collateral.merged(evidence_cases._collateral(case))
    expected = bytes.fromhex(case.fields["inputs"]["expected_nonce"]) if nonce == b"" else nonce
    return verify(evidence or found.evidence, collateral, policy, nonce=expected, now=case.at, public_key=key)


def blocking(verdict: Verdict) -> set[str]:
    return {f"{r.subject} {r.check}" for r in verdict.blocking()}


def document(name: str, alter: Callable[[dict[str, Any]], None]) -> TinfoilDocument:
    evidence = recognise(load(name).files).evidence
    assert isinstance(evidence, TinfoilDocument)
    value = json.loads(evidence.document)
    alter(value)
    return replace(evidence, document=json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("name", [TINFOIL, ROUTER])
def test_genuine_documents_are_accepted_and_name_their_keys(name: str) -> None:
    verdict = judge(name)
    assert verdict.accepted, verdict.summary()
    keys = verdict.claims["document"]["report_data_parts"]
    for part in ("tls_key_fp", "hpke_key"):
        assert judge(name, key=bytes.fromhex(keys[part])).accepted
    assert blocking(judge(name, key=bytes(32))) == {"document composite.channel-key"}
    assert blocking(judge(name, nonce=bytes(32))) == {"document composite.nonce"}
    assert blocking(judge(name, nonce=None)) == {"document composite.nonce"}


@pytest.mark.parametrize("part", ["tls_key_fp", "hpke_key"])
def test_keys_put_in_place_are_refused(part: str) -> None:
    forged = document(TINFOIL, lambda d: d["report_data"].update({part: "42" * 32}))
    failed = blocking(judge(TINFOIL, forged))
    assert "cpu0 tdx.report-data" in failed
    assert failed == {"cpu0 tdx.report-data"} | (
        {"document composite.certificate"} if "tls" in part else set()
    )


def test_a_nonce_put_in_place_is_refused_by_cpu_and_gpu() -> None:
    forged = document(TINFOIL, lambda d: d["report_data"].update(nonce="42" * 32))
    assert blocking(judge(TINFOIL, forged, nonce=b"\x42" * 32)) == {
        "cpu0 tdx.report-data",
        "gpu0 nvidia.nonce",
    }


def test_device_evidence_stripped_is_refused() -> None:
    forged = document(TINFOIL, lambda d: d.pop("gpu"))
    assert "document composite.devices-bound" in blocking(judge(TINFOIL, forged))


def test_device_evidence_added_and_not_bound_is_refused() -> None:
    gpu = json.loads(load(TINFOIL).files["attestation.json"])["gpu"]
    forged = document(ROUTER, lambda d: d.update(gpu=gpu))
    assert "document composite.devices-bound" in blocking(judge(ROUTER, forged, devices=1))


def test_device_evidence_is_hashed_as_sent() -> None:
    def spaced(value: dict[str, Any]) -> None:
        value["gpu"] = {"evidences": value["gpu"]["evidences"], "more": 1}

    assert blocking(judge(TINFOIL, document(TINFOIL, spaced))) == {"document composite.devices-bound"}


def test_devices_that_the_policy_wants_and_the_document_lacks_are_missed() -> None:
    assert {"devices nvidia-list.count"} < blocking(judge(ROUTER, devices=1))


def test_a_format_must_be_listed() -> None:
    assert "document composite.format" in blocking(judge(TINFOIL, weak=True))


@pytest.mark.parametrize(
    "alter",
    [
        lambda d: d.update(format="https://tinfoil.sh/predicate/attestation/v2"),
        lambda d: d.update(body=""),
        lambda d: d["report_data"].update(extra="00" * 32),
        lambda d: d["report_data"].pop("hpke_key"),
        lambda d: d["report_data"].update(nonce="00" * 31),
        lambda d: d["cpu"].update(platform="sev"),
        lambda d: d["cpu"].update(report="?"),
        lambda d: d.update(certificate="none"),
        lambda d: d.update(gpu={"evidences": [{"evidence": "AA==", "certificate": 7}]}),
        lambda d: d.update(gpu=[[]]),
    ],
)
def test_documents_of_another_form_are_malformed(alter: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(MalformedEvidence):
        judge(TINFOIL, document(TINFOIL, alter))


def test_dstack_binds_key_and_nonce_but_no_device() -> None:
    assert judge(DSTACK, weak=True).accepted
    strict = judge(DSTACK)
    assert blocking(strict) == {"document composite.devices-bound"}
    (missing,) = strict.blocking()
    assert "nonce alone" in missing.found
    address = bytes.fromhex("6525e128afcffebf7eed05d485d7be983cdae934")
    assert judge(DSTACK, weak=True, key=address).accepted
    assert blocking(judge(DSTACK, weak=True, key=bytes(20))) == {"document composite.channel-key"}


def test_a_dstack_document_for_another_nonce_is_refused() -> None:
    failed = blocking(judge(DSTACK, weak=True, nonce=bytes(32)))
    assert failed == {"document composite.nonce", "cpu0 tdx.report-data"}
    assert "document composite.nonce" in blocking(judge(DSTACK, weak=True, nonce=None))


def test_a_dstack_device_left_out_or_repeated_is_refused() -> None:
    evidence = recognise(load(DSTACK).files).evidence
    assert isinstance(evidence, DstackDocument)
    fewer = replace(evidence, devices=evidence.devices[:-1])
    assert blocking(judge(DSTACK, fewer, weak=True)) == {"devices nvidia-list.count"}
    twice = replace(evidence, devices=(*evidence.devices[:-1], evidence.devices[0]))
    assert blocking(judge(DSTACK, twice, weak=True)) == {"devices nvidia-list.distinct"}


def test_members_stand_as_sent() -> None:
    raw = b' { "a" : [1, {"b":"\\u0041"} ] ,\n"c":"x" } '
    value, sent = members(raw, 100)
    assert value == {"a": [1, {"b": "A"}], "c": "x"}
    assert sent == {"a": b'[1, {"b":"\\u0041"} ]', "c": b'"x"'}
    assert members(b"{}", 100) == ({}, {})
    for bad in (b"[]", b'{"a":1,"a":2}', b"{} x"):
        with pytest.raises(MalformedEvidence):
            members(bad, 100)


def test_lists_of_devices_are_bounded() -> None:
    with pytest.raises(MalformedEvidence):
        devices([{}] * 65, "nvidia-gpu")
    with pytest.raises(MalformedEvidence):
        devices({"other": []}, "nvidia-gpu")


@settings(max_examples=60, deadline=None)
@given(mutated((SHARED / ROUTER / "attestation.json").read_bytes() if SHARED.is_dir() else b"{}"))
def test_altered_documents_parse_or_are_malformed(raw: bytes) -> None:
    parses(Tinfoil.from_json, raw)


def test_the_hash_covers_every_part_in_order() -> None:
    parsed = Tinfoil.from_json(load(TINFOIL).files["attestation.json"])
    assert list(parsed.parts) == ["tls_key_fp", "hpke_key", "nonce", "gpu_evidence_hash"]
    joined = b"".join(parsed.parts.values())
    assert parsed.report_data == hashlib.sha256(joined).digest() + bytes(32)


def test_other_roots_do_not_do() -> None:
    case = load(ROUTER)
    text = (
        'version = 1\nroots = ["nvidia"]\nmax_verdict_age = 60\n[composite]\nformats = ["tinfoil-v3"]\n'
        '[snp]\nproducts = ["Genoa"]\nallow_any_measurement = true\nallow_any_tcb = true\n'
    )
    policy = Policy.from_toml(text).with_roots(Roots.pinned({"nvidia"}))
    evidence = recognise(case.files)
    verdict = verify(evidence.evidence, evidence.collateral, policy, nonce=None, now=case.at)
    assert "cpu0 snp.root" in blocking(verdict)
