"""NVIDIA evidence for tests: the published cases, policies to judge them by, and a maker of devices."""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from attestation.collateral import Collateral, Kind
from attestation.context import Context
from attestation.evidence import DeviceEvidence
from attestation.nvidia import NvidiaSwitchPolicy
from attestation.policy import Policy
from attestation.roots import Roots
from attestation.section import Section
from attestation.verdict import Outcome, Result, Sheet, Verdict
from tests.shared import shared

GPU: dict[str, Any] = {
    "count": 1,
    "chips": ["GH100", "GB100"],
    "allow_any_driver": True,
    "allow_any_vbios": True,
    "allow_any_measurements": True,
    "allow_missing_fwid": True,
    "allow_missing_ocsp": True,
}
SWITCH: dict[str, Any] = {key: value for key, value in GPU.items() if key != "allow_any_driver"} | {
    "chips": ["LS10"]
}
RIMS: dict[str, Any] = {"allow_any_measurements": False, "rims": "required"}
PINNED = Roots.pinned({"nvidia"})


def policy(roots: Roots = PINNED, **overrides: Any) -> Policy:
    """A policy with the [nvidia_gpu] section above, changed by `overrides`; None takes a key out."""
    table = {key: value for key, value in (GPU | overrides).items() if value is not None}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    head = 'version = 1\nroots = ["nvidia"]\nmax_verdict_age = 3600\n[nvidia_gpu]\n'
    return Policy.from_toml(head + "\n".join(lines)).with_roots(roots)


def switch_policy(**overrides: Any) -> NvidiaSwitchPolicy:
    """The [nvidia_switch] section above, changed by `overrides`."""
    table = {key: value for key, value in (SWITCH | overrides).items() if value is not None}
    section = Section("nvidia_switch", table)
    parsed = NvidiaSwitchPolicy.parse(section)
    section.close()
    return parsed


def context(
    judged_by: Policy, at: datetime, *, rims: Iterable[bytes] = (), ocsp: Iterable[bytes] = ()
) -> Context:
    """The surroundings of one verification with these manifests and status responses."""
    items = {Kind.NVIDIA_RIM: tuple(rims), Kind.NVIDIA_OCSP: tuple(ocsp)}
    return Context(policy=judged_by, collateral=Collateral(MappingProxyType(items)), now=at)


@dataclass(frozen=True)
class Case:
    """A published case: its description and its files."""

    table: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def at(self) -> datetime:
        """The clock to verify with."""
        return datetime.fromisoformat(self.table["expected"]["at_time"]).astimezone(UTC)

    @property
    def nonce(self) -> bytes | None:
        """The nonce that the verifier expects, if the case gives one."""
        text = self.table.get("inputs", {}).get("expected_nonce")
        return bytes.fromhex(text) if text else None

    @property
    def passes(self) -> bool:
        """The expected verdict."""
        return bool(self.table["expected"]["verdict"] == "pass")

    @property
    def claims(self) -> dict[str, Any]:
        """The facts expected to be established."""
        return dict(self.table["expected"].get("claims", {}))

    @property
    def report(self) -> bytes:
        """The device's report."""
        return self.files["report.bin"]

    @property
    def chain(self) -> bytes:
        """The device's certificates."""
        return self.files["cert_chain.pem"]

    @property
    def rims(self) -> tuple[bytes, ...]:
        """The manifests that the case supplies."""
        return tuple(raw for name, raw in sorted(self.files.items()) if "rim" in name)

    @property
    def devices(self) -> tuple[DeviceEvidence, ...]:
        """The devices of a list."""
        tee = self.table["tee"] if self.table["tee"] != "composite" else "nvidia-gpu"
        name = next(name for name in self.files if name.startswith(("evidence_list", "gpu_evidence")))
        value = json.loads(self.files[name])
        entries = value["evidence_list"] if isinstance(value, dict) else value
        return tuple(
            DeviceEvidence(
                tee=tee,
                report=base64.b64decode(entry["evidence"]),
                chain=base64.b64decode(entry["certificate"]),
            )
            for entry in entries
        )


@cache
def case(name: str) -> Case:
    """The published case `group/name`."""
    folder = shared("evidence", *name.split("/"))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "case.json"}
    return Case(json.loads((folder / "case.json").read_text()), files)


def cases(group: str) -> list[str]:
    """The names of the published cases in `group`; empty where the evidence is not at hand."""
    folder = shared("evidence", group)
    return sorted(f"{group}/{path.name}" for path in folder.iterdir())


def result(sheet: Sheet, check: str) -> Result:
    """The result of the check named `check`."""
    return next(item for item in sheet.results() if item.check == check)


def outcome(sheet: Sheet, check: str) -> Outcome:
    """How the check named `check` ended."""
    return result(sheet, check).outcome


def failures(sheet: Sheet) -> list[str]:
    """The names of the checks that failed, in the order they were made."""
    return [str(item.check) for item in sheet.results() if item.outcome is Outcome.FAIL]


def accepted(*sheets: Sheet, at: datetime) -> bool:
    """Whether a verdict over `sheets` accepts."""
    return Verdict.of(sheets, at=at).accepted
