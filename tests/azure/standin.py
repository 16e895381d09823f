"""What stands in for Azure: an attestation service, a key vault and an identity endpoint, in one process.

They judge: the service verifies reports under the simulator's root before it signs a token, and the vault
checks the token's signature and evaluates the release policy's grammar before it wraps a key. Whatever
the grammar does not have is refused when the key is made.
"""

import base64
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from attestation import Collateral, Policy, SnpEvidence, verify
from attestation.binding import maa_report_data
from attestation.collateral import Kind
from attestation.encoding import b64url_decode, b64url_encode
from attestation.snp import GuestFlag, SnpReport
from tests.broker.certificates import Authority
from tests.enclave import simulation

BEARER = "a token of the stand-in"
OAEP = {
    "CKM_RSA_AES_KEY_WRAP": hashes.SHA1,
    "RSA_AES_KEY_WRAP_256": hashes.SHA256,
    "RSA_AES_KEY_WRAP_384": hashes.SHA384,
}


class Refused(Exception):
    """An HTTP error."""

    def __init__(self, status: int, code: str = "Forbidden") -> None:
        super().__init__(code)
        self.status = status


@dataclass
class Key:
    """A key in the vault."""

    private: rsa.RSAPrivateKey
    policy: Mapping[str, Any] | None = None
    exportable: bool = False


