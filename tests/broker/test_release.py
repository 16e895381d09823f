"""The worker's side: it gets the secret that it asked for, or a clear error and nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from enclave.release import (
    BrokerLied,
    BrokerRefused,
    BrokerUnreachable,
    Expected,
    ReleaseError,
    ReleaseExpired,
    release,
)
from enclave.release.client import fetch
from enclave.release.transport import Answer, BrokerAddress
from enclave.tee.interface import EvidenceUnavailable
from sealing import kbs
from sealing.artifact import ReleasedSecret
from tests.broker.machines import NOW, Machine, bound
from tests.broker.world import EXPECTED, MODEL, SECRET, START, Direct, World, attester

Altering = Callable[[str, Answer], Answer]


@dataclass
class Liar(Direct):
    """A transport to a broker that alters its answers."""

    alter: Altering = field(default=lambda path, answer: answer)

    def altered(self, path: str, answer: Answer) -> Answer:
        return self.alter(path, answer)


def ask(direct: Direct, box: Machine, expected: Expected = EXPECTED) -> ReleasedSecret:
    return release(direct, MODEL, attester(box), expected, clock=direct.world.clock)


def lying(world: World, alter: Altering) -> Liar:
    return Liar(world, alter=alter)


def on(path: str, body: bytes | None = None, status: int = 200, **headers: str) -> Altering:
    """Replace the answer to `path`."""

    def alter(asked: str, answer: Answer) -> Answer:
        if not asked.endswith(path):
            return answer
        return Answer(status, {**answer.headers, **headers}, answer.body if body is None else body)

    return alter


def test_the_secret_arrives(world: World, box: Machine) -> None:
    assert ask(Direct(world), box) == SECRET


def test_each_release_takes_a_fresh_key_and_a_fresh_report(world: World, box: Machine) -> None:
    direct = Direct(world)
    ask(direct, box)
    ask(direct, box)
    sent = [kbs.Attestation.from_bytes(body) for path, body in direct.seen if path.endswith("/attest")]
    assert len({each.runtime_data.tee_pubkey for each in sent}) == 2
    assert (
        len({json.dumps(each.tee_evidence.primary["attestation_report"]["report_data"]) for each in sent})
        == 2
    )


def test_cookies_of_a_proxy_before_the_broker_do_not_matter(world: World, box: Machine) -> None:
    def alter(asked: str, answer: Answer) -> Answer:
        if not asked.endswith("/auth"):
            return answer
        cookie = f"affinity=1; Path=/, {answer.headers['set-cookie']}, other=2"
        return Answer(200, {**answer.headers, "set-cookie": cookie}, answer.body)

    assert ask(lying(world, alter), box) == SECRET


def test_a_broker_of_ours_learns_what_is_loaded_and_another_does_not(world: World, box: Machine) -> None:
    direct = Direct(world)
    ask(direct, box)
    assert kbs.MARK in json.loads(direct.seen[1][1])["runtime-data"]
    world.mark = False
    world.open()
    unmarked = Direct(world)
    with pytest.raises(BrokerRefused):  # the policy asks for a workload that is not sent
        ask(unmarked, box)
    assert kbs.MARK not in unmarked.seen[1][1].decode()


def test_a_broker_of_another_kind_serves_too(world: World, box: Machine) -> None:
    """A broker that does not mark itself, whose policy asks for no workload: as Trustee would."""
    from attestation import Collateral
    from client.broker.service import Service
    from client.broker.tokens import Admins
    from tests.broker.world import POLICY

    head, _, rest = POLICY.partition("[workload]")
    plain = head + rest[rest.index("[snp]") :]
    world.store.set_policy("strict", plain, by="test", now=START)
    collateral: Collateral = box.collateral.current()
    world.service = Service(
        world.store, Admins({}), clock=world.clock, ticks=world.clock, collateral=collateral, mark=False
    )
    assert ask(Direct(world), box) == SECRET


@pytest.mark.parametrize(
    ("expected", "text"),
    [(replace(EXPECTED, manifest=bytes(32)), "manifest"), (replace(EXPECTED, owner=bytes(32)), "owner")],
)
def test_another_artifacts_secret_is_refused(
    world: World, box: Machine, expected: Expected, text: str
) -> None:
    with pytest.raises(BrokerLied, match=text):
        ask(Direct(world), box, expected)


def test_a_secret_past_its_end_is_refused(world: World, box: Machine) -> None:
    world.store.put(MODEL, replace(SECRET, not_after=int(START)).to_bytes(), by="test", now=START)
    with pytest.raises(ReleaseExpired):
        ask(Direct(world), box)


def test_what_is_no_secret_is_refused_and_not_quoted(world: World, box: Machine) -> None:
    world.store.put(MODEL, b'{"key":"super-secret"}', by="test", now=START)
    with pytest.raises(BrokerLied) as caught:
        ask(Direct(world), box)
    assert "super-secret" not in str(caught.value)


def test_denials_name_the_broker_and_where_the_reason_is(world: World, box: Machine) -> None:
    world.limit(expires=int(START))
    with pytest.raises(BrokerRefused, match="audit log") as caught:
        ask(Direct(world), box)
    assert caught.value.status == 403
    assert str(caught.value).startswith("https://broker.example: ")
    with pytest.raises(BrokerRefused) as missing:
        fetch(Direct(world), kbs.ResourceId("no", "such", "thing"), attester(box))
    assert missing.value.status == 404


def test_a_worker_that_the_policy_does_not_allow(world: World, box: Machine) -> None:
    other = attester(box, bound(NOW, models=(bytes(32),)))
    with pytest.raises(BrokerRefused) as caught:
        release(Direct(world), MODEL, other, EXPECTED, clock=world.clock)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("alter", "text"),
    [
        (on("/auth", b"[]"), "challenge"),
        (on("/auth", kbs.Challenge(nonce="short").to_bytes()), "nonce"),
        (on("/auth", kbs.Challenge(nonce="ü" * 44).to_bytes()), "nonce"),
        (
            on(
                "/auth",
                kbs.Challenge(nonce="n" * 44, extra_params={"selected-hash-algorithm": "sha256"}).to_bytes(),
            ),
            "hash",
        ),
        (on("/auth", **{"set-cookie": "other=1"}), "cookie"),
        (on("/attest", b"{}"), "token"),
        (on("/faq", b"{}"), "response"),
        (on("/faq", b"not json"), "response"),
    ],
)
def test_a_broker_that_lies_is_found_out(world: World, box: Machine, alter: Altering, text: str) -> None:
    with pytest.raises(BrokerLied, match=text):
        ask(lying(world, alter), box)


def test_a_response_replayed_from_another_release_does_not_open(world: World, box: Machine) -> None:
    kept: list[Answer] = []

    def replay(path: str, answer: Answer) -> Answer:
        if not path.endswith("/faq"):
            return answer
        kept.append(answer)
        return kept[0]

    liar = lying(world, replay)
    assert ask(liar, box) == SECRET
    with pytest.raises(BrokerLied, match="replayed"):
        ask(liar, box)


def test_a_challenge_replayed_is_refused_before_anything_is_signed(world: World, box: Machine) -> None:
    kept: list[Answer] = []

    def replay(path: str, answer: Answer) -> Answer:
        if path.endswith("/auth"):
            kept.append(answer)
            return kept[0]
        return answer

    liar = lying(world, replay)
    ask(liar, box)
    sent = len(liar.seen)
    with pytest.raises(BrokerLied, match="used before"):
        ask(liar, box)
    assert [path for path, _ in liar.seen[sent:]] == ["/kbs/v0/auth"]


def test_a_nonce_of_the_brokers_own_making_is_bound_and_harmless(world: World, box: Machine) -> None:
    """Whatever text a broker sends as its nonce, what is signed is a hash over it and a key made here."""
    for nonce in ("{}" * 20, '"' * 32, "cloister/report-data/v1" * 2):
        liar = lying(world, on("/auth", kbs.Challenge(nonce=nonce).to_bytes()))
        with pytest.raises(BrokerRefused):
            ask(liar, box)


@pytest.mark.parametrize("status", [500, 503, 302, 418])
def test_other_statuses_are_no_answers(world: World, box: Machine, status: int) -> None:
    with pytest.raises(BrokerUnreachable, match=str(status)):
        ask(lying(world, on("/attest", b"<html>", status)), box)


def test_details_from_a_broker_are_made_harmless(world: World, box: Machine) -> None:
    body = kbs.ErrorInformation(type="x", detail="\x1b[2J" + "y" * 999).to_bytes()
    with pytest.raises(BrokerRefused) as caught:
        ask(lying(world, on("/auth", body, 401)), box)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 500


def test_hardware_that_fails_is_said_so(world: World, box: Machine) -> None:
    class Silent:
        tee = "sev-snp"

        def report(self, report_data: bytes) -> None:
            raise EvidenceUnavailable("gone")

    broken = replace(attester(box), cpu=Silent())  # type: ignore[arg-type]
    with pytest.raises(EvidenceUnavailable):
        release(Direct(world), MODEL, broken, EXPECTED, clock=world.clock)
    assert world.released == 0


@pytest.mark.parametrize(
    "url",
    [
        "broker",
        "ftp://broker",
        "https://",
        "https://broker/path",
        "https://broker?x=1",
        "http://broker.example",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="broker"):
        BrokerAddress(url=url, plaintext=True)


def test_plaintext_is_spelled_out() -> None:
    with pytest.raises(ValueError, match="plaintext"):
        BrokerAddress(url="http://127.0.0.1:1")
    assert BrokerAddress(url="http://127.0.0.1:1", plaintext=True)


def test_every_error_is_a_release_error() -> None:
    for kind in (BrokerLied, BrokerRefused, BrokerUnreachable, ReleaseExpired):
        assert issubclass(kind, ReleaseError)
