"""Bundles on every CPU TEE and with NVSwitches: bound values accepted, anything else refused."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from attestation import (
    AzureVtpm,
    Bundle,
    Collateral,
    CpuEvidence,
    DeviceEvidence,
    Kind,
    MalformedEvidence,
    Policy,
    Roots,
    Verdict,
    bundles,
    verify,
)
from attestation.binding import digest, gpu_nonce, report_data
from attestation.context import Context
from attestation.tdx.event_log import runtime_digest
from attestation.verdict import Sheet
from tests.attestation import snp_maker
from tests.attestation import test_azure_vtpm as azure
from tests.attestation import test_nvidia_list as topology
from tests.attestation.tdx_machine import Platform, td_report
from tests.attestation.tdx_pki import NOW as TDX_NOW
from tests.enclave.simulation import MODEL, keyset, workload

NONCE = bytes(range(32))
HEAD = 'version = 1\nroots = ["amd", "intel", "nvidia"]\nmax_verdict_age = 3600\n'
WORKLOAD = f'[workload]\nsoftware = ["cloister test"]\nmodels = ["{MODEL.hex()}"]\nclocks = ["host"]\n'
TDX = "[tdx]\nminimum_tcb_evaluation_data_number = 1\nallow_any_measurement = true\n"
SNP = (
    '[snp]\nproducts = ["Genoa"]\nallow_any_measurement = true\nallow_any_tcb = true\n'
    "allow_missing_crl = true\nallow_smt = true\n"
)
VTPM = '[azure_vtpm]\nbanks = ["sha256"]\nallow_any_pcrs = true\n'
LENIENT_VTPM = "[azure_vtpm]\nallow_any_pcrs = true\nallow_missing_quote = true\nallow_missing_nonce = true\n"
DEVICES = (
    '[nvidia_gpu]\ncount = 2\nchips = ["GH100"]\nallow_any_vbios = true\nallow_any_measurements = true\n'
    "allow_missing_ocsp = true\nallow_any_driver = true\nallow_protected_pcie = true\n"
    '[nvidia_switch]\ncount = 2\nchips = ["LS10"]\nallow_any_vbios = true\n'
    "allow_any_measurements = true\nallow_missing_ocsp = true\n"
)
AT = snp_maker.NOW


def bound(at: datetime, devices: Sequence[DeviceEvidence] = ()) -> tuple[bytes, bytes, Any]:
    return keyset(at), workload(), [device.bound() for device in devices]


def bundle(at: datetime, cpu: CpuEvidence, devices: tuple[DeviceEvidence, ...] = (), **more: Any) -> Bundle:
    return Bundle(nonce=NONCE, keyset=keyset(at), workload=workload(), cpu=cpu, devices=devices, **more)


def judge(
    made: Bundle, text: str, roots: Roots, at: datetime, collateral: Collateral | None = None
) -> Verdict:
    received = Bundle.from_json(made.to_json())
    policy = Policy.from_toml(HEAD + WORKLOAD + text).with_roots(roots)
    age = timedelta(seconds=1)
    return verify(received, collateral or Collateral(), policy, nonce=NONCE, now=at, nonce_age=age)


def blocking(verdict: Verdict) -> set[str]:
    return {f"{r.subject} {r.check}" for r in verdict.blocking()}


def tdx_bundle(data: bytes | None = None, **fields: Any) -> tuple[Bundle, Platform]:
    keys, loaded, devices = bound(TDX_NOW)
    expected = report_data(NONCE, keys, b"", devices, loaded)
    machine = Platform(report=td_report(report_data=data or expected, **fields))
    cpu = CpuEvidence(tee="tdx", report=machine.quote().to_bytes())
    return bundle(TDX_NOW, cpu, collateral=machine.collateral()), machine


def test_a_bundle_on_tdx() -> None:
    made, machine = tdx_bundle()
    verdict = judge(made, TDX, machine.roots, TDX_NOW)
    assert verdict.accepted, verdict.summary()
    other, _ = tdx_bundle(data=bytes(64))
    assert blocking(judge(other, TDX + "allow_any_report_data = true\n", machine.roots, TDX_NOW)) == {
        "cpu0 tdx.report-data"
    }


def test_the_event_log_of_a_tdx_bundle_is_the_first_endorsement() -> None:
    event = runtime_digest(0x08000001, "app", b"\1")
    register = hashlib.sha384(bytes(48) + event).digest()
    log = json.dumps([{"imr": 3, "event_type": 0x08000001, "event": "app", "event_payload": "01"}]).encode()
    made, machine = tdx_bundle(rtmr3=register)
    with_log = replace(made, cpu=replace(made.cpu, endorsements=(log,)))
    rules = TDX + "require_event_log = true\n"
    assert judge(with_log, rules, machine.roots, TDX_NOW).accepted
    assert blocking(judge(made, rules, machine.roots, TDX_NOW)) == {"cpu0 tdx.event-log"}
    other = replace(made, cpu=replace(made.cpu, endorsements=(log.replace(b'"01"', b'"02"'),)))
    assert blocking(judge(other, rules, machine.roots, TDX_NOW)) == {"cpu0 tdx.event-log"}


def azure_bundle(nonce: bytes | None = None, **parts: Any) -> Bundle:
    at = snp_maker.NOW
    keys, loaded, devices = bound(at)
    signed = azure.quote(nonce=nonce or digest(NONCE, keys, b"", devices, loaded))
    given: dict[str, Any] = {
        "hcl": azure.hcl(azure.runtime()).to_bytes(),
        "quote": signed,
        "pcrs": {"sha256": azure.VALUES},
    } | parts
    vcek = (snp_maker.line().vcek().der,)
    cpu = CpuEvidence(tee="azure-snp-vtpm", report=AzureVtpm(**given).to_json(), endorsements=vcek)
    return bundle(at, cpu)


def test_a_bundle_on_azure_is_bound_by_the_quote() -> None:
    roots, at = snp_maker.line().roots(), snp_maker.NOW
    verdict = judge(azure_bundle(), SNP + VTPM, roots, at)
    assert verdict.accepted, verdict.summary()
    replayed = judge(azure_bundle(nonce=bytes(48)), SNP + VTPM, roots, at)
    assert blocking(replayed) == {"cpu0.vtpm tpm.quote-nonce"}


def test_a_bundle_on_azure_needs_its_quote_whatever_the_policy_waives() -> None:
    roots, at = snp_maker.line().roots(), snp_maker.NOW
    assert judge(azure_bundle(), SNP + LENIENT_VTPM, roots, at).accepted
    without = judge(azure_bundle(quote=None), SNP + LENIENT_VTPM, roots, at)
    assert blocking(without) == {
        f"cpu0.vtpm tpm.{name}" for name in ("quote-signature", "quote-nonce", "pcr-digest")
    }
    assert blocking(judge(azure_bundle(), SNP, roots, at)) >= {"bundle bundle.cpu-tee"}


def test_an_azure_report_of_the_other_kind_is_refused() -> None:
    roots, at = snp_maker.line().roots(), snp_maker.NOW
    made = azure_bundle()
    relabelled = replace(made, cpu=replace(made.cpu, tee="azure-tdx-vtpm"))
    assert "bundle bundle.cpu-tee" in blocking(judge(relabelled, SNP + VTPM, roots, at))
    both = judge(relabelled, SNP + TDX + VTPM, roots, at)
    assert not both.accepted
    with pytest.raises(MalformedEvidence):
        judge(replace(made, cpu=replace(made.cpu, report=b"{}")), SNP + VTPM, roots, at)


def snp_bundle(devices: tuple[DeviceEvidence, ...], at: datetime) -> Bundle:
    line = snp_maker.line()
    keys, loaded, triples = bound(at, devices)
    report = line.report(report_data=report_data(NONCE, keys, b"", triples, loaded))
    cpu = CpuEvidence(tee="sev-snp", report=report, endorsements=(line.vcek().der,))
    return bundle(at, cpu, devices)


def machine() -> tuple[tuple[DeviceEvidence, ...], Roots]:
    """Two GPUs in protected-PCIe mode and the two switches between them, each for its own nonce."""
    made: list[DeviceEvidence] = []
    for index, (kind, maker) in enumerate(
        [("nvidia-gpu", one) for one in topology.GPUS]
        + [("nvidia-nvswitch", one) for one in topology.SWITCHES]
    ):
        nonce = gpu_nonce(NONCE, keyset(AT), b"", index)
        number = index % 2
        fields: dict[str, Any] = {"PROTECTED_PCIE_STATUS": b"\xaa", "FEATURE_FLAG": b"\2\0"}
        fields |= {"SWITCH_PDI": topology.LINKS}
        if kind == "nvidia-nvswitch":
            fields = {"DRIVER_VERSION": None, "NVDEC0_STATUS": None, "PROTECTED_PCIE_STATUS": None}
            fields |= {"FEATURE_FLAG": None, "DEVICE_PDI": topology.SWITCH_IDS[number]}
            fields |= {"SWITCH_GPU_PDIS": topology.PORTS}
        made.append(DeviceEvidence(tee=kind, report=maker.report(nonce=nonce, **fields), chain=maker.chain))
    amd, nvidia = snp_maker.line().roots(), topology.GPUS[0].roots
    both = MappingProxyType({**amd.anchors, **nvidia.anchors})
    return tuple(made), Roots(names=frozenset({"test"}), anchors=both, custom=True)


def test_gpus_and_switches_of_a_bundle_are_judged_together() -> None:
    devices, roots = machine()
    assert judge(snp_bundle(devices, AT), SNP + DEVICES, roots, AT).accepted
    without = judge(snp_bundle(devices[:2], AT), SNP + DEVICES, roots, AT)
    assert {"bundle bundle.devices", "devices nvidia-list.count"} <= blocking(without)
    swapped = (devices[1], devices[0], *devices[2:])
    failed = blocking(judge(snp_bundle(swapped, AT), SNP + DEVICES, roots, AT))
    assert failed == {"gpu0 nvidia.nonce", "gpu1 nvidia.nonce"}
    twice = judge(snp_bundle((*devices[:3], devices[2]), AT), SNP + DEVICES, roots, AT)
    assert "devices nvidia-list.distinct" in blocking(twice)


def test_devices_that_the_policy_names_no_section_for_are_refused() -> None:
    devices, roots = machine()
    gpus_only = DEVICES.split("[nvidia_switch]")[0]
    failed = blocking(judge(snp_bundle(devices, AT), SNP + gpus_only, roots, AT))
    assert "bundle bundle.devices" in failed
    assert blocking(judge(snp_bundle(devices, AT), SNP, roots, AT)) == {"bundle bundle.devices"}
    stranger = DeviceEvidence(tee="stranger", report=b"x", chain=b"y")
    failed = blocking(judge(snp_bundle((*devices, stranger), AT), SNP + DEVICES, roots, AT))
    assert failed == {"bundle bundle.devices"}


def test_key_sets_stapled_to_a_bundle_reach_no_appraiser(monkeypatch: pytest.MonkeyPatch) -> None:
    made, tdx = tdx_bundle()
    keys = {Kind.AZURE_MAA_KEYS: (b"{}",), Kind.NVIDIA_NRAS_KEYS: (b"{}",)}
    stapled = Collateral(MappingProxyType({**made.collateral.items, **keys}))
    seen: list[Collateral] = []

    def watch(sheet: Sheet, evidence: Bundle, context: Context) -> list[Sheet]:
        seen.append(context.collateral)
        return []

    monkeypatch.setattr(bundles, "_cpu", watch)
    judge(replace(made, collateral=stapled), TDX, tdx.roots, TDX_NOW)
    assert set(seen[0].items) == set(made.collateral.items)
    mine = Collateral(MappingProxyType(keys))
    judge(made, TDX, tdx.roots, TDX_NOW, mine)
    assert set(keys) < set(seen[1].items)  # the verifier's own
