"""Every byte of every signed region, flipped one at a time in genuine evidence: none is ever accepted.

One case per TEE, through the public API. The quick test takes a sample of each region; the slow one
takes every byte.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from attestation import Bundle, MalformedEvidence, Policy
from attestation.cose import Sign1
from attestation.dcap.quote import Quote
from tests.enclave.simulation import Machine
from tests.enclave.simulation import judge as judge_bundle
from tests.evidence_cases import SHARED, Case, cases, judge
from tests.shared import shared

SAMPLE = 48
Region = Callable[[bytes], range]
Read = Callable[[bytes], bytes]
Write = Callable[[bytes, bytes], bytes]


def as_it_is(policy: Policy) -> Policy:
    return policy


def out_of_date(policy: Policy) -> Policy:
    """A policy that takes what the genuine machine is: without it there is nothing to flip."""
    assert policy.tdx is not None
    statuses = frozenset({"OutOfDate"})
    lenient = replace(policy.tdx, tcb_statuses=statuses, allow_any_advisory=True, allow_sept_ve=True)
    return replace(policy, tdx=lenient)


def hardening_needed(policy: Policy) -> Policy:
    assert policy.sgx is not None
    statuses = frozenset({"ConfigurationAndSWHardeningNeeded"})
    return replace(policy, sgx=replace(policy.sgx, tcb_statuses=statuses, allow_any_advisory=True))


@dataclass(frozen=True)
class Target:
    """Bytes inside one file of one case: how to take them out, how to put them back, which are signed."""

    case: str
    file: str
    region: Region
    read: Read = lambda raw: raw
    write: Write = lambda raw, inner: inner
    policy: Callable[[Policy], Policy] = as_it_is

    def __str__(self) -> str:
        return f"{self.case}/{self.file}"


def whole(raw: bytes) -> range:
    return range(len(raw))


def quote_region(raw: bytes) -> range:
    """Header, body, signatures, attestation key, QE report and its auth data; not the certificates."""
    quote = Quote.from_bytes(raw)
    return range(raw.index(quote.certification_data) - 6)


def manifest_region(raw: bytes) -> range:
    return range(raw.index(b"SoftwareIdentity"), raw.index(b"Signature "))


def payload_region(raw: bytes) -> range:
    message = Sign1.from_bytes(raw, limit=1 << 20)
    start = raw.index(message.payload)
    return range(start, start + len(message.payload))


def json_field(*path: str | int) -> tuple[Read, Write]:
    """A base64 string in JSON as a target's bytes; what is not changed stays as sent."""

    def text(raw: bytes) -> str:
        value = json.loads(raw)
        for step in path:
            value = value[step]
        return str(value)

    def read(raw: bytes) -> bytes:
        return base64.b64decode(text(raw))

    def write(raw: bytes, inner: bytes) -> bytes:
        return raw.replace(text(raw).encode(), base64.b64encode(inner))

    return read, write


def registers() -> tuple[Read, Write]:
    """Azure's list of register values as one string of bytes."""

    def read(raw: bytes) -> bytes:
        return b"".join(bytes.fromhex(item) for item in json.loads(raw))

    def write(raw: bytes, inner: bytes) -> bytes:
        return json.dumps([inner[i : i + 32].hex() for i in range(0, len(inner), 32)]).encode()

    return read, write