@dataclass
class Standin:
    """The services' state. `crl`: what reports are judged by; `lie`: alters what is answered to a release."""

    folder: Path
    url: str = ""
    crl: tuple[bytes, ...] = ()
    keys: dict[str, Key] = field(default_factory=dict)
    now: Callable[[], float] = time.time
    lie: Callable[[dict[str, Any]], dict[str, Any]] = lambda payload: payload
    enc: str | None = None
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority = Authority()
        self.certificate, self.key_file = self.authority.issue(self.folder, rsa_key=True)
        self.signer = rsa.generate_private_key(65537, 2048)
        self.ca_file = self.folder / "ca.pem"
        self.ca_file.write_bytes(self.authority.pem)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """One request."""
        self.asked.append(path)
        if path.startswith("/attest/SevSnpVm?api-version=2022-08-01"):
            return {"token": self.attest(json.loads(body))}
        if headers.get("Authorization") != f"Bearer {BEARER}":
            raise Refused(401)
        parts = path.partition("?")[0].strip("/").split("/")
        match method, parts:
            case "POST", ["keys", name, "create"]:
                return self.create(name, json.loads(body))
            case "GET", ["keys", name, *_]:
                return self.bundle(name)
            case "POST", ["keys", name, _, "release"]:
                return {"value": self.release(name, json.loads(body))}
            case "POST", ["keys", name, *_, ("wrapkey" | "unwrapkey") as operation]:
                return self.wrap(name, operation, json.loads(body))
        raise Refused(404)

    def attest(self, body: Mapping[str, Any]) -> str:
        """A token for evidence that verifies."""
        report = json.loads(b64url_decode(body["report"]))
        runtime = b64url_decode(body["runtimeData"]["data"])
        raw = b64url_decode(report["SnpReport"])
        chain = x509.load_pem_x509_certificates(b64url_decode(report["VcekCertChain"]))
        endorsements = tuple(item.public_bytes(serialization.Encoding.DER) for item in chain)
        verdict = verify(
            SnpEvidence(report=raw, endorsements=endorsements),
            Collateral({Kind.AMD_CRL: self.crl}),
            genuine(),
            nonce=None,
            now=datetime.fromtimestamp(self.now(), UTC),
            report_data=maa_report_data(runtime),
        )
        if not verdict.accepted:
            raise Refused(400)
        return self.token(claims_of(SnpReport.from_bytes(raw)) | {"x-ms-runtime": json.loads(runtime)})

    def token(self, claims: Mapping[str, Any], **more: Any) -> str:
        """A signed token of the attestation service."""
        now = int(self.now())
        registered = {"iss": self.url, "iat": now, "nbf": now, "exp": now + 3600}
        return jwt.encode(
            registered | dict(claims) | more, self.signer, algorithm="RS256", headers={"kid": "1"}
        )

    def create(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A key; one that can be exported has a release policy of the grammar."""
        policy = None
        exportable = bool(body.get("attributes", {}).get("exportable"))
        if exportable:
            given = body["release_policy"]
            policy = json.loads(b64url_decode(given["data"]))
            check_grammar(policy)
            if body["kty"] != "RSA-HSM":
                raise Refused(400)
        self.keys[name] = Key(rsa.generate_private_key(65537, 2048), policy, exportable)
        return self.bundle(name)

    def bundle(self, name: str) -> dict[str, Any]:
        """A key's public half."""
        if name not in self.keys:
            raise Refused(404)
        numbers = self.keys[name].private.public_key().public_numbers()
        jwk = {
            "kid": f"{self.url}/keys/{name}/1",
            "kty": "RSA-HSM",
            "key_ops": ["encrypt", "wrapKey", "unwrapKey", "release"],
            "n": b64url_encode(numbers.n.to_bytes(256, "big")),
            "e": "AQAB",
        }
        return {"key": jwk, "attributes": {"enabled": True, "exportable": self.keys[name].exportable}}

    def release(self, name: str, body: Mapping[str, Any]) -> str:
        """The key, wrapped to the token's, if the token meets the policy."""
        key = self.keys.get(name)
        if key is None or key.policy is None:
            raise Refused(404)
        try:
            claims = jwt.decode(
                body["target"],
                self.signer.public_key(),
                ["RS256"],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise Refused(403) from None
        if not claims["nbf"] <= self.now() < claims["exp"] or not allowed(key.policy, claims):
            raise Refused(403)
        enc = self.enc or body["enc"]
        return self.signed(self.lie(self.payload(name, key, claims, enc)))

    def payload(self, name: str, key: Key, claims: Mapping[str, Any], enc: str) -> dict[str, Any]:
        """What the vault says."""
        jwk = next(item for item in claims["x-ms-runtime"]["keys"] if "encrypt" in item["key_ops"])
        public = jwt.algorithms.RSAAlgorithm.from_jwk({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
        kek, digest = os.urandom(32), OAEP[enc]()
        pkcs8 = key.private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        wrapped = public.encrypt(kek, padding.OAEP(padding.MGF1(digest), digest, None))  # type: ignore[union-attr]
        hsm = {
            "schema_version": "1.0",
            "header": {"kid": jwk["kid"], "alg": "dir", "enc": enc},
            "ciphertext": b64url_encode(wrapped + aes_key_wrap_with_padding(kek, pkcs8)),
        }
        released = self.bundle(name)
        released["key"]["key_hsm"] = b64url_encode(json.dumps(hsm).encode())
        request = {"api-version": "7.4", "enc": enc, "kid": released["key"]["kid"]}
        return {"request": request, "response": {"key": released}}

    def signed(self, payload: Mapping[str, Any]) -> str:
        """A JWS under the vault's own certificate."""
        leaf = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        chain = [base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()]
        private = serialization.load_pem_private_key(self.key_file.read_bytes(), None)
        headers = {"alg": "RS256", "kid": "vault", "x5c": chain}
        return jwt.PyJWS().encode(json.dumps(payload).encode(), private, "RS256", headers)  # type: ignore[arg-type]

    def wrap(self, name: str, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """wrapKey and unwrapKey with RSA-OAEP-256."""
        if name not in self.keys or body["alg"] != "RSA-OAEP-256":
            raise Refused(404)
        private, oaep = (
            self.keys[name].private,
            padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
        )
        value = b64url_decode(body["value"])
        try:
            done = (
                private.public_key().encrypt(value, oaep)
                if operation == "wrapkey"
                else private.decrypt(value, oaep)
            )
        except ValueError:
            raise Refused(400) from None
        return {"kid": f"{self.url}/keys/{name}/1", "value": b64url_encode(done)}


def genuine() -> Policy:
    """Genuine under the simulator's root, whatever was measured: what the service itself asks."""
    strict = simulation.policy()
    assert strict.snp is not None
    return replace(
        strict, snp=replace(strict.snp, measurements=None, allow_debug=True), nvidia_gpu=None, workload=None
    )


def claims_of(report: SnpReport) -> dict[str, Any]:
    """The claims that the service makes of a report."""
    flags, tcb = report.policy.flags, report.reported_tcb
    made = {
        "launchmeasurement": report.measurement.hex(),
        "hostdata": report.host_data.hex(),
        "familyId": report.family_id.hex(),
        "imageId": report.image_id.hex(),
        "idkeydigest": report.id_key_digest.hex(),
        "authorkeydigest": report.author_key_digest.hex(),
        "reportid": report.report_id.hex(),
        "vmpl": report.vmpl,
        "guestsvn": report.guest_svn,
        "is-debuggable": GuestFlag.DEBUG in flags,
        "migration-allowed": GuestFlag.MIGRATE_MA in flags,
        "smt-allowed": GuestFlag.SMT in flags,
        "bootloader-svn": tcb.bl,
        "tee-svn": tcb.tee,
        "snpfw-svn": tcb.snp,
        "microcode-svn": tcb.ucode,
    }
    return {"x-ms-attestation-type": "sevsnpvm"} | {
        f"x-ms-sevsnpvm-{name}": value for name, value in made.items()
    }


def check_grammar(policy: Mapping[str, Any]) -> None:
    """Refused unless `policy` is of the grammar, version 1.0.0."""
    if policy.keys() != {"version", "anyOf"} or policy["version"] != "1.0.0" or not policy["anyOf"]:
        raise Refused(400)
    for entry in policy["anyOf"]:
        if entry.keys() not in ({"authority", "allOf"}, {"authority", "anyOf"}):
            raise Refused(400)
        check_condition({name: value for name, value in entry.items() if name != "authority"})


def check_condition(condition: Any) -> None:
    """Refused for an operator or a value that the grammar does not have."""
    if not isinstance(condition, dict):
        raise Refused(400)
    if condition.keys() == {"claim", "equals"}:
        if not isinstance(condition["claim"], str) or type(condition["equals"]) not in (
            str,
            int,
            float,
            bool,
        ):
            raise Refused(400)
        return
    if condition.keys() not in ({"allOf"}, {"anyOf"}):
        raise Refused(400)
    (inner,) = condition.values()
    if not isinstance(inner, list) or not inner:
        raise Refused(400)
    for item in inner:
        check_condition(item)


def allowed(policy: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """Whether a token of one of the authorities meets its conditions."""
    for entry in policy["anyOf"]:
        rest = {name: value for name, value in entry.items() if name != "authority"}
        if entry["authority"] == claims["iss"] and met(rest, claims):
            return True
    return False


def met(condition: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
    """One condition: values are compared with their types; a claim that is missing meets none."""
    if "allOf" in condition:
        return all(met(item, claims) for item in condition["allOf"])
    if "anyOf" in condition:
        return any(met(item, claims) for item in condition["anyOf"])
    value: Any = claims
    for step in condition["claim"].split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return type(value) is type(condition["equals"]) and value == condition["equals"]


class _Handler(BaseHTTPRequestHandler):
    standin: Standin

    def do_POST(self) -> None:
        self._answer("POST")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        extra = {}
        try:
            status, table = 200, self.standin.answer(method, self.path, dict(self.headers), body)
        except Refused as error:
            status, table = error.status, {"error": {"code": str(error), "message": "refused"}}
            if status == 401:
                challenge = (
                    f'Bearer authorization="{self.standin.url}/tenant", resource="https://vault.azure.net"'
                )
                extra = {"WWW-Authenticate": challenge}
        raw = json.dumps(table).encode()
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(raw))} | extra
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def running(standin: Standin) -> Iterator[Standin]:
    """The stand-in on a port of loopback, over TLS."""
    handler = type("Handler", (_Handler,), {"standin": standin})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(standin.certificate, standin.key_file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    standin.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield standin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
