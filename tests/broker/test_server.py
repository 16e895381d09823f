"""The broker as a process: the command line, TLS with the hybrid, plaintext only where it was asked for."""

import json
import resource
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from client.artifacts.keys import new_data_key, read_data_key
from client.broker.server import allow_files
from client.broker.tokens import admin_token
from enclave.release import (
    Attester,
    BrokerAddress,
    BrokerUnreachable,
    Expected,
    HttpTransport,
    Quorum,
    release,
    release_from_quorum,
)
from enclave.release.tls import connect
from sealing import kbs
from sealing.artifact import ReleasedSecret, SignedManifest, key_commitment
from tests.artifacts.made import owned_pages
from tests.broker.certificates import Authority
from tests.broker.commands import cloister
from tests.broker.machines import Machine, bound, machine
from tests.broker.running import RunningBroker
from tests.broker.world import POLICY

NAME = "default/model/mine"
RESOURCE = kbs.ResourceId.parse(NAME)
EXPIRES = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(scope="module")
def live() -> Iterator[Machine]:
    with machine(at=None) as made:
        yield made


@pytest.fixture(scope="module")
def attesting(live: Machine) -> Attester:
    def now() -> kbs.Bound:
        return bound(datetime.now(UTC))

    return Attester(cpu=live.cpu, devices=live.devices, collateral=live.collateral, bound=now)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An owner's folder: a policy, a sealed artifact marked demo, its data key."""
    folder = tmp_path_factory.mktemp("owner")
    (folder / "policy.toml").write_text(POLICY)
    return owned_pages(folder)


def words(owner: Path, data: Path) -> list[str]:
    return [
        NAME,
        *(["--policy", str(owner / "policy.toml")]),
        "--expires",
        EXPIRES,
        "--demo",
        "--data",
        str(data),
    ]


def signed(owner: Path) -> SignedManifest:
    return SignedManifest.from_bytes((owner / "sealed" / "manifest.cose").read_bytes())


def expected(owner: Path) -> Expected:
    manifest = signed(owner)
    return Expected(manifest=manifest.hash, owner=manifest.manifest.owner.hash)


def made(owner: Path, data: Path) -> Path:
    """A broker's directory with the owner's artifact in it."""
    assert cloister("broker", "init", "--data", str(data)).returncode == 0
    name, *rest = words(owner, data)
    added = cloister(
        *("broker", "add", str(owner / "sealed"), "--data-key", str(owner / "data.key")),
        *("--releases", "2", "--resource", name, *rest),
    )
    assert added.returncode == 0, added.stderr
    return data


