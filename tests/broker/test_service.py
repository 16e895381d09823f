"""The broker's protocol: who gets a key, who does not, what each is told, and what the owner reads of it."""

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest

from attestation.kbs import KBS_TEES
from client.broker.limits import Limits
from client.broker.replies import TYPES, Reply
from client.broker.sessions import LIFETIME, MAX_SESSIONS
from sealing import kbs
from tests.broker.machines import NOW, Machine, bound, machine
from tests.broker.vectors import VECTORS
from tests.broker.world import MODEL, SECRET, START, World
from tests.enclave import simulation

PATH = ("resource", "default", "model", "faq")


def problem(reply: Reply) -> tuple[int, str]:
    return reply.status, kbs.ErrorInformation.from_bytes(reply.body).type.removeprefix(TYPES + "/")


def test_a_worker_that_proves_itself_gets_the_key(world: World, box: Machine) -> None:
    key = kbs.TeeKeyPair.generate()
    session = world.attested(box, key)
    reply = world.call("GET", *PATH, session=session)
    assert reply.status == 200
    assert kbs.open_response(reply.body, key) == SECRET.to_bytes()
    assert SECRET.key not in reply.body
    assert world.released == 1
    (entry,) = world.log("release")
    assert (entry["resource"], entry["count"], entry["simulated"]) == (str(MODEL), 1, True)


def test_the_challenge_is_as_the_server_writes_it_and_marked(world: World) -> None:
    reply = world.call("POST", "auth", body=json.dumps(VECTORS["messages"][0]["json"]).encode())
    table = json.loads(reply.body)
    assert table.keys() == {"nonce", "extra-params"}
    assert len(table["nonce"]) == 44 and table["nonce"].endswith("=")
    assert table["extra-params"] == {kbs.MARK: {"version": 1}}
    name, _, rest = reply.headers["set-cookie"].partition("=")
    assert name == "kbs-session-id" and rest.split(";")[0].isalnum() and "Expires=" in rest


@pytest.mark.parametrize("version", ["0.1.1", "0.3.0", "0.4.1", "1.0.0", "0.4"])
def test_another_version_is_refused(world: World, version: str) -> None:
    reply = world.call("POST", "auth", body=kbs.Request(tee="snp", version=version).to_bytes())
    assert problem(reply) == (401, "AttestationError")
    assert world.log("auth")[-1]["outcome"] == "version"


