"""Judging one GPU in tests: a made device that is in order, and a genuine H100."""

from datetime import datetime
from typing import Any

from attestation.nvidia import appraise
from attestation.roots import Roots
from attestation.verdict import Sheet

from .nvidia import case, context, policy
from .nvidia_maker import NONCE, NOW, Device

DEVICE = Device()
GENUINE = case("nvidia-gpu/h100-550")


def judge(
    report: bytes | None = None,
    chain: bytes | None = None,
    *,
    device: Device = DEVICE,
    nonce: bytes | None = NONCE,
    roots: Roots | None = None,
    at: datetime = NOW,
    **rules: Any,
) -> Sheet:
    """The sheet of a made device; by default all is in order."""
    around = context(policy(roots or device.roots, **rules), at)
    report = device.report() if report is None else report
    chain = device.chain if chain is None else chain
    return appraise(report, chain, around, subject="gpu0", nonce=nonce)


def genuine(report: bytes = GENUINE.report, chain: bytes = GENUINE.chain, **rules: Any) -> Sheet:
    """The sheet of a genuine H100, or of an alteration of it."""
    return appraise(report, chain, context(policy(**rules), GENUINE.at), subject="gpu0", nonce=GENUINE.nonce)
