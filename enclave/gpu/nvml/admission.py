"""Whether this machine's GPUs may be given secrets, decided before any is.

1. their mode: CC on, DevTools off, production, protected PCIe only where the policy allows it
2. their evidence, for a fresh nonce of ours, under the policy that clients use
3. only then they are told to accept work
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from attestation import Collateral, GpuEvidence, MalformedEvidence, Policy, Result, Verdict, verify

from .device import NvmlGpu
from .errors import Finding, GpuRefused, GpuUnavailable
from .library import Nvml
from .state import ConfidentialState, refusals

_NONCE: Final = 32
_READY: Final = "as root: `nvidia-smi conf-compute -srs 1`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """GPUs that may serve: their state, their producers of evidence, and the verdict that let them in."""

    state: ConfidentialState
    gpus: tuple[NvmlGpu, ...]
    verdict: Verdict
    driver: str


def admit(
    nvml: Nvml,
    policy: Policy,
    collateral: Collateral,
    *,
    nonce: Callable[[], bytes] = lambda: os.urandom(_NONCE),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Admission:
    """All GPUs of this machine, verified and told to accept work.

    Raises GpuRefused with every reason of the first step that has one, GpuUnavailable, and PolicyError's kin
    for a policy without an [nvidia_gpu] section.
    """
    rules = policy.nvidia_gpu
    state = nvml.state()
    _refuse(refusals(state, allow_protected_pcie=rules is not None and rules.allow_protected_pcie))  # 1
    gpus = tuple(NvmlGpu(nvml, index) for index in range(nvml.count()))
    if not gpus:
        _refuse((Finding("this machine has no GPU", "attach one, or serve with the simulated one"),))
    verdict = _judge(gpus, policy, collateral, nonce(), now())  # 2
    _make_ready(nvml)  # 3
    return Admission(state=nvml.state(), gpus=gpus, verdict=verdict, driver=nvml.driver())


def _judge(
    gpus: tuple[NvmlGpu, ...], policy: Policy, collateral: Collateral, nonce: bytes, at: datetime
) -> Verdict:
    """The verdict on all GPUs, which all answer one nonce. Raises GpuRefused unless it accepts."""
    evidence = GpuEvidence(devices=tuple(gpu.report(nonce) for gpu in gpus))
    try:
        verdict = verify(evidence, collateral, policy, nonce=nonce, now=at)
    except MalformedEvidence as error:
        raise GpuRefused(
            (Finding(f"the evidence does not parse: {error}", "update driver and firmware"),)
        ) from None
    if not verdict.accepted:
        missing = (Finding("the evidence is not accepted", "see `cloister verify`"),)
        _refuse(tuple(_finding(result) for result in verdict.blocking()) or missing)
    return verdict


def _finding(result: Result) -> Finding:
    wanted = f", the policy wants {result.expected}" if result.expected else ""
    return Finding(
        f"{result.subject} {result.check}: {result.found or result.outcome}{wanted}", result.check.remedy
    )


def _make_ready(nvml: Nvml) -> None:
    if nvml.ready():
        return
    try:
        nvml.set_ready(True)
    except GpuUnavailable as error:
        raise GpuRefused(
            (Finding(f"the GPU is not ready and could not be made so: {error}", _READY),)
        ) from None
    if not nvml.ready():
        _refuse((Finding("the GPU does not accept work", _READY),))


def _refuse(findings: tuple[Finding, ...]) -> None:
    if findings:
        raise GpuRefused(findings)
