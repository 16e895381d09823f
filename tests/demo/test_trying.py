"""What the demo makes of an attempt: stopped, succeeded, or unclear; never stopped for want of a check."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cloister.demo.parties.owner import decision
from cloister.demo.parties.trials import DESCRIBED, Outcome, Trial
from cloister.demo.parties.trying import Trying

ACCEPTED = {"accepted": True, "word": "SIMULATED", "failed": []}
CLEAN = {"windows": 9, "found": 0, "bytes": 1}


@dataclass
class Says:
    """A party that answers every order alike."""

    answers: dict[str, Any]

    async def do(self, what: str, **_: Any) -> Any:
        return self.answers.get(what, {})


def trying(
    operator: dict[str, Any], *, hunts: dict[str, Any] = CLEAN, verdict: Any = ACCEPTED, denied: Any = ()
) -> Trying:
    owner = Says({"hunt": hunts, "hunt_words": hunts, "attest": verdict})
    names = ("lab", "tuner", "north", "south", "auditor")
    parties: Any = dict.fromkeys(names, owner) | {"operator": Says(operator)}
    return Trying(parties, "http://127.0.0.1:1", {"device": "00"}, denied)


def down(said: str) -> dict[str, Any]:
    return {"changed": "did something", "up": False, "said": said}


REJECTED = {
    "accepted": False,
    "word": "REJECTED",
    "failed": [{"check": "cpu0 snp.report-data", "found": "ab", "expected": "cd"}],
}
DENIED = [{"party": "lab", "facts": {"about": "evidence not accepted: cpu0 snp.measurement: fail"}}]
BYTES = {"file": "f", "bytes": 1, "requests": 1, "folder": "d", "log": "l"}

CASES: dict[str, tuple[Trial, Callable[[], Trying], tuple[bool, bool]]] = {
    "nothing found": (Trial.WIRE, lambda: trying({"wire": BYTES}), (True, True)),
    "something found": (
        Trial.WIRE,
        lambda: trying({"wire": BYTES}, hunts={**CLEAN, "found": 1}),
        (False, True),
    ),
    "bus": (
        Trial.BUS,
        lambda: trying({"bus": BYTES | {"records": {}, "missed": 0}}),
        (True, True),
    ),
    "bus, and something found": (
        Trial.BUS,
        lambda: trying({"bus": BYTES | {"records": {}, "missed": 1}}, hunts={**CLEAN, "found": 2}),
        (False, True),
    ),
    "no bus": (
        Trial.BUS,
        lambda: trying({"bus": BYTES | {"bytes": 0, "records": {}, "missed": 0}}),
        (True, False),
    ),
    "nothing looked for": (
        Trial.DISK,
        lambda: trying({"disk": BYTES}, hunts={**CLEAN, "windows": 0}),
        (False, True),
    ),
    "answered again": (
        Trial.REPLAY,
        lambda: trying({"replay": {"status": 200, "answer": ""}}),
        (False, True),
    ),
    "key gone": (Trial.REPLAY, lambda: trying({"replay": {"status": 422, "answer": ""}}), (True, True)),
    "worker busy": (Trial.REPLAY, lambda: trying({"replay": {"status": 503, "answer": ""}}), (True, False)),
    "spliced": (Trial.SPLICE, lambda: trying({}, verdict=REJECTED), (True, True)),
    "spliced and believed": (Trial.SPLICE, lambda: trying({}), (False, True)),
    "swapped": (Trial.SWAP, lambda: trying({"swap": down("refused")}, denied=DENIED), (True, True)),
    "swapped, crashed": (Trial.SWAP, lambda: trying({"swap": down("out of memory")}), (True, False)),
    "swapped, and up": (Trial.SWAP, lambda: trying({"swap": down("") | {"up": True}}), (False, True)),
    "chunk": (Trial.TAMPER, lambda: trying({"tamper": down("chunk 3 is refused: altered")}), (True, True)),
    "no chunk": (Trial.TAMPER, lambda: trying({"tamper": down("no such file")}), (True, False)),
    "unsigned": (
        Trial.CONSENT,
        lambda: trying({"rewrite": down("not every party has signed this consent")}),
        (True, True),
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_outcomes(name: str) -> None:
    trial, made, expected = CASES[name]
    outcome: Outcome = await made().attempt(trial)
    assert (outcome.stopped, outcome.clear) == expected, outcome


def test_every_attack_is_described() -> None:
    assert DESCRIBED.keys() == set(Trial)


def test_entries_of_a_brokers_log_in_words() -> None:
    release = {"event": "release", "resource": "cloister/model/ab", "count": 2}
    assert decision(release) == ("released", "the key of the model to the attested worker, release 2")
    unknown = {"event": "denied", "refusals": ["unknown: no artifact of this name"]}
    assert decision(unknown) is None  # another owner's artifact, asked for at the wrong broker
    denied = {"event": "denied", "refusals": ["expired: since yesterday"]}
    assert decision(denied) == ("denied", "expired: since yesterday")
    rejected = {"event": "attest", "outcome": "rejected", "policies": {"p": {"reasons": ["a", "b", "c"]}}}
    assert decision(rejected) == ("denied", "evidence not accepted: a; b")
    assert decision({"event": "auth", "outcome": "challenged"}) is None
