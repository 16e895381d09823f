"""What an owner allows for one artifact, besides the policy: until when, how often, to which workloads."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

import rfc8785

from attestation import Policy, Workload
from attestation.binding import sha256
from attestation.encoding import strict_json
from attestation.section import toml_value
from sealing.errors import MalformedMessage
from sealing.kbs import ResourceId

from .errors import LimitsError

UNLIMITED: Final = "unlimited"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROOT = re.compile(r"[0-9a-f]{64}")
_KEYS = {"policy", "expires", "releases", "workloads", "base_root", "demo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one artifact. `policy`: the id of a policy in the store; `expires`: Unix seconds.

    `releases`: at most so many, None for any number. `workloads`: software names, or `sha256:` digests of
    whole workloads; empty for whatever the policy allows. `base_root`: an adapter's base model, which must
    be loaded (32 bytes). `demo`: may go to a simulated worker, and says that it protects nothing.
    """

    policy: str
    expires: int
    releases: int | None
    workloads: tuple[str, ...] = ()
    base_root: bytes | None = None
    demo: bool = False

    def to_text(self) -> str:
        """The limits without the policy's id, as they are stored."""
        table = {
            "expires": self.expires,
            "releases": self.releases,
            "workloads": list(self.workloads),
            "base_root": self.base_root.hex() if self.base_root else None,
            "demo": self.demo,
        }
        return rfc8785.dumps(table).decode()

    @classmethod
    def from_text(cls, policy: str, text: str) -> Self:
        """The limits that `to_text` wrote."""
        table = strict_json(text.encode(), limit=1 << 16)
        root = table.pop("base_root")
        workloads = tuple(table.pop("workloads"))
        return cls(
            policy=policy, workloads=workloads, base_root=bytes.fromhex(root) if root else None, **table
        )

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Self:
        """The limits in a table of a TOML file; LimitsError names the key that is wrong or missing."""
        if unknown := table.keys() - _KEYS:
            raise LimitsError(f"unknown keys {sorted(unknown)}: there are {sorted(_KEYS)}")
        releases = table.get("releases")
        workloads = table.get("workloads", [])
        root = table.get("base_root")
        if releases != UNLIMITED and not (type(releases) is int and 0 < releases < 1 << 31):
            raise LimitsError(f'releases is a positive number or "{UNLIMITED}": say which')
        if not isinstance(workloads, list) or not all(
            isinstance(w, str) and 0 < len(w) <= 128 for w in workloads
        ):
            raise LimitsError("workloads is a list of software names or sha256: digests")
        if root is not None and not (isinstance(root, str) and _ROOT.fullmatch(root)):
            raise LimitsError("base_root is 32 bytes in lower-case hexadecimal")
        if type(table.get("demo", False)) is not bool or not isinstance(table.get("policy"), str):
            raise LimitsError("policy names a policy of the store, demo is true or false")
        return cls(
            policy=table["policy"],
            expires=_instant(table.get("expires")),
            releases=None if releases == UNLIMITED else releases,
            workloads=tuple(workloads),
            base_root=bytes.fromhex(root) if root else None,
            demo=table.get("demo", False),
        )

    def check_policy(self, policy: Policy) -> None:
        """LimitsError if these limits cannot be kept under `policy`."""
        if policy.roots.simulated and not self.demo:
            raise LimitsError(
                "a policy of the simulator releases only what is marked --demo (over HTTP: demo = true)"
            )
        if (self.workloads or self.base_root) and policy.workload is None:
            raise LimitsError("limits on workloads need a policy with a [workload] section")

    def refusals(self, *, now: float, released: int, simulated: bool, workload: Workload | None) -> list[str]:
        """Why there is no release; empty if there is one. For the owner's eyes."""
        found = []
        if now >= self.expires:
            found.append(f"expired: {datetime.fromtimestamp(self.expires, UTC).isoformat()}")
        if self.releases is not None and released >= self.releases:
            found.append(f"releases: {released} of {self.releases} used up")
        if simulated and not self.demo:
            found.append("demo: the worker is simulated and the artifact is not marked demo")
        if self.workloads and (workload is None or not self._names(workload)):
            found.append(f"workload: {workload.software if workload else 'none'} is not named")
        if self.base_root and not (workload and any(m.root == self.base_root for m in workload.models)):
            found.append(f"base: no model with root {self.base_root.hex()} is loaded")
        return found

    def _names(self, workload: Workload) -> bool:
        digest = f"sha256:{sha256(workload.to_bytes()).hex()}"
        return any(
            name == (digest if _DIGEST.fullmatch(name) else workload.software) for name in self.workloads
        )


def read_limits(text: str) -> dict[ResourceId, Limits]:
    """The limits by resource in a TOML file (docs/broker.md). LimitsError says which entry is wrong."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise LimitsError(f"not TOML: {error}") from None
    if table.pop("version", None) != 1:
        raise LimitsError("version = 1 is missing")
    found = {}
    for name, entry in table.items():
        try:
            found[ResourceId.parse(name)] = Limits.from_table(entry if isinstance(entry, dict) else {})
        except (LimitsError, MalformedMessage) as error:
            raise LimitsError(f"[{name!r}]: {error}") from None
    return found


def write_limits(entries: Mapping[ResourceId, Limits]) -> str:
    """The TOML file that `read_limits` reads."""
    lines = ["version = 1"]
    for resource, limits in sorted(entries.items(), key=lambda item: str(item[0])):
        expires = datetime.fromtimestamp(limits.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines += ["", f'["{resource}"]', f"policy = {toml_value(limits.policy)}", f"expires = {expires}"]
        releases = UNLIMITED if limits.releases is None else limits.releases
        lines.append(f"releases = {toml_value(releases)}")
        lines.append(f"workloads = {toml_value(limits.workloads)}")
        lines += [f'base_root = "{limits.base_root.hex()}"'] if limits.base_root else []
        lines.append(f"demo = {str(limits.demo).lower()}")
    return "\n".join(lines) + "\n"


def _instant(value: Any) -> int:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return int(value.timestamp())
    raise LimitsError("expires is a time with its zone, such as 2027-01-31T12:00:00Z")
