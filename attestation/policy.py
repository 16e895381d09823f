"""The policy: a TOML file that names what is trusted, with no permissive default.

A TEE without a section is not accepted. Every weakening is a key that must be written out.
docs/policy.md describes each key.
"""

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from .errors import PolicyError
from .roots import Roots
from .section import MISSING, Section

if TYPE_CHECKING:
    from pathlib import Path

    from .azure.policy import AciPolicy, VtpmPolicy
    from .importers.policy import CompositePolicy
    from .maa.policy import MaaPolicy
    from .nitro.policy import NitroPolicy
    from .nras.policy import NrasPolicy
    from .nvidia.policy import NvidiaGpuPolicy, NvidiaSwitchPolicy
    from .sgx.policy import SgxPolicy
    from .snp.policy import SnpPolicy
    from .tdx.policy import TdxPolicy
    from .tpm.policy import TpmPolicy

MAX_VERDICT_AGE = 24 * 3600
MAX_NONCE_AGE = 600
DEFAULT_NONCE_AGE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPolicy:
    """What may be loaded in the worker. Roots and key hashes are 32 bytes; an empty set allows none.

    A root in `models` or `adapters` may be loaded under any name, one in `named_models` or
    `named_adapters` under its own alone. A root that the worker did not compute is the statement of
    an owner, who must be one of `owners`. One of `consents` must be in force if any is named, and
    none may be if none is.
    """

    software: frozenset[str]
    models: frozenset[bytes]
    adapters: frozenset[bytes]
    named_models: frozenset[tuple[str, bytes]]
    named_adapters: frozenset[tuple[str, bytes]]
    owners: frozenset[bytes]
    policies: frozenset[str]
    consents: frozenset[str]
    clocks: frozenset[str]
    allow_any_model: bool
    allow_any_adapter: bool

    @classmethod
    def parse(cls, section: Section) -> Self:
        """The [workload] section."""
        any_model = section.flag("allow_any_model")
        any_adapter = section.flag("allow_any_adapter")
        hint = 'list SHA-256 roots, best as "name=root", or write allow_any_model = true'
        models, named_models = section.pins("models", 32, [] if any_model else MISSING, hint=hint)
        adapters, named_adapters = section.pins("adapters", 32, [])
        return cls(
            software=section.texts("software", hint="name the releases you trust"),
            models=models,
            adapters=adapters,
            named_models=named_models,
            named_adapters=named_adapters,
            owners=section.digests("owners", 32, []),
            policies=section.texts("policies", []),
            consents=section.texts("consents", []),
            clocks=section.choices("clocks", {"host", "tee"}, ["tee"]),
            allow_any_model=any_model,
            allow_any_adapter=any_adapter,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a relying party accepts. A TEE whose section is None is not accepted.

    The optional fields are the tables of the file, by name. `digest` is the SHA-256 of the TOML text
    it was read from.
    """

    roots: Roots
    max_verdict_age: timedelta
    max_nonce_age: timedelta
    require_session: bool = False
    allow_classical: bool = False
    allow_remote_simulation: bool = False
    workload: WorkloadPolicy | None = None
    snp: "SnpPolicy | None" = None
    tdx: "TdxPolicy | None" = None
    sgx: "SgxPolicy | None" = None
    nvidia_gpu: "NvidiaGpuPolicy | None" = None
    nvidia_switch: "NvidiaSwitchPolicy | None" = None
    azure_vtpm: "VtpmPolicy | None" = None
    azure_aci: "AciPolicy | None" = None
    maa: "MaaPolicy | None" = None
    nras: "NrasPolicy | None" = None
    tpm: "TpmPolicy | None" = None
    nitro: "NitroPolicy | None" = None
    composite: "CompositePolicy | None" = None
    digest: bytes = field(default=b"", repr=False)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The policy in `text`; PolicyError names the first key that is wrong, missing or unknown."""
        try:
            table = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise PolicyError(f"not TOML: {error}") from None
        section = Section("", table)
        section.integer("version", 1, 1)
        policy = cls(
            roots=Roots.pinned(section.texts("roots", hint='for example roots = ["amd", "nvidia"]')),
            max_verdict_age=_seconds(section, "max_verdict_age", MAX_VERDICT_AGE),
            max_nonce_age=_seconds(section, "max_nonce_age", MAX_NONCE_AGE, DEFAULT_NONCE_AGE),
            require_session=section.flag("require_session"),
            allow_classical=section.flag("allow_classical"),
            allow_remote_simulation=section.flag("allow_remote_simulation"),
            **_tables(section),
            digest=hashlib.sha256(text.encode()).digest(),
        )
        section.close()
        policy.check()
        return policy

    @classmethod
    def from_file(cls, path: "Path | str") -> Self:
        """The policy in the UTF-8 file `path`; PolicyError names the file and what is wrong with it."""
        try:
            with open(path, encoding="utf-8") as file:
                return cls.from_toml(file.read())
        except OSError as error:
            raise PolicyError(f"{path}: {error.strerror}") from None
        except (UnicodeDecodeError, PolicyError) as error:
            raise PolicyError(f"{path}: {error}") from None

    def with_roots(self, roots: Roots) -> Self:
        """This policy with other trust anchors, which the verdict will name."""
        return replace(self, roots=roots)

    def check(self) -> None:
        """PolicyError if the parts contradict each other."""
        if not any(getattr(self, name) for name in TEES):
            raise PolicyError(f"no TEE section: add one of {', '.join(TEES)}; without one nothing passes")
        if self.allow_remote_simulation and not self.roots.simulated:
            raise PolicyError('allow_remote_simulation goes only with roots = ["simulator"]')


class Sections(Mapping[str, type[Any]]):
    """What reads each section of a policy, by name; loaded when it is first asked for."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> type[Any]:
        module, _, kind = self._places[name].partition(":")
        found: type[Any] = getattr(import_module(module, __package__), kind)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_TEES = {
    "snp": ".snp.policy:SnpPolicy",
    "tdx": ".tdx.policy:TdxPolicy",
    "sgx": ".sgx.policy:SgxPolicy",
    "nvidia_gpu": ".nvidia.policy:NvidiaGpuPolicy",
    "nvidia_switch": ".nvidia.policy:NvidiaSwitchPolicy",
    "azure_vtpm": ".azure.policy:VtpmPolicy",
    "azure_aci": ".azure.policy:AciPolicy",
    "maa": ".maa.policy:MaaPolicy",
    "nras": ".nras.policy:NrasPolicy",
    "tpm": ".tpm.policy:TpmPolicy",
    "nitro": ".nitro.policy:NitroPolicy",
}
TEES = Sections(_TEES)
"""The sections that name a kind of evidence, in the order in which they are read."""

SECTIONS = Sections(
    {"workload": ".policy:WorkloadPolicy", **_TEES, "composite": ".importers.policy:CompositePolicy"}
)


def _tables(section: Section) -> dict[str, Any]:
    return {name: section.table(name, _reader(name), None) for name in SECTIONS}


def _reader(name: str) -> Callable[[Section], Any]:
    return lambda section: SECTIONS[name].parse(section)


def _seconds(section: Section, key: str, high: int, default: int | None = None) -> timedelta:
    fallback = MISSING if default is None else default
    return timedelta(seconds=section.integer(key, 1, high, fallback))
