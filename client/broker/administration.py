"""What owners do over HTTP with a signed token: keys in and out, policies, limits. As the server has it.

POST and DELETE /resource/{...}, GET /resource; POST /attestation-policy; POST and GET /resource-policy.
Policies are ours: `attestation-policy` takes a verifier's policy, `resource-policy` the limits, in TOML
where the server takes Rego.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from attestation import PolicyError
from attestation.encoding import strict_json
from attestation.errors import MalformedEvidence
from sealing.errors import SealingError
from sealing.kbs import ResourceId

from .errors import LimitsError, UnknownArtifact
from .limits import read_limits, write_limits
from .replies import Problem, Reply, unauthorized
from .store import Store
from .tokens import Admins, TokenRefused

MAX_POLICY = 1024 * 1024
_WRONG = (PolicyError, LimitsError, UnknownArtifact, SealingError, MalformedEvidence)


class Administration:
    """The part of the broker that only owners reach."""

    def __init__(self, store: Store, admins: Admins, clock: Callable[[], float]) -> None:
        self._store = store
        self._admins = admins
        self._clock = clock

    def answer(self, method: str, path: tuple[str, ...], bearer: str | None, body: bytes) -> Reply:
        """The answer; raises Problem. Everything is refused before it is read, without a token."""
        act = self._action(method, path, body)
        now = self._clock()
        try:
            by = self._admins.check(bearer, now)
        except TokenRefused as error:
            self._store.log(now, "admin", outcome="refused", method=method, path="/".join(path)[:200])
            raise unauthorized("AdminAuthAccess", f"Admin auth error: {error}") from None
        try:
            return act(by, now)
        except _WRONG as error:
            self._store.log(now, "admin", outcome="malformed", by=by, reason=str(error))
            raise Problem(400, "ParsePolicyError", str(error)) from None

    def _action(self, method: str, path: tuple[str, ...], body: bytes) -> Callable[[str, float], Reply]:
        match method, path:
            case "POST", ("resource", *name):
                return lambda by, now: self._put(_resource(name), body, by, now)
            case "DELETE", ("resource", *name):
                return lambda by, now: self._revoke(_resource(name), by, now)
            case "GET", ("resource",):
                return lambda by, now: self._list()
            case "POST", ("attestation-policy",):
                return lambda by, now: self._attestation_policy(body, by, now)
            case "POST", ("resource-policy",):
                return lambda by, now: self._resource_policy(body, by, now)
            case "GET", ("resource-policy",):
                return lambda by, now: self._limits()
        raise Problem(404, "PluginNotFound", "Plugin not found")

    def _put(self, resource: ResourceId, body: bytes, by: str, now: float) -> Reply:
        self._store.put(resource, body, by=by, now=now)
        return Reply(200)

    def _revoke(self, resource: ResourceId, by: str, now: float) -> Reply:
        self._store.revoke(resource, by=by, now=now)
        return Reply(200)

    def _list(self) -> Reply:
        return Reply(200, json.dumps([str(item.resource) for item in self._store.artifacts()]).encode())

    def _attestation_policy(self, body: bytes, by: str, now: float) -> Reply:
        table = _table(body)
        policy_id = table.get("policy_id")
        if not isinstance(policy_id, str):
            raise LimitsError("policy_id is missing")
        self._store.set_policy(policy_id, _policy(table), by=by, now=now)
        return Reply(200)

    def _resource_policy(self, body: bytes, by: str, now: float) -> Reply:
        self._store.set_limits(read_limits(_policy(_table(body))), by=by, now=now, only=True)
        return Reply(200)

    def _limits(self) -> Reply:
        known = {item.resource: item.limits for item in self._store.artifacts() if item.limits}
        return Reply(200, write_limits(known).encode(), "application/toml")


def _resource(name: list[str]) -> ResourceId:
    return ResourceId.parse("/".join(name))


def _table(body: bytes) -> dict[str, Any]:
    value = strict_json(body, limit=MAX_POLICY)
    if not isinstance(value, dict):
        raise MalformedEvidence("not a JSON object")
    return value


def _policy(table: dict[str, Any]) -> str:
    """The text under `policy`: base64 of either alphabet, padded or not, as clients of the server send it."""
    text = table.get("policy")
    if not isinstance(text, str):
        raise LimitsError("policy is missing")
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode("utf-8")
    except ValueError:
        raise LimitsError("policy is not UTF-8 in base64") from None