def test_the_token_is_a_signed_jwt_with_the_key_where_clients_look_for_it(world: World, box: Machine) -> None:
    key = kbs.TeeKeyPair.generate()
    session, challenge = world.auth()
    body = box.attest(challenge, key, bound(NOW)).to_bytes()
    token = kbs.TokenResponse.from_bytes(world.call("POST", "attest", session=session, body=body).body).token
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(
        token,
        jwt.PyJWK(header["jwk"]).key,
        ["ES256"],
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert claims["tee-pubkey"] == key.public.to_json()
    evidence = claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    assert evidence["runtime_data_claims"]["tee-pubkey"] == key.public.to_json()
    assert claims["exp"] - claims["iat"] == LIFETIME
    assert claims["submods"]["cpu0"]["ear.status"] == "none"  # simulated: never affirming
    assert world.call("GET", *PATH, bearer=token).status == 200


def test_a_token_that_is_altered_or_old_opens_nothing(world: World, box: Machine) -> None:
    session, challenge = world.auth()
    body = box.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes()
    token = json.loads(world.call("POST", "attest", session=session, body=body).body)["token"]
    head, claims, signature = token.split(".")
    for bad in (f"{head}.{claims}.{signature[:-2]}AA", "a.b.c", "", f"{head}..{signature}"):
        assert problem(world.call("GET", *PATH, bearer=bad)) == (401, "TokenNotFound")
    world.clock.now += LIFETIME
    assert problem(world.call("GET", *PATH, bearer=token)) == (401, "TokenNotFound")


def test_a_challenge_works_once(world: World, box: Machine) -> None:
    session, challenge = world.auth()
    body = box.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes()
    assert world.call("POST", "attest", session=session, body=body).status == 200
    assert problem(world.call("POST", "attest", session=session, body=body)) == (401, "AttestationError")


def test_a_wrong_answer_uses_the_challenge_up_too(world: World, box: Machine) -> None:
    session, challenge = world.auth()
    assert world.call("POST", "attest", session=session, body=b"{}").status == 401
    body = box.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes()
    assert world.call("POST", "attest", session=session, body=body).status == 401


def test_a_challenge_lives_60_seconds(world: World, box: Machine) -> None:
    session, challenge = world.auth()
    body = box.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes()
    world.clock.now += 60
    assert problem(world.call("POST", "attest", session=session, body=body)) == (401, "AttestationError")


def test_each_release_takes_a_fresh_report(world: World, box: Machine) -> None:
    session = world.attested(box)
    assert world.call("GET", *PATH, session=session).status == 200
    assert problem(world.call("GET", *PATH, session=session)) == (401, "TokenNotFound")
    assert world.released == 1


def test_without_a_session_there_is_nothing(world: World) -> None:
    session, _ = world.auth()
    for who in (None, "", "unknown", session):
        assert problem(world.call("GET", *PATH, session=who)) == (401, "TokenNotFound")


def test_evidence_that_no_policy_accepts_is_refused_and_the_owner_reads_why(world: World) -> None:
    session, challenge = world.auth()
    with machine(measurement=bytes(48), at=NOW) as other:
        body = other.attest(challenge, kbs.TeeKeyPair.generate(), bound(NOW)).to_bytes()
    reply = world.call("POST", "attest", session=session, body=body)
    assert problem(reply) == (401, "AttestationError")
    assert b"snp" not in reply.body and b"measurement" not in reply.body
    (entry,) = world.log("attest")
    assert entry["outcome"] == "rejected"
    assert any("snp.measurement" in reason for reason in entry["policies"]["strict"]["reasons"])
    assert world.call("GET", *PATH, session=session).status == 401


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires": int(START)}, "expired"),
        ({"workloads": ("cloister other",)}, "workload"),
        ({"workloads": ("sha256:" + "0" * 64,)}, "workload"),
        ({"base_root": bytes(32)}, "base"),
        ({"releases": 1}, "releases"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits_refuse_and_say_why_to_the_owner_alone(
    world: World, box: Machine, changes: dict[str, Any], reason: str
) -> None:
    if reason == "releases":
        assert world.call("GET", *PATH, session=world.attested(box)).status == 200
    world.limit(**changes)
    before = world.released
    reply = world.call("GET", *PATH, session=world.attested(box))
    assert problem(reply) == (403, "PolicyDeny")
    assert kbs.ErrorInformation.from_bytes(reply.body).detail == "Access denied by policy"
    (entry,) = world.log("denied")
    assert [text.split(":")[0] for text in entry["refusals"]] == [reason]
    assert world.released == before


def test_limits_allow_what_they_name(world: World, box: Machine) -> None:
    from attestation.binding import sha256

    digest = f"sha256:{sha256(bound(NOW).workload).hex()}"
    for changes in (
        {"workloads": ("cloister test",)},
        {"workloads": ("other", digest)},
        {"base_root": simulation.MODEL},
        {"releases": None},
    ):
        world.limit(**changes)
        assert world.call("GET", *PATH, session=world.attested(box)).status == 200


def test_a_simulated_worker_gets_nothing_that_is_not_marked_demo(world: World, box: Machine) -> None:
    from client.broker.errors import LimitsError

    with pytest.raises(LimitsError, match="demo"):
        world.limit(demo=False)
    text = Limits(policy="strict", expires=int(START) + 9, releases=1).to_text()
    with world.store.transaction() as connection:  # as if an older version had let it through
        connection.exec_driver_sql("UPDATE artifacts SET limits = ?", (text,))
    assert problem(world.call("GET", *PATH, session=world.attested(box))) == (403, "PolicyDeny")
    assert any(text.startswith("demo") for text in world.log("denied")[0]["refusals"])


def test_an_artifact_without_limits_goes_to_nobody(world: World, box: Machine) -> None:
    world.store.set_limits({}, by="test", now=START, only=True)
    assert problem(world.call("GET", *PATH, session=world.attested(box))) == (403, "PolicyDeny")
    assert any("limits" in text for text in world.log("denied")[0]["refusals"])


def test_a_revoked_artifact_goes_to_nobody_and_its_key_is_forgotten(world: World, box: Machine) -> None:
    session = world.attested(box)
    assert world.admin("DELETE", *PATH).status == 200
    assert problem(world.call("GET", *PATH, session=session)) == (403, "PolicyDeny")
    with world.store.transaction() as connection:
        assert connection.exec_driver_sql("SELECT sealed FROM artifacts").scalar() == b""


def test_a_name_that_is_not_there(world: World, box: Machine) -> None:
    session = world.attested(box)
    assert problem(world.call("GET", "resource", "a", "b", "c", session=session))[0] == 404
    assert problem(world.call("GET", "resource", "a", "b", "..", session=session))[0] == 404
    assert world.call("GET", *PATH, session=session).status == 200


def test_two_policies_each_for_its_artifact(world: World, box: Machine) -> None:
    text = world.store.policy("strict")
    assert text.workload is not None
    from tests.broker.world import POLICY

    other = POLICY.replace("cloister test", "cloister other")
    world.store.set_policy("other", other, by="test", now=START)
    world.limit(policy="other")
    session = world.attested(box)  # one policy accepts it, and the artifact's does not
    assert problem(world.call("GET", *PATH, session=session)) == (403, "PolicyDeny")
    assert any("workload.software" in text for text in world.log("denied")[0]["refusals"])


def test_rsa_clients_are_served(world: World, box: Machine) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048)
    public = kbs.RsaPublicKey(private.public_key().public_numbers().n.to_bytes(256, "big"), b"\1\0\1")
    session, challenge = world.auth()
    runtime = kbs.RuntimeData(nonce=challenge.nonce, tee_pubkey=public, bound=bound(NOW))
    from attestation.binding import kbs_device_nonce, kbs_report_data
    from attestation.kbs import additional_evidence, primary_evidence

    additional = additional_evidence([d.report(kbs_device_nonce(runtime.to_json())) for d in box.devices])
    cpu = box.cpu.report(kbs_report_data(runtime.to_json(), additional))
    evidence = kbs.CompositeEvidence(primary=primary_evidence(cpu), additional=additional)
    stapled = box.collateral.current().to_json()
    sent = kbs.Attestation(runtime_data=runtime, tee_evidence=evidence, stapled=stapled)
    assert world.call("POST", "attest", session=session, body=sent.to_bytes()).status == 200
    reply = world.call("GET", *PATH, session=session)
    assert json.loads(reply.body).keys() == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}


