"""How the parts of a bundle commit to each other: one definition, for producers and verifiers.

    K = SHA-256(keyset)   S = SHA-256(session, or nothing)   W = SHA-256(workload)
    D = SHA-256(lp(tee_0) || lp(report_0) || lp(chain_0) || lp(tee_1) ...)
    gpu_nonce_i = SHA-256("cloister/gpu-nonce/v1" || lp(N) || lp(K) || lp(S) || u32be(i))
    digest      = SHA-384("cloister/report-data/v1" || lp(N) || lp(K) || lp(S) || lp(D) || lp(W))
    report_data = digest || 16 zero bytes

The GPU signs a value that commits to the worker's keys and the CPU signs the GPU's evidence.
Hashes cover decoded bytes exactly as received.

Two conventions of others serve key brokers; R is the runtime data, an object, and A the devices'
evidence, a text. None of the three can yield what another does: JCS and JSON begin with "{".

    coco-kbs    device nonce = SHA-384(JCS(R)) cut to 32 bytes
                report_data  = SHA-384(JCS(R + {"additional-evidence": A})) || 16 zero bytes
    maa         report_data  = SHA-256(runtime data, bytes of a JSON object) || 32 zero bytes
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from .encoding import canonical, lp, u32be

NONCE_SIZE = 32
DIGEST_SIZE = 48
REPORT_DATA_SIZE = 64

Device = tuple[bytes, bytes, bytes]
"""(tee as ASCII, report, chain), each exactly as received."""


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`: K of a keyset, S of a session, W of a workload."""
    return hashlib.sha256(data).digest()


def devices_digest(devices: Iterable[Device]) -> bytes:
    """D: 32 bytes that commit to every device's report and chain, in order."""
    return sha256(b"".join(lp(part) for device in devices for part in device))


def gpu_nonce(nonce: bytes, keyset: bytes, session: bytes, index: int) -> bytes:
    """The 32-byte nonce that device `index` signs."""
    _check_nonce(nonce)
    parts = lp(nonce) + lp(sha256(keyset)) + lp(sha256(session)) + u32be(index)
    return sha256(b"cloister/gpu-nonce/v1" + parts)


def digest(nonce: bytes, keyset: bytes, session: bytes, devices: Iterable[Device], workload: bytes) -> bytes:
    """The 48-byte digest that a CPU report (or a vTPM quote's extraData) carries."""
    _check_nonce(nonce)
    parts = (nonce, sha256(keyset), sha256(session), devices_digest(devices), sha256(workload))
    return hashlib.sha384(b"cloister/report-data/v1" + b"".join(map(lp, parts))).digest()


def report_data(
    nonce: bytes, keyset: bytes, session: bytes, devices: Iterable[Device], workload: bytes
) -> bytes:
    """The 64-byte REPORT_DATA that binds nonce, keys, session, devices and workload."""
    return digest(nonce, keyset, session, devices, workload).ljust(REPORT_DATA_SIZE, b"\0")


def kbs_device_nonce(runtime: Mapping[str, Any]) -> bytes:
    """The 32-byte nonce that every device signs for a broker that speaks KBS 0.4.0.

    `runtime`: `nonce`, `tee-pubkey` and, for a broker of ours, `cloister`; ValueError for another member.
    """
    return hashlib.sha384(canonical(_runtime(runtime))).digest()[:NONCE_SIZE]


def kbs_report_data(runtime: Mapping[str, Any], additional_evidence: str) -> bytes:
    """The 64-byte REPORT_DATA for such a broker; `additional_evidence` exactly as it is sent."""
    whole = {**_runtime(runtime), "additional-evidence": additional_evidence}
    return hashlib.sha384(canonical(whole)).digest().ljust(REPORT_DATA_SIZE, b"\0")


def maa_report_data(runtime: bytes) -> bytes:
    """The 64-byte REPORT_DATA for Azure Attestation: `runtime` is a JSON object, as it is sent."""
    if not runtime.startswith(b"{"):
        raise ValueError("runtime data is a JSON object")
    return sha256(runtime).ljust(REPORT_DATA_SIZE, b"\0")


def _runtime(runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    if runtime.keys() - {"cloister"} != {"nonce", "tee-pubkey"}:
        raise ValueError("runtime data is nonce, tee-pubkey and at most the cloister entry")
    return runtime


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_SIZE:
        raise ValueError(f"nonce is {len(nonce)} bytes, not {NONCE_SIZE}")
