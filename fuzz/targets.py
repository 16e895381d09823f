"""What is fuzzed: each parser with a seed of its own, and the rule that it must keep.

A parser answers any bytes with a value or MalformedEvidence, in bounded time; what parses and has
`to_bytes` re-encodes to the same bytes.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from attestation import Bundle, MalformedEvidence, Policy, recognise, verify

EVIDENCE = Path(__file__).resolve().parents[2] / "shared" / "evidence"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """A parser, the files under ../shared/evidence to start from, and inputs made for it."""

    parse: Callable[[bytes], Any]
    seeds: tuple[str, ...] = ()
    made: Callable[[], list[bytes]] = list

    def run(self, raw: bytes) -> None:
        """One execution; raises whatever breaks the rule."""
        try:
            value = self.parse(raw)
        except MalformedEvidence:
            return
        if hasattr(value, "to_bytes") and not isinstance(value, int) and value.to_bytes() != raw:
            raise AssertionError("what parsed re-encodes to other bytes")

    def corpus(self) -> list[bytes]:
        """The seeds that are there."""
        found = [path.read_bytes() for seed in self.seeds for path in sorted(EVIDENCE.glob(seed))]
        return [*found, *self.made()]


def _snp(raw: bytes) -> Any:
    from attestation.snp import SnpReport

    return SnpReport.from_bytes(raw)


def _table(raw: bytes) -> Any:
    from attestation.snp import read_table

    return read_table(raw)


def _certificate(raw: bytes) -> Any:
    from attestation.certificates import load_all
    from attestation.snp import EndorsementKey

    return [EndorsementKey.of(item) for item in load_all(raw)]


def _crl(raw: bytes) -> Any:
    from attestation.crl import load_crl

    return load_crl(raw)


def _quote(raw: bytes) -> Any:
    from attestation.dcap.quote import Quote

    return Quote.from_bytes(raw)


def _tcb(raw: bytes) -> Any:
    from attestation.dcap.documents import QeIdentity, SignedDocument, TcbInfo

    for kind, name in ((TcbInfo, "tcbInfo"), (QeIdentity, "enclaveIdentity")):
        with suppress(MalformedEvidence):
            kind.from_json(raw)
        with suppress(MalformedEvidence):
            kind.from_json(SignedDocument.from_bytes(raw, name).content)


def _event_log(raw: bytes) -> Any:
    from attestation.tdx import EventLog

    log = EventLog.from_bytes(raw)
    log.replay()


def _gpu(raw: bytes) -> Any:
    from attestation.nvidia import GpuReport

    return GpuReport.from_bytes(raw)


def _chain(raw: bytes) -> Any:
    from attestation.nvidia import CertificateChain

    chain = CertificateChain.from_pem(raw)
    return chain.complete, chain.device_name, chain.tcb_info


def _rim(raw: bytes) -> Any:
    from attestation.nvidia import Rim

    return Rim.from_bytes(raw).version


def _hcl(raw: bytes) -> Any:
    from attestation.azure import HclReport

    return HclReport.from_bytes(raw)


def _uvm(raw: bytes) -> Any:
    from attestation.azure import UvmEndorsement

    return UvmEndorsement.from_bytes(raw).feed


def _nitro(raw: bytes) -> Any:
    from attestation.nitro import NitroDocument

    return NitroDocument.from_bytes(raw).digest


def _tpm_quote(raw: bytes) -> Any:
    from attestation.tpm import Quote

    return Quote.from_bytes(raw)


def _tpm_public(raw: bytes) -> Any:
    from attestation.tpm import Public

    return Public.from_bytes(raw)


def _tpm_log(raw: bytes) -> Any:
    from attestation.tpm import EventLog

    return EventLog.from_bytes(raw)


def _token(raw: bytes) -> Any:
    from attestation.jose import Token

    return Token.from_compact(raw.decode("latin-1")).kid


def _keys(raw: bytes) -> Any:
    from attestation.jose import key_set

    return key_set([raw])


def _nras(raw: bytes) -> Any:
    from attestation.nras import NrasResponse

    return NrasResponse.from_bytes(raw).devices


def _tinfoil(raw: bytes) -> Any:
    from attestation.importers.tinfoil import Tinfoil

    return Tinfoil.from_json(raw).report_data


def _trustee(raw: bytes) -> Any:
    from attestation.importers import trustee

    for read in (trustee.azure, trustee.tpm):
        with suppress(MalformedEvidence):
            read(raw)


def _trustee_documents() -> list[bytes]:
    quote = {"message": "ff54", "signature": [1, 2], "pcrs": ["00" * 32]}
    old = {"report": [72, 67], "quote": quote, "vcek": "-----BEGIN"}
    new = {"hcl_report": "SENM", "tpm_quote": quote, "td_quote": "AA=="}
    return [json.dumps(item).encode() for item in (old, new)]


def _bundle(raw: bytes) -> Any:
    return Bundle.from_json(raw).nonce


def _collateral_bundle(raw: bytes) -> Any:
    from attestation.collateral_store import read_bundle

    return read_bundle(raw).items


def _bundles() -> list[bytes]:
    from tests.enclave.simulation import Machine

    return [Machine().bundle().to_json()]


def _collateral_bundles() -> list[bytes]:
    from attestation.collateral_store import write_bundle

    return [write_bundle(Bundle.from_json(raw).collateral) for raw in _bundles()]


def _explain(raw: bytes) -> Any:
    from attestation.explain import explain

    return explain(raw).fields


def _verify(raw: bytes) -> Any:
    """Recognition and the whole verifier under a policy that knows every TEE."""
    found = recognise({"input": raw})
    return verify(found.evidence, found.collateral.stapled(), _policy(), nonce=bytes(32), now=NOW).word


SECTIONS = ("snp", "tdx", "sgx", "nvidia_gpu", "nvidia_switch", "azure_vtpm", "maa", "nras", "tpm", "nitro")
TEES = (
    "snp",
    "tdx",
    "sgx",
    "nvidia-gpu",
    "nvidia-nvswitch",
    "azure-snp-vtpm",
    "azure-maa",
    "nvidia-nras",
    "tpm",
    "aws-nitro",
    "composite",
)


@cache
def _policy() -> Policy:
    """One policy with every section, out of those that recorded evidence is judged by."""
    from tests.evidence_cases import policy_for

    numbers = {"gpus": "1", "switches": "1", "devices": "1", "issuer": "https://x.invalid"}
    parts = [policy_for(tee, ["nonce", "roots", "quote"], numbers) for tee in TEES]
    merged: dict[str, Any] = {}
    for policy in parts:
        for name in (*SECTIONS, "composite"):
            value = getattr(policy, name)
            merged |= {name: value} if value is not None else {}
    return replace(parts[0], **merged)


TARGETS: dict[str, Target] = {
    "bundle": Target(_bundle, made=_bundles),
    "collateral-bundle": Target(_collateral_bundle, made=_collateral_bundles),
    "snp-report": Target(_snp, ("snp/*/report.bin",)),
    "snp-table": Target(_table, ("snp/*/auxblob*",)),
    "certificate": Target(_certificate, ("snp/*/*.der", "snp/*/*.pem")),
    "crl": Target(_crl, ("_roots/*/*crl*",)),
    "quote": Target(_quote, ("tdx/*/quote.bin", "sgx/*/quote.bin")),
    "tcb-info": Target(_tcb, ("_collateral/intel/*/*.json",)),
    "event-log": Target(_event_log, ("tdx/*/event_log.json", "tdx/*/ccel_data*")),
    "gpu-report": Target(_gpu, ("nvidia-*/*/report.bin",)),
    "gpu-chain": Target(_chain, ("nvidia-*/*/cert_chain.pem",)),
    "rim": Target(_rim, ("nvidia-rim/*/rim.xml",)),
    "hcl-report": Target(_hcl, ("azure-*/*/hcl_report.bin",)),
    "uvm": Target(_uvm, ("azure-aci/*/*.cose",)),
    "nitro": Target(_nitro, ("aws-nitro/*/*.cbor",)),
    "tpm-quote": Target(_tpm_quote, ("tpm/*/*.msg", "azure-*/*/*.msg")),
    "tpm-public": Target(_tpm_public, ("tpm/*/*.tpmt",)),
    "tpm-event-log": Target(_tpm_log, ("tpm/*/event_log.bin",)),
    "token": Target(_token, ("azure-maa/*/token.jwt",)),
    "key-set": Target(_keys, ("_roots/*/*.json", "nvidia-nras/*/jwks.json")),
    "nras": Target(_nras, ("nvidia-nras/*/nras_response.json",)),
    "tinfoil": Target(_tinfoil, ("composite/*/attestation.json",)),
    "trustee": Target(_trustee, made=_trustee_documents),
    "explain": Target(_explain, ("*/*/*.bin", "*/*/*.cbor", "*/*/*.jwt")),
    "verify": Target(_verify, ("snp/*/report.bin", "tdx/*/quote.bin", "aws-nitro/*/*", "composite/*/*.json")),
}
