"""Gathers a bundle: the only place where REPORT_DATA is computed to be signed (docs/spec/evidence.md).

A caller chooses the nonce and nothing else: REPORT_DATA is a hash over nonce, keys, devices' evidence and
workload, so no choice of nonce makes the CPU sign bytes that somebody wants signed.
"""

from collections.abc import Sequence

from attestation import Bundle
from attestation.binding import gpu_nonce, report_data

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
