"""What the operator does to real bytes. Whether it helps him is for others to say."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from attestation import Bundle, Collateral, Kind
from attestation.binding import gpu_nonce
from enclave.simulator.sources import PACKAGES, ROOT
from sealing.artifact import CHUNKS_NAME
from sealing.consent import Consent
from sealing.ohttp import MEDIA_TYPE_CHUNKED_REQUEST

from .second_gpu import SecondGpu

SEALED_REQUEST = MEDIA_TYPE_CHUNKED_REQUEST
ROLLED_BACK = "rolled the firmware back to snp 20, microcode 60"
CHANGED = "enclave/consent/admission.py"
CHECK, NO_CHECK = "if measurement != manifest.measurement:", "if False:"
"""The worker's check of its own code, and what the operator writes in its place."""

Harm = Callable[[Path], str]
"""Changes something on a copy of the disk; says what, in words."""


def spliced(raw: bytes, gpu: SecondGpu) -> bytes:
    """A bundle with the evidence of another GPU, which signs the very nonce that the verifier expects.

    The vendor's word that this GPU's certificates are good is stapled beside it.
    """
    bundle = Bundle.from_json(raw)
    nonce = gpu_nonce(bundle.nonce, bundle.keyset, bundle.session or b"", 0)
    good = Collateral(MappingProxyType({Kind.NVIDIA_OCSP: gpu.status()}))
    devices = (gpu.evidence(nonce), *bundle.devices[1:])
    return replace(bundle, devices=devices, collateral=bundle.collateral.merged(good)).to_json()


def changed_image(image: Path) -> str:
    """A copy of the worker's packages at `image`, in which it does not check its own code any more."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, image / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = image / CHANGED
    text = file.read_text()
    if CHECK not in text:
        raise RuntimeError(f"{CHANGED} has no such line")
    file.write_text(text.replace(CHECK, NO_CHECK))
    return f"took the check of its own code out of the worker, one line of {CHANGED}"


def flip_chunk(disk: Path) -> str:
    """One bit of a sealed model's ciphertext flipped."""
    chunks = disk / "base" / CHUNKS_NAME
    content = bytearray(chunks.read_bytes())
    place = len(content) // 2
    content[place] ^= 1
    chunks.write_bytes(content)
    return f"flipped one bit in byte {place:,} of {len(content):,}"


def rewrite_consent(disk: Path) -> str:
    """The most tokens of an answer raised in the consent, the signatures kept."""
    file = disk / "joint.consent"
    consent = Consent.from_bytes(file.read_bytes())
    output = replace(consent.manifest.output, max_tokens=100_000, logprobs=True)
    file.write_bytes(replace(consent, manifest=replace(consent.manifest, output=output)).to_bytes())
    return f"made {consent.manifest.output.max_tokens} tokens 100,000, and allowed log-probabilities"


def readable(raw: bytes) -> str:
    """What the operator can read of an answer: a problem in words, or ciphertext."""
    try:
        problem = json.loads(raw)
        return f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{len(raw):,} bytes of ciphertext"