TINFOIL = "composite/tdx-h100-bound-channel"
TARGETS = [
    Target("snp/milan-v2-vcek", "report.bin", lambda raw: range(0x330)),
    Target("snp/genoa-v3-vcek", "report.bin", lambda raw: range(0x330)),
    Target("snp/turin-v5-vcek", "report.bin", lambda raw: range(0x330)),
    Target("snp/milan-v3-vlek-aws", "report.bin", lambda raw: range(0x330)),
    Target("snp/milan-v3-vlek-aws", "vlek.der", whole),
    Target("tdx/v4-uptodate", "quote.bin", quote_region),
    Target("tdx/v5-uptodate", "quote.bin", quote_region),
    Target("tdx/v4-gcp-ccel", "quote.bin", quote_region),
    Target("nvidia-gpu/h100-full-rim-match", "report.bin", whole),
    Target("nvidia-gpu/b200-575", "report.bin", whole),
    Target("nvidia-nvswitch/ls10-full-rim-match", "report.bin", whole),
    Target("nvidia-rim/driver-gh100-550-144-03", "rim.xml", manifest_region),
    Target("azure-snp-vtpm/genoa", "hcl_report.bin", lambda raw: range(0x20, 0x20 + 0x330)),
    Target("azure-snp-vtpm/genoa", "hcl_report.bin", lambda raw: range(1236, len(raw.rstrip(b"\0")))),
    Target("azure-snp-vtpm/genoa", "tpm_quote.msg", whole),
    Target("azure-snp-vtpm/genoa", "tpm_quote.sig", whole),
    Target("azure-snp-vtpm/genoa", "pcrs_sha256.json", whole, *registers()),
    Target("azure-tdx-vtpm/outofdate", "td_quote.bin", quote_region, policy=out_of_date),
    Target("azure-tdx-vtpm/outofdate", "tpm_quote.msg", whole, policy=out_of_date),
    Target(
        "azure-tdx-vtpm/outofdate",
        "hcl_report.bin",
        lambda raw: range(1236, len(raw.rstrip(b"\0"))),
        policy=out_of_date,
    ),
    Target("sgx/v3-config-and-swhardening-needed", "quote.bin", quote_region, policy=hardening_needed),
    Target("azure-aci/milan-2023-uvm-svn22", "uvm_endorsements.cose", payload_region),
    Target("azure-aci/milan-2023-uvm-svn22", "report.bin", lambda raw: range(0x330)),
    Target("azure-maa/windows-cvm-2023", "token.jwt", lambda raw: range(len(raw.strip()))),
    Target("nvidia-nras/v3-single-h100", "nras_response.json", whole),
    Target("tpm/azure-ak-cert-clean", "ak_cert.der", whole),
    Target("tpm/gce-cos85-nonce9009", "quote_sha256.msg", whole),
    Target("tpm/gce-cos85-nonce9009", "quote_sha256.sig_tpmt", whole),
    Target("aws-nitro/dstack-2025", "attestation.cbor", whole),
    Target(TINFOIL, "attestation.json", quote_region, *json_field("cpu", "report")),
    Target(TINFOIL, "attestation.json", whole, *json_field("gpu", "evidences", 0, "evidence")),
    Target("composite/dstack-tdx-8x-h200", "quote.bin", quote_region),
    Target("composite/snp-genoa-bound-channel", "vcek.der", whole),
]


def flips(raw: bytes, region: range, step: int) -> Iterator[tuple[int, bytes]]:
    """`raw` with one bit changed at every `step`-th place of `region`; the bit varies with the place."""
    for at in region[::step]:
        changed = bytearray(raw)
        changed[at] ^= 1 << at % 8
        yield at, bytes(changed)


def accepted(case: Case, target: Target) -> bool:
    try:
        return judge(case, target.policy).accepted
    except MalformedEvidence:
        return False


def sweep(target: Target, most: int | None) -> int:
    """Judge the flips of `target`; returns how many there were."""
    (found,) = cases(shared("evidence", *target.case.split("/")))
    case = Case(found.folder, found.fields, (SHARED,))
    assert accepted(case, target)
    raw = case.files[target.file]
    inner = target.read(raw)
    region = target.region(inner)
    step = max(1, len(region) // most) if most else 1
    tried = 0
    for at, changed in flips(inner, region, step):
        altered = replace(case, altered={target.file: target.write(raw, changed)})
        assert not accepted(altered, target), f"{target} byte {at:#x}"
        tried += 1
    return tried


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_no_flipped_byte_is_accepted(target: Target) -> None:
    assert sweep(target, SAMPLE) >= SAMPLE


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_no_flipped_byte_at_all_is_accepted(target: Target) -> None:
    assert sweep(target, None) > 0


FIELDS: dict[str, tuple[Callable[[Bundle], bytes], Callable[[Bundle, bytes], Bundle]]] = {
    "nonce": (lambda b: b.nonce, lambda b, raw: replace(b, nonce=raw)),
    "keyset": (lambda b: b.keyset, lambda b, raw: replace(b, keyset=raw)),
    "workload": (lambda b: b.workload, lambda b, raw: replace(b, workload=raw)),
    "cpu": (
        lambda b: b.cpu.report[:0x330],
        lambda b, raw: replace(b, cpu=replace(b.cpu, report=raw + b.cpu.report[0x330:])),
    ),
    "device report": (
        lambda b: b.devices[0].report,
        lambda b, raw: replace(b, devices=(replace(b.devices[0], report=raw),)),
    ),
    "device chain": (
        lambda b: b.devices[0].chain,
        lambda b, raw: replace(b, devices=(replace(b.devices[0], chain=raw),)),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_no_flipped_byte_of_a_bundle_is_accepted(name: str) -> None:
    bundle = Machine().bundle()
    assert judge_bundle(bundle).accepted
    read, write = FIELDS[name]
    raw = read(bundle)
    for at, changed in flips(raw, range(len(raw)), max(1, len(raw) // 64)):
        try:
            assert not judge_bundle(write(bundle, changed)).accepted, f"{name} byte {at:#x}"
        except MalformedEvidence:
            continue
