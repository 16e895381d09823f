"""Gathers evidence: the only place where REPORT_DATA is computed to be signed (docs/spec/evidence.md).

A caller chooses the nonce and nothing else: REPORT_DATA is a hash over nonce, keys, devices' evidence and
workload, so no choice of nonce makes the CPU sign bytes that somebody wants signed. For key brokers the
conventions are others' (docs/spec/release.md); theirs too are hashes over a one-time key made here.
"""

from collections.abc import Sequence

from attestation import Bundle, CpuEvidence
from attestation.binding import gpu_nonce, kbs_device_nonce, kbs_report_data, maa_report_data, report_data
from attestation.kbs import additional_evidence, primary_evidence
from sealing import kbs

from .interface import CollateralSource, CpuTee, Device


def gather(
    nonce: bytes,
    keyset: bytes,
    session: bytes | None,
    workload: bytes,
    *,
    cpu: CpuTee,
    devices: Sequence[Device] = (),
    collateral: CollateralSource,
) -> Bundle:
    """Evidence for `nonce` (32 bytes) over exactly these keyset, session and workload bytes.

    1. every device signs a nonce that commits to the keys;  2. the CPU signs what commits to all.
    Blocks. Raises EvidenceUnavailable, ValueError for a nonce of another length.
    """
    once = session or b""
    signed = tuple(
        device.report(gpu_nonce(nonce, keyset, once, index))
        for index, device in enumerate(devices)  # 1
    )
    data = report_data(nonce, keyset, once, (item.bound() for item in signed), workload)
    return Bundle(
        nonce=nonce,
        keyset=keyset,
        workload=workload,
        session=session,
        cpu=cpu.report(data),  # 2
        devices=signed,
        collateral=collateral.current(),
    )


def gather_kbs(
    challenge: kbs.Challenge,
    key: kbs.TeeKeyPair,
    bound: kbs.Bound | None,
    *,
    cpu: CpuTee,
    devices: Sequence[Device] = (),
    collateral: CollateralSource,
) -> kbs.Attestation:
    """Evidence for a key broker's `challenge`, bound to the one-time `key`: fresh at every call.

    `bound` (keyset and workload) and collateral go only to a broker of ours, that is if the challenge is
    marked. Blocks. Raises EvidenceUnavailable; MalformedEvidence for hardware that has no form there.
    """
    runtime = kbs.RuntimeData(
        nonce=challenge.nonce, tee_pubkey=key.public, bound=bound if challenge.marked else None
    )
    nonce = kbs_device_nonce(runtime.to_json())
    additional = additional_evidence([device.report(nonce) for device in devices])
    signed = cpu.report(kbs_report_data(runtime.to_json(), additional))
    return kbs.Attestation(
        runtime_data=runtime,
        tee_evidence=kbs.CompositeEvidence(primary=primary_evidence(signed), additional=additional),
        stapled=collateral.current().to_json() if challenge.marked else None,
    )


def gather_maa(runtime: bytes, cpu: CpuTee) -> CpuEvidence:
    """A report for Azure Attestation over `runtime`, a JSON object that holds a one-time key. Blocks."""
    return cpu.report(maa_report_data(runtime))
