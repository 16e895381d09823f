"""The operator against the key broker: rows B of THREAT_MODEL.md."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.encoding import b64url_encode
from client.broker import audit
from client.broker.errors import AuditBroken, LimitsError
from client.broker.schema import open_engine
from client.broker.store import Asking
from client.broker.tokens import Admins, TokenRefused, admin_token
from enclave.release import BrokerLied, SharesDisagree, release
from enclave.release.quorum import join
from enclave.release.transport import Answer
from sealing import kbs
from sealing.shares import split
from tests.attacks.operator import windows_found
from tests.broker.machines import NOW, Machine, bound, machine
from tests.broker.test_quorum import commits, given_by
from tests.broker.world import (
    ADMIN,
    EXPECTED,
    MODEL,
    POLICY,
    SECRET,
    START,
    Direct,
    World,
    attester,
    running_machine,
)

PATH = ("resource", "default", "model", "faq")


@pytest.fixture(scope="module")
def box() -> Iterator[Machine]:
    with running_machine() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "broker.db")
    yield made
    made.store.close()


class Tap(Direct):
    """A transport whose every byte is kept."""

    heard = b""

    def altered(self, path: str, answer: Answer) -> Answer:
        self.heard += repr(dict(answer.headers)).encode() + answer.body
        return answer


def test_b1_neither_wire_nor_disk_nor_log_shows_a_key(world: World, box: Machine) -> None:
    tap = Tap(world)
    secret = release(tap, MODEL, attester(box), EXPECTED, clock=world.clock)
    world.store.close()
    disk = b"".join(file.read_bytes() for file in world.path.parent.iterdir())
    wire = tap.heard + b"".join(body for _, body in tap.seen)
    with_control = disk + wire + b"control " + secret.key
    assert windows_found(secret.key, with_control)  # the search finds what is there
    assert not windows_found(secret.key, disk + wire)


def test_b2_a_worker_of_the_operators_making_gets_nothing(world: World) -> None:
    with machine(measurement=b"\x66" * 48, at=NOW) as mine:
        session, challenge = world.auth()
        body = mine.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes()
        assert world.call("POST", "attest", session=session, body=body).status == 401
        assert world.call("GET", *PATH, session=session).status == 401
    reasons = world.log("attest")[0]["policies"]["strict"]["reasons"]
    assert any("snp.measurement" in reason for reason in reasons)


def test_b3_what_was_recorded_works_no_second_time(world: World, box: Machine) -> None:
    key = kbs.TeeKeyPair.generate()
    session, challenge = world.auth()
    body = box.attest(challenge, key, bound(NOW)).to_bytes()
    assert world.call("POST", "attest", session=session, body=body).status == 200
    recorded = world.call("GET", *PATH, session=session)
    assert recorded.status == 200
    for again in (session, world.auth()[0]):
        assert world.call("POST", "attest", session=again, body=body).status == 401
        assert world.call("GET", *PATH, session=again).status == 401
    with pytest.raises(Exception, match="decryption failed"):
        kbs.open_response(recorded.body, kbs.TeeKeyPair.generate())


def test_b4_a_key_of_the_operators_in_a_genuine_attestation(world: World, box: Machine) -> None:
    session, challenge = world.auth()
    genuine = box.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW))
    mine = kbs.TeeKeyPair.generate()
    runtime = replace(genuine.runtime_data, tee_pubkey=mine.public)
    body = replace(genuine, runtime_data=runtime).to_bytes()
    assert world.call("POST", "attest", session=session, body=body).status == 401
    reasons = " ".join(world.log("attest")[0]["policies"]["strict"]["reasons"])
    assert "snp.report-data" in reasons and "nvidia.nonce" in reasons


def test_b5_a_secret_for_something_else_is_refused_by_the_worker(world: World, box: Machine) -> None:
    world.store.put(MODEL, replace(SECRET, manifest=b"!" * 32).to_bytes(), by="operator", now=START)
    with pytest.raises(BrokerLied, match="another manifest"):
        release(Direct(world), MODEL, attester(box), EXPECTED, clock=world.clock)


def test_b6_the_last_release_goes_to_one(world: World) -> None:
    world.limit(releases=1)
    asking, granted = Asking(session="s", simulated=True, workload=None), []

    def ask() -> None:
        if world.store.release(MODEL, 1, asking, now=START).secret is not None:
            granted.append(1)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert granted == [1] and world.released == 1
    world.store.close()
    world.open()
    ask()
    assert granted == [1]


def test_b7_a_log_cut_or_rewritten_shows_it(world: World) -> None:
    with world.store.transaction() as connection:
        remembered = audit.verify(connection)
    engine = open_engine(world.path)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_no_DELETE")
        connection.exec_driver_sql("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)")
    engine.dispose()
    with world.store.transaction() as connection:
        audit.verify(connection)
        with pytest.raises(AuditBroken):
            audit.verify(connection, remembered)


def test_b8_what_is_relayed_cannot_be_opened_or_altered(world: World, box: Machine) -> None:
    class Middle(Direct):
        def altered(self, path: str, answer: Answer) -> Answer:
            if not path.endswith("/faq"):
                return answer
            table = json.loads(answer.body)
            table["ciphertext"] = table["ciphertext"][::-1]
            return replace(answer, body=json.dumps(table).encode())

    with pytest.raises(BrokerLied):
        release(Middle(world), MODEL, attester(box), EXPECTED, clock=world.clock)
    tap = Tap(world)
    release(tap, MODEL, attester(box), EXPECTED, clock=world.clock)
    sealed = tap.heard[tap.heard.rindex(b'{"protected"') :]
    with pytest.raises(Exception, match="decryption failed"):
        kbs.open_response(sealed, kbs.TeeKeyPair.generate())


def test_b9_a_broker_that_lies_is_named(world: World) -> None:
    shares = split(SECRET, threshold=2, count=3)
    shares[2] = split(replace(SECRET, key=bytes(32)), threshold=2, count=3)[2]
    assert join(given_by(shares), 2, commits).key == SECRET.key
    with pytest.raises(SharesDisagree, match=r"broker0; broker1"):
        join(given_by([shares[0], shares[2]]), 2, commits)


def test_b10_a_simulated_worker_asks_for_what_is_not_demo(world: World, box: Machine) -> None:
    with pytest.raises(LimitsError, match="demo"):
        world.limit(demo=False)
    asking = Asking(session="s", simulated=True, workload=None)
    with world.store.transaction() as connection:
        connection.exec_driver_sql(
            """UPDATE artifacts SET limits = replace(limits, '"demo":true', '"demo":false')"""
        )
    decision = world.store.release(MODEL, 1, asking, now=START)
    assert decision.secret is None and decision.refusals[0].startswith("demo")


def test_b11_the_vault_releases_only_to_what_the_policy_means(tmp_path: Path) -> None:
    pytest.importorskip("azure.keyvault.keys", reason="needs the extra [azure]")
    from client.azure.release_policy import NotExpressible, Target, release_policy
    from tests.azure.standin import Refused, Standin
    from tests.azure.test_release_policy import CLAIMS, TCB, WORKLOAD, expressible
    from tests.enclave import simulation

    azure = Standin(tmp_path, url="https://127.0.0.1:8", now=lambda: START)
    target = Target(authority=azure.url, tcb=TCB, workloads=(WORKLOAD,))
    with pytest.raises(NotExpressible, match="nvidia_gpu"):
        release_policy(simulation.policy(), target)
    azure.create(
        "model",
        {
            "kty": "RSA-HSM",
            "attributes": {"exportable": True},
            "release_policy": {
                "data": b64url_encode(json.dumps(release_policy(expressible(), target)).encode())
            },
        },
    )
    jwk = kbs.RsaPublicKey(b"\xff" * 256, b"\1\0\1").to_json() | {"key_ops": ["encrypt"], "kid": "operator"}
    runtime = CLAIMS["x-ms-runtime"] | {"keys": [jwk]}
    mine = CLAIMS | {"x-ms-runtime": runtime, "x-ms-sevsnpvm-launchmeasurement": "66" * 48}
    for token in (azure.token(mine), azure.token(CLAIMS, iss="https://127.0.0.1:9"), "a.b.c"):
        with pytest.raises(Refused):
            azure.release("model", {"target": token, "enc": "RSA_AES_KEY_WRAP_256"})


def test_b12_an_administrators_token_is_taken_to_another_broker(world: World) -> None:
    public = ADMIN.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = admin_token(ADMIN, now=START, audience="https://one.example")
    for audience in ("https://two.example", None):
        with pytest.raises(TokenRefused):
            Admins.from_pems([public], audience).check(token, START)
    with pytest.raises(TokenRefused):
        Admins.from_pems([public], "https://two.example").check(admin_token(ADMIN, now=START), START)
    assert Admins.from_pems([public], "https://one.example").check(token, START)
    assert world.call("GET", "resource", bearer=token).status == 401
    assert world.call("GET", "resource", bearer=admin_token(ADMIN, now=START)).status == 200


def test_b13_a_policy_is_not_changed_between_judging_and_release(
    world: World, box: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He holds a request up just after it was judged, until the owner has made the policy stricter."""
    session = world.attested(box)
    judge = type(world.service)._asking
    stricter = POLICY.replace("cloister test", "cloister other")
    changing = threading.Thread(
        target=lambda: world.store.set_policy("strict", stricter, by="owner", now=START), daemon=True
    )

    def held_up(*given: Any) -> Asking:
        asking = judge(*given)
        changing.start()
        changing.join(1)
        return asking

    monkeypatch.setattr(type(world.service), "_asking", held_up)
    reply = world.call("GET", *PATH, session=session)
    changing.join()
    order = [entry["event"] for entry in world.log("release", "set-policy")]
    assert reply.status == 200 and order == ["set-policy", "release", "set-policy"]
