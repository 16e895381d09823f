"""A token of Microsoft Azure Attestation over its REST API: a report goes in, a signed JWT comes out."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from attestation.encoding import b64url_encode, canonical, strict_json
from attestation.errors import MalformedEvidence
from enclave.release.attester import Attester
from enclave.release.errors import BrokerLied, BrokerRefused, BrokerUnreachable
from enclave.release.transport import Transport
from enclave.tee.gather import gather_maa
from enclave.tee.interface import EvidenceUnavailable
from sealing.kbs import Bound

API_VERSION: Final = "2022-08-01"
MAX_TOKEN: Final = 256 * 1024


def runtime_data(jwk: Mapping[str, str], bound: Bound) -> bytes:
    """The JSON object that the report covers and the token repeats: the one-time key, and what is loaded."""
    from attestation.binding import sha256

    loaded = {
        "keyset": f"sha256:{sha256(bound.keyset).hex()}",
        "workload": f"sha256:{sha256(bound.workload).hex()}",
    }
    return canonical({"keys": [dict(jwk)], "cloister": loaded})


def attest(transport: Transport, attester: Attester, runtime: bytes) -> str:
    """A token over fresh evidence for `runtime`. Blocks.

    Raises BrokerUnreachable, BrokerRefused, BrokerLied, EvidenceUnavailable.
    """
    if attester.cpu.tee != "sev-snp":
        raise EvidenceUnavailable(f"Azure Attestation is asked about sev-snp only, not {attester.cpu.tee}")
    evidence = gather_maa(runtime, attester.cpu)
    report = {
        "SnpReport": b64url_encode(evidence.report),
        "VcekCertChain": b64url_encode(_pem(evidence.endorsements)),
    }
    body = {
        "report": b64url_encode(json.dumps(report).encode()),
        "runtimeData": {"data": b64url_encode(runtime), "dataType": "JSON"},
    }
    headers = {"content-type": "application/json"}
    path = f"/attest/SevSnpVm?api-version={API_VERSION}"
    answer = transport.send("POST", path, headers, json.dumps(body).encode())
    if answer.status in (400, 401, 403):
        text = "Azure Attestation does not accept this machine's evidence"
        raise BrokerRefused(text, broker=transport.name, status=answer.status)
    if answer.status != 200:
        raise BrokerUnreachable(f"Azure Attestation answered {answer.status}", broker=transport.name)
    return _token(answer.body, transport.name)


def _token(body: bytes, name: str) -> str:
    try:
        value: Any = strict_json(body, limit=MAX_TOKEN)
    except MalformedEvidence as error:
        raise BrokerLied(f"no answer of Azure Attestation: {error}", broker=name) from None
    token = value.get("token") if isinstance(value, dict) else None
    if not isinstance(token, str) or token.count(".") != 2:
        raise BrokerLied("Azure Attestation answered without a token", broker=name)
    return token


def _pem(certificates: tuple[bytes, ...]) -> bytes:
    """DER certificates as PEM, leaf first, as the service takes them."""
    blocks = []
    for raw in certificates:
        text = base64.encodebytes(raw).decode("ascii")
        blocks.append(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    return "".join(blocks).encode("ascii")
