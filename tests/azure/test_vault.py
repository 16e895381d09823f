"""Secure key release from end to end against the stand-in, and the broker's master key in a vault."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from client.azure import keys
from client.azure.keys import VaultRefused, create_key, parse_key_id, seal_secret
from client.azure.release_policy import Target, release_policy
from client.azure.vault import new_wrapped_key, unwrapper
from client.broker.errors import MasterKeyError
from client.broker.master import MasterKey
from enclave.release import (
    Attester,
    BrokerAddress,
    BrokerLied,
    BrokerRefused,
    BrokerUnreachable,
    Expected,
    HttpTransport,
    ReleaseExpired,
)
from enclave.release.azure import VaultKey, release_from_vault
from sealing.artifact import ReleasedSecret
from tests.azure.standin import BEARER, Standin, running
from tests.azure.test_release_policy import TCB, expressible
from tests.broker.machines import NOW, Machine, bound, machine
from tests.broker.world import EXPECTED, SECRET, START, attester

pytest.importorskip("azure.keyvault.keys", reason="needs the extra [azure]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Token:
    """An access token that somebody got."""

    token = BEARER
    expires_on = 4_000_000_000


class Credential:
    """A credential that the stand-in accepts."""

    def get_token(self, *scopes: str, **_: object) -> Token:
        return Token()

    def close(self) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with machine(at=NOW) as made:
        yield made


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, box: Machine) -> Iterator[Standin]:
    from attestation.collateral import Kind

    crl = box.collateral.current().of(Kind.AMD_CRL)
    with running(Standin(tmp_path_factory.mktemp("azure"), crl=crl, now=lambda: START)) as made:
        yield made


def options(azure: Standin) -> dict[str, Any]:
    return {
        "credential": Credential(),
        "connection_verify": str(azure.ca_file),
        "verify_challenge_resource": False,
        "retry_total": 0,
    }


@pytest.fixture(scope="module")
def key(azure: Standin) -> VaultKey:
    target = Target(authority=azure.url, tcb=TCB, workloads=(bound(NOW).workload,))
    policy = release_policy(expressible(), target)
    key_id = create_key(azure.url, "model", policy, **options(azure))
    sealed = seal_secret(key_id, SECRET, **options(azure))
    return VaultKey(id=key_id, sealed=sealed, ca=azure.authority.pem, options=options(azure))


@pytest.fixture
def honest(azure: Standin) -> Iterator[Standin]:
    yield azure
    azure.lie, azure.enc, azure.now = (lambda payload: payload), None, (lambda: START)


def ask(
    azure: Standin, key: VaultKey, worker: Attester, expected: Expected = EXPECTED, now: float = START
) -> ReleasedSecret:
    authority = HttpTransport(BrokerAddress(url=azure.url, ca=azure.authority.pem), tls12=True)
    return release_from_vault(key, authority, worker, expected, clock=lambda: now)


def test_the_secret_arrives(honest: Standin, key: VaultKey, box: Machine) -> None:
    assert ask(honest, key, attester(box)) == SECRET
    assert SECRET.key not in key.sealed and SECRET.key.hex().encode() not in repr(key).encode()


def test_each_release_takes_a_fresh_report_and_key(honest: Standin, key: VaultKey, box: Machine) -> None:
    before = len(honest.asked)
    ask(honest, key, attester(box))
    ask(honest, key, attester(box))
    assert sum("/attest/" in path for path in honest.asked[before:]) == 2


def test_a_worker_with_another_measurement_is_refused_by_the_vault(honest: Standin, key: VaultKey) -> None:
    with machine(measurement=bytes(48), at=NOW) as other, pytest.raises(BrokerRefused) as caught:
        ask(honest, key, attester(other))
    assert caught.value.status == 403


def test_a_worker_with_another_workload_is_refused_by_the_vault(
    honest: Standin, key: VaultKey, box: Machine
) -> None:
    with pytest.raises(BrokerRefused):
        ask(honest, key, attester(box, bound(NOW, models=())))


def test_evidence_that_is_not_genuine_is_refused_by_the_service(
    honest: Standin, key: VaultKey, box: Machine
) -> None:
    class Forged:
        tee = "sev-snp"

        def report(self, report_data: bytes) -> object:
            genuine = box.cpu.report(bytes(64))  # not what was asked to be signed
            return genuine

    with pytest.raises(BrokerRefused, match="does not accept"):
        ask(honest, key, replace(attester(box), cpu=Forged()))  # type: ignore[arg-type]


def test_another_tee_is_not_asked_about(honest: Standin, key: VaultKey, box: Machine) -> None:
    from enclave.tee.interface import EvidenceUnavailable

    class Other:
        tee = "tdx"

    with pytest.raises(EvidenceUnavailable, match="tdx"):
        ask(honest, key, replace(attester(box), cpu=Other()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"manifest": bytes(32)}, BrokerLied), ({"owner": bytes(32)}, BrokerLied)],
)
def test_what_is_released_is_held_to_what_was_asked_for(
    honest: Standin, key: VaultKey, box: Machine, changes: dict[str, bytes], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="another"):
        ask(honest, key, attester(box), replace(EXPECTED, **changes))


def test_a_secret_past_its_end(honest: Standin, key: VaultKey, box: Machine) -> None:
    with pytest.raises(ReleaseExpired):
        ask(honest, key, attester(box), now=SECRET.not_after)


def _other_kid(payload: dict[str, Any]) -> dict[str, Any]:
    payload["response"]["key"]["key"]["kid"] += "0"
    return payload


def _no_hsm(payload: dict[str, Any]) -> dict[str, Any]:
    del payload["response"]["key"]["key"]["key_hsm"]
    return payload


def _garbage(payload: dict[str, Any]) -> dict[str, Any]:
    payload["response"]["key"]["key"]["key_hsm"] = "e30"
    return payload


@pytest.mark.parametrize("lie", [_other_kid, _no_hsm, _garbage, lambda payload: {}])
def test_a_vault_that_lies_is_found_out(honest: Standin, key: VaultKey, box: Machine, lie: Any) -> None:
    honest.lie = lie
    with pytest.raises(BrokerLied):
        ask(honest, key, attester(box))


def test_a_weaker_wrapping_than_asked_for_is_refused(honest: Standin, key: VaultKey, box: Machine) -> None:
    honest.enc = "CKM_RSA_AES_KEY_WRAP"
    with pytest.raises(BrokerLied, match="wrapped"):
        ask(honest, key, attester(box))


def test_an_answer_signed_by_somebody_else_is_refused(honest: Standin, key: VaultKey, box: Machine) -> None:
    from tests.broker.certificates import Authority

    with pytest.raises(BrokerLied):
        ask(honest, replace(key, ca=Authority().pem), attester(box))


def test_a_secret_sealed_to_another_key_does_not_open(honest: Standin, key: VaultKey, box: Machine) -> None:
    other = create_key(
        honest.url,
        "other",
        release_policy(
            expressible(), Target(authority=honest.url, tcb=TCB, workloads=(bound(NOW).workload,))
        ),
        **options(honest),
    )
    sealed = seal_secret(other, SECRET, **options(honest))
    for wrong in (sealed, b"a.b.c.d.e", b""):
        with pytest.raises(BrokerLied, match="does not open"):
            ask(honest, replace(key, sealed=wrong), attester(box))


def test_a_token_that_has_expired_releases_nothing(honest: Standin, key: VaultKey, box: Machine) -> None:
    token = honest.token({"x-ms-attestation-type": "sevsnpvm"})
    honest.now = lambda: START + 7200
    from enclave.release.azure.release import _released

    with pytest.raises(BrokerRefused):
        _released(key, token)


def test_a_credential_that_is_not_accepted(honest: Standin, key: VaultKey, box: Machine) -> None:
    class Wrong(Credential):
        def get_token(self, *scopes: str, **_: object) -> Token:
            token = Token()
            token.token = "another"
            return token

    wrong = replace(key, options={**options(honest), "credential": Wrong()})
    with pytest.raises(BrokerRefused) as caught:
        ask(honest, wrong, attester(box))
    assert caught.value.status == 401


def test_a_vault_that_is_not_there(honest: Standin, key: VaultKey, box: Machine) -> None:
    gone = replace(key, id="https://127.0.0.1:9/keys/model/1")
    with pytest.raises(BrokerUnreachable):
        ask(honest, gone, attester(box))


def test_the_vault_refuses_policies_outside_the_grammar(azure: Standin) -> None:
    for policy in (
        {"version": "0.2", "anyOf": [{"authority": "x", "allOf": [{"claim": "a", "equals": "b"}]}]},
        {"version": "1.0.0", "anyOf": []},
        {"version": "1.0.0", "anyOf": [{"authority": "x", "allOf": [{"claim": "a", "greater": 1}]}]},
        {"version": "1.0.0", "anyOf": [{"authority": "x", "allOf": [{"claim": "a", "equals": [1]}]}]},
    ):
        with pytest.raises(VaultRefused):
            create_key(azure.url, "bad", policy, **options(azure))
    assert "bad" not in azure.keys


@pytest.mark.parametrize(
    "key_id", ["", "https://v", "http://v/keys/a/b", "https://v/secrets/a/b", "https://v/keys/a/b/c"]
)
def test_ids_that_are_none(key_id: str) -> None:
    with pytest.raises(VaultRefused):
        parse_key_id(key_id)
    with pytest.raises(ValueError, match="VAULT"):
        VaultKey(id=key_id, sealed=b"")


def test_what_is_no_vault_is_called_that() -> None:
    with pytest.raises(VaultRefused, match="not https://VAULT"):
        create_key("", "model", {}, credential=object())
    with pytest.raises(MasterKeyError, match="not https://VAULT/keys/NAME"):
        new_wrapped_key("https://vault.example", credential=object())


def test_a_key_that_is_not_there_is_said_so(azure: Standin) -> None:
    with pytest.raises(VaultRefused):
        seal_secret(f"{azure.url}/keys/none/1", SECRET, **options(azure))
    assert keys.BITS >= 3072


def test_a_master_key_is_kept_wrapped_by_the_vault(azure: Standin, tmp_path: Path) -> None:
    azure.create("master", {"kty": "RSA-HSM"})
    url = f"{azure.url}/keys/master"
    wrapped = new_wrapped_key(url, **options(azure))
    first = MasterKey.from_vault(wrapped, unwrapper(url, **options(azure)))
    second = MasterKey.from_vault(wrapped, unwrapper(url, **options(azure)))
    assert second.open(first.seal(b"x", b"c"), b"c") == b"x"
    assert json.loads(wrapped)["kid"].endswith("/keys/master/1")


def test_a_wrapped_master_key_that_is_not_this_vaults(azure: Standin) -> None:
    azure.create("master", {"kty": "RSA-HSM"})
    azure.create("second", {"kty": "RSA-HSM"})
    url = f"{azure.url}/keys/master"
    wrapped = new_wrapped_key(url, **options(azure))
    moved = wrapped.replace(b"/keys/master/", b"/keys/second/")
    for raw, where in ((b"{}", url), (b"x", url), (moved, url), (wrapped, f"{azure.url}/keys/second")):
        with pytest.raises(MasterKeyError):
            MasterKey.from_vault(raw, unwrapper(where, **options(azure)))
    with pytest.raises(MasterKeyError, match="127"):
        new_wrapped_key(f"{azure.url}/keys/none", **options(azure))


@contextmanager
def identity_endpoint() -> Iterator[tuple[str, list[str]]]:
    """A managed identity endpoint of loopback."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("X-IDENTITY-HEADER", ""))
            table = {
                "access_token": BEARER,
                "expires_on": str(int(time.time()) + 3600),
                "token_type": "Bearer",
            }
            raw = json.dumps(table | {"resource": "https://vault.azure.net"}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_worker_signs_in_with_its_managed_identity(
    honest: Standin, key: VaultKey, box: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {name: value for name, value in options(honest).items() if name != "credential"}
    with identity_endpoint() as (url, seen):
        monkeypatch.setenv("IDENTITY_ENDPOINT", url)
        monkeypatch.setenv("IDENTITY_HEADER", "header of the stand-in")
        assert ask(honest, replace(key, options=without), attester(box)) == SECRET
    assert seen == ["header of the stand-in"]


def test_nothing_of_azure_is_imported_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, enclave.release, enclave.release.azure, client.azure.keys, client.azure.vault, "
        "client.azure.release_policy; sys.exit(any(name.split('.')[0] == 'azure' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
