"""What an owner does over HTTP, and that nobody else does it."""

import json
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.broker.errors import LimitsError
from client.broker.limits import Limits, read_limits, write_limits
from client.broker.tokens import admin_token
from tests.broker.world import ADMIN, LIMITS, MODEL, POLICY, START, World, policy_body

FILE = """
version = 1
["default/model/faq"]
policy = "strict"
expires = 2027-01-31T12:00:00Z
releases = 3
workloads = ["cloister test"]
demo = true
"""
REQUESTS = [
    ("POST", ("resource", "a", "b", "c"), b"key"),
    ("DELETE", ("resource", "default", "model", "faq"), b""),
    ("GET", ("resource",), b""),
    ("POST", ("attestation-policy",), policy_body(POLICY, policy_id="p")),
    ("POST", ("resource-policy",), policy_body(FILE)),
    ("GET", ("resource-policy",), b""),
]


def tokens() -> dict[str, str | None]:
    good = {"iat": int(START), "exp": int(START) + 60}
    return {
        "none": None,
        "garbage": "a.b.c",
        "another key": admin_token(Ed25519PrivateKey.generate(), now=START),
        "expired": admin_token(ADMIN, now=START - 999),
        "no end": jwt.encode({"iat": int(START)}, ADMIN, algorithm="EdDSA"),
        "too long": jwt.encode(good | {"exp": int(START) + 99999}, ADMIN, algorithm="EdDSA"),
        "unsigned": jwt.encode(good, None, algorithm="none"),
    }


@pytest.mark.parametrize(
    ("method", "path", "body"), REQUESTS, ids=lambda v: "-".join(v) if isinstance(v, tuple) else ""
)
@pytest.mark.parametrize("name", tokens())
def test_without_an_administrators_token_nothing_happens(
    world: World, method: str, path: tuple[str, ...], body: bytes, name: str
) -> None:
    before = world.store.artifacts()
    assert world.call(method, *path, bearer=tokens()[name], body=body).status == 401
    assert world.store.artifacts() == before
    assert world.log("admin")[-1]["outcome"] == "refused"


@pytest.mark.parametrize(
    ("method", "path", "body"), REQUESTS, ids=lambda v: "-".join(v) if isinstance(v, tuple) else ""
)
def test_with_it_everything_works(world: World, method: str, path: tuple[str, ...], body: bytes) -> None:
    assert world.admin(method, *path, body=body).status == 200


def test_a_key_is_put_policed_limited_listed_and_replaced(world: World) -> None:
    assert world.admin("POST", "resource", "team", "adapter", "one", body=b"first").status == 200
    assert json.loads(world.admin("GET", "resource").body) == ["default/model/faq", "team/adapter/one"]
    assert world.admin("POST", "attestation-policy", body=policy_body(POLICY, policy_id="p")).status == 200
    file = FILE.replace("default/model/faq", "team/adapter/one").replace("strict", "p")
    assert world.admin("POST", "resource-policy", body=policy_body(file)).status == 200
    shown = world.admin("GET", "resource-policy")
    assert read_limits(shown.body.decode()) == read_limits(file)
    found = {str(item.resource): item for item in world.store.artifacts()}
    assert found["default/model/faq"].limits is None
    assert world.admin("POST", "resource", "team", "adapter", "one", body=b"second").status == 200
    assert [item.version for item in world.store.artifacts()] == [1, 2]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (("resource", "a", "b", ".."), b"key"),
        (("resource", "a", "b"), b"key"),
        (("resource", "a", "b", "c"), b""),
        (("resource", "a", "b", "c"), b"k" * 65537),
        (("attestation-policy",), b"{"),
        (("attestation-policy",), policy_body("version = 1", policy_id="p")),
        (("attestation-policy",), policy_body(POLICY)),
        (("attestation-policy",), b'{"policy_id":"p","policy":"%%%"}'),
        (("resource-policy",), policy_body("version = 2")),
        (("resource-policy",), policy_body(FILE.replace("faq", "other"))),
        (("resource-policy",), policy_body(FILE.replace("strict", "missing"))),
        (("resource-policy",), policy_body(FILE.replace("demo = true", ""))),
    ],
)
def test_what_does_not_hold_together_changes_nothing(
    world: World, path: tuple[str, ...], body: bytes
) -> None:
    before = world.store.artifacts()
    assert world.admin("POST", *path, body=body).status in (400, 404)
    assert world.store.artifacts() == before


def test_other_paths_are_not_there(world: World) -> None:
    for method, path in (("GET", ("nothing",)), ("POST", ()), ("DELETE", ("auth",)), ("GET", ("attest",))):
        assert world.admin(method, *path).status == 404


def test_limits_files_are_written_as_they_are_read() -> None:
    full = Limits(
        policy='a "quoted" name \U0001f642 \x7f\n',
        expires=int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()),
        releases=None,
        workloads=("one", "two"),
        base_root=bytes(range(32)),
        demo=True,
    )
    for limits in (full, LIMITS):
        assert read_limits(write_limits({MODEL: limits})) == {MODEL: limits}
        assert Limits.from_text(limits.policy, limits.to_text()) == limits


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("releases = 3", "releases = 0", "releases"),
        ("releases = 3", "", "releases"),
        ("releases = 3", "releases = true", "releases"),
        ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00", "zone"),
        ("2027-01-31T12:00:00Z", "7", "expires"),
        ('policy = "strict"', "", "policy"),
        ("demo = true", "demo = 1", "demo"),
        ("demo = true", "demos = true", "unknown keys"),
        ('["cloister test"]', "[1]", "workloads"),
        ("version = 1", "", "version"),
        ("default/model/faq", "faq", "repository/type/tag"),
        ("demo = true", 'base_root = "xyz"', "base_root"),
        ("version = 1", "version = ", "TOML"),
    ],
)
def test_limits_files_that_are_wrong_say_where(old: str, new: str, named: str) -> None:
    with pytest.raises(LimitsError, match=named):
        read_limits(FILE.replace(old, new))