def test_from_sealing_to_release_on_the_command_line(
    owner: Path, tmp_path: Path, attesting: Attester
) -> None:
    data = made(owner, tmp_path / "broker")
    broker = RunningBroker(data).start()
    transport = HttpTransport(BrokerAddress(url=broker.url, plaintext=True))
    secret = release(transport, RESOURCE, attesting, expected(owner), clock=time.time)
    assert secret.key == read_data_key(owner / "data.key")
    signed(owner).admit(secret, time.time())
    assert transport.send("GET", "/healthz", {}, b"").status == 200
    metrics = transport.send("GET", "/metrics", {}, b"").body.decode()
    assert 'decision="release"} 1.0' in metrics and "mine" not in metrics
    assert broker.stop() == 0
    assert secret.key.hex().encode() not in broker.output and secret.key not in broker.output
    shown = cloister("broker", "list", "--data", str(data)).stdout
    assert "1 of 2 releases" in shown and "demo" in shown
    head = cloister("broker", "audit", "--verify", "--data", str(data)).stdout.strip()
    assert cloister("broker", "audit", "--head", head, "--data", str(data)).returncode == 0
    entries = [
        json.loads(line) for line in cloister("broker", "audit", "--data", str(data)).stdout.splitlines()
    ]
    assert [entry["event"] for entry in entries][-3:] == ["auth", "attest", "release"]
    assert cloister("broker", "revoke", NAME, "--data", str(data)).returncode == 0
    assert "revoked" in cloister("broker", "list", "--data", str(data)).stdout
    broken = cloister("broker", "audit", "--head", f"1:{'0' * 64}", "--data", str(data))
    assert broken.returncode == 10 and "written anew" in broken.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve"], "--plaintext"),
        (["serve", "--plaintext", "--host", "0.0.0.0"], "loopback"),  # noqa: S104
        (["serve", "--tls-cert", "x"], "--tls-key"),
        (["list", "--master-key", "env"], "CLOISTER_BROKER_MASTER_KEY"),
        (["revoke", "a/b/c"], "no artifact"),
        (["revoke", "a"], "repository/type/tag"),
        (["audit", "--head", "x"], "COUNT:HASH"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_with_a_next_step(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert cloister("broker", "init", "--data", str(tmp_path)).returncode == 0
    done = cloister("broker", *arguments, "--data", str(tmp_path))
    assert done.returncode in (2, 10) and said in done.stderr and "next:" in done.stderr


def test_an_owner_cannot_order_what_the_manifest_does_not_say(owner: Path, tmp_path: Path) -> None:
    data = tmp_path / "broker"
    cloister("broker", "init", "--data", str(data))
    other = tmp_path / "other.key"
    new_data_key(other)
    _, *rest = words(owner, data)
    wrong = cloister(
        *("broker", "add", str(owner / "sealed"), "--data-key", str(other), "--releases", "1", *rest)
    )
    assert wrong.returncode == 2 and "commitment" in wrong.stderr
    no_demo = [word for word in rest if word != "--demo"]
    denied = cloister(
        *("broker", "add", str(owner / "sealed"), "--data-key", str(owner / "data.key")),
        *("--releases", "1", *no_demo),
    )
    assert denied.returncode == 2 and "demo" in denied.stderr
    assert not cloister("broker", "list", "--data", str(data)).stdout
    good = cloister(
        *("broker", "add", str(owner / "sealed"), "--data-key", str(owner / "data.key")),
        *("--releases", "1", *rest),
    )
    assert signed(owner).manifest.resource in good.stdout  # the name by which workers ask


def test_a_secret_is_exported_for_another_broker(owner: Path, tmp_path: Path) -> None:
    _, *rest = words(owner, tmp_path)
    given = [word for word in rest if word not in ("--data", str(tmp_path))]
    out = tmp_path / "secret"
    command = ("broker", "export", str(owner / "sealed"), "--data-key", str(owner / "data.key"))
    assert cloister(*command, "--out", str(out), *given).returncode == 0
    assert out.stat().st_mode & 0o777 == 0o600
    signed(owner).admit(ReleasedSecret.from_bytes(out.read_bytes()), time.time())
    again = cloister(*command, "--out", str(out), *given)
    assert again.returncode == 2 and "exists" in again.stderr


def test_tls_uses_the_hybrid_and_the_name_is_checked(
    owner: Path, tmp_path: Path, attesting: Attester
) -> None:
    data, authority = made(owner, tmp_path / "broker"), Authority()
    certificate, key = authority.issue(tmp_path / "tls")
    broker = RunningBroker(data, ("--tls-cert", str(certificate), "--tls-key", str(key))).start()
    try:
        assert broker.url.startswith("https://")
        transport = HttpTransport(BrokerAddress(url=broker.url, ca=authority.pem))
        secret = release(transport, RESOURCE, attesting, expected(owner), clock=time.time)
        assert secret.key == read_data_key(owner / "data.key")
        port = int(broker.url.rpartition(":")[2])
        tls = connect("127.0.0.1", port, authority.pem, 5)
        assert tls.group == "X25519MLKEM768"
        tls.close()
        stranger = HttpTransport(BrokerAddress(url=broker.url, ca=Authority().pem))
        with pytest.raises(BrokerUnreachable, match="certificate"):
            release(stranger, RESOURCE, attesting, expected(owner), clock=time.time)
        renamed = HttpTransport(BrokerAddress(url=f"https://localhost:{port}", ca=authority.pem))
        with pytest.raises(BrokerUnreachable, match="certificate"):
            release(renamed, RESOURCE, attesting, expected(owner), clock=time.time)
        plain = HttpTransport(BrokerAddress(url=f"http://127.0.0.1:{port}", plaintext=True))
        with pytest.raises(BrokerUnreachable):
            release(plain, RESOURCE, attesting, expected(owner), clock=time.time)
    finally:
        assert broker.stop(signal.SIGINT) == 0


def test_a_port_in_use_is_refused_with_a_way_out(tmp_path: Path) -> None:
    data = str(tmp_path / "broker")
    cloister("broker", "init", "--data", data)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = cloister("broker", "serve", "--data", data, "--plaintext", "--port", port)
    assert done.returncode == 2 and f":{port}: Address already in use; give another --port" in done.stderr


def test_nobody_there(attesting: Attester, owner: Path) -> None:
    transport = HttpTransport(BrokerAddress(url="http://127.0.0.1:9", plaintext=True), timeout=2)
    with pytest.raises(BrokerUnreachable):
        release(transport, RESOURCE, attesting, expected(owner), clock=time.time)


def test_a_key_in_shares_on_two_brokers(owner: Path, tmp_path: Path, attesting: Attester) -> None:
    name, *rest = words(owner, tmp_path)
    out = tmp_path / "shares"
    split_words = [word for word in rest if word not in ("--data", str(tmp_path))]
    done = cloister(
        *("broker", "split", str(owner / "sealed"), "--data-key", str(owner / "data.key")),
        *("--threshold", "2", "--shares", "2", "--out", str(out), *split_words),
    )
    assert done.returncode == 0, done.stderr
    brokers = []
    try:
        for number, share in enumerate(sorted(out.iterdir())):
            assert share.stat().st_mode & 0o777 == 0o600
            data = tmp_path / f"broker{number}"
            cloister("broker", "init", "--data", str(data))
            name, *rest = words(owner, data)
            added = cloister("broker", "add-share", name, str(share), "--releases", "3", *rest)
            assert added.returncode == 0, added.stderr
            brokers.append(RunningBroker(data).start())
        transports = [HttpTransport(BrokerAddress(url=each.url, plaintext=True)) for each in brokers]
        manifest = signed(owner).manifest
        secret = release_from_quorum(
            Quorum(brokers=transports, threshold=2),
            RESOURCE,
            attesting,
            expected(owner),
            lambda key: key_commitment(key, manifest.id) == manifest.commitment,
            clock=time.time,
        )
        assert secret.key == read_data_key(owner / "data.key")
    finally:
        for broker in brokers:
            broker.stop()


def test_administration_over_http(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public, private = tmp_path / "admin.pub", tmp_path / "admin.pem"
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    data = tmp_path / "broker"
    cloister("broker", "init", "--data", str(data))
    token = cloister("broker", "admin-token", str(private), "--audience", "mine").stdout.strip()
    broker = RunningBroker(data, ("--plaintext", "--admin", str(public), "--audience", "mine")).start()
    try:
        transport = HttpTransport(BrokerAddress(url=broker.url, plaintext=True))
        path, bearer = "/kbs/v0/resource/a/b/c", {"authorization": f"Bearer {token}"}
        assert transport.send("POST", path, {}, b"key").status == 401
        assert transport.send("POST", path, bearer, b"key").status == 200
        assert json.loads(transport.send("GET", "/kbs/v0/resource", bearer, b"").body) == ["a/b/c"]
        assert transport.send("DELETE", path, bearer, b"").status == 200
        assert transport.send("GET", "/kbs/v0/resource-policy", bearer, b"").status == 200
        nobodys = {"authorization": f"Bearer {admin_token(key, now=time.time())}"}
        assert transport.send("GET", "/kbs/v0/resource-policy", nobodys, b"").status == 401
    finally:
        broker.stop()


@pytest.mark.parametrize(("before", "after"), [(256, 512), (600, 600)])
def test_files_are_allowed_for_all_connections_and_no_limit_is_lowered(before: int, after: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
        allow_files(512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (after, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