def test_sessions_are_bounded_and_come_back(world: World) -> None:
    for _ in range(MAX_SESSIONS):
        world.service._sessions.begin("snp")
    reply = world.call("POST", "auth", body=kbs.Request(tee="snp").to_bytes())
    assert reply.status == 503 and reply.headers["retry-after"]
    world.clock.now += LIFETIME
    world.auth()


def test_metrics_count_and_name_nothing(world: World, box: Machine) -> None:
    world.call("GET", *PATH, session=world.attested(box))
    text = world.service.metrics.render().decode()
    assert 'cloister_broker_decisions_total{decision="release"} 1.0' in text
    assert "faq" not in text and "default" not in text


def test_the_tees_that_are_supported_are_the_protocols() -> None:
    assert set(KBS_TEES.values()) == {"snp", "tdx"}
    assert replace(bound(NOW)).keyset


def test_a_policy_that_changed_since_the_attestation_is_judged_anew(world: World, box: Machine) -> None:
    from tests.broker.world import POLICY

    session = world.attested(box)
    stricter = POLICY.replace("cloister test", "cloister other")
    world.store.set_policy("strict", stricter, by="test", now=START)
    assert problem(world.call("GET", *PATH, session=session)) == (403, "PolicyDeny")
    world.store.set_policy("strict", POLICY, by="test", now=START)
    assert world.call("GET", *PATH, session=session).status == 200


def test_a_verdict_that_has_run_out_meanwhile_is_made_anew(world: World, box: Machine) -> None:
    from tests.broker.world import POLICY

    world.store.set_policy("strict", POLICY.replace("= 3600", "= 1"), by="test", now=START)
    session = world.attested(box)
    world.clock.now += 30
    assert world.call("GET", *PATH, session=session).status == 200
