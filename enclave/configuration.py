"""How a worker is set up: what is measured (engine options, names) and what is not (paths, address).

Paths are not measured because the files behind them are: their roots stand in the workload.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from enclave.artifacts.shelf import Place, name_fault, place_of
from enclave.engine.interface import EngineOptions
from enclave.release import BrokerAddress

SOFTWARE = "cloister 0.1.0"
INSECURE = "insecure_gpu"
TEES = ("sev-snp", "tdx")
KINDS = ("embedded", "vllm")
"""Words for --engine that stand for its kind."""


class ConfigurationError(ValueError):
    """A setting that does not exist or does not fit; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One worker's settings. `adapters` and `encoders` map names to places, `issuers` are PEM keys.

    A place is a directory (Path), or the address of a sealed artifact (text), whose key the `brokers` have:
    URLs, `broker_ca` a PEM that their certificates chain to; `threshold` of them if they hold shares.
    `admitted`: owners' PEM keys, who may load adapters while serving, and upload to the folder `uploads`.
    `consent` is a file that the parties of a joint workload signed; its digest stands in the workload.
    `documents` maps names to places of text, which need a consent that says who may read them.
    `insecure_gpu`: the device computes on a GPU that no evidence vouches for ("cuda" unless the engine's
    options name one), and the workload says so. `gpu_toll`: crossings to the device are as slow as on
    confidential hardware. `tee`: the real CPU TEE that vouches ("sev-snp", "tdx"); None is the simulator.
    `confidential_gpu`: beside it, this machine's GPUs vouch for themselves, and the first computes.
    """

    model: Place
    name: str
    adapters: Mapping[str, Place] = field(default_factory=dict)
    encoders: Mapping[str, Path] = field(default_factory=dict)
    issuers: tuple[str, ...] = ()
    engine: EngineOptions = field(default_factory=EngineOptions)
    consent: Path | None = None
    documents: Mapping[str, Place] = field(default_factory=dict)
    brokers: tuple[str, ...] = ()
    broker_ca: str | None = None
    broker_plaintext: bool = False
    threshold: int = 1
    admitted: tuple[str, ...] = ()
    uploads: Path | None = None
    insecure_gpu: bool = False
    gpu_toll: bool = False
    tee: str | None = None
    confidential_gpu: bool = False
    host: str = "127.0.0.1"
    port: int = 8420

    def __post_init__(self) -> None:
        names = [self.name, *self.adapters, *self.encoders, *self.documents]
        if len(set(names)) != len(names):
            raise ConfigurationError(
                f"two models, adapters or documents have one name: {', '.join(sorted(names))}"
            )
        for name in names:
            if fault := name_fault(name):
                raise ConfigurationError(fault)
        if self.documents and self.consent is None:
            raise ConfigurationError("documents need a consent, which says to whom they may be quoted")
        self._check_brokers()
        self._check_hardware()
        self._check_device()

    def addresses(self) -> list[BrokerAddress]:
        """The brokers. ValueError for what is no address of one."""
        ca = self.broker_ca.encode() if self.broker_ca else None
        return [BrokerAddress(url=url, ca=ca, plaintext=self.broker_plaintext) for url in self.brokers]

    def _check_brokers(self) -> None:
        try:
            self.addresses()
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if self.threshold < 1 or (self.threshold > 1 and self.threshold > len(self.brokers)):
            raise ConfigurationError(f"{self.threshold} of {len(self.brokers)} brokers is not k of n")

    def _check_hardware(self) -> None:
        if self.tee is None and self.confidential_gpu:
            raise ConfigurationError(
                "a confidential GPU needs a real CPU TEE beside it: --tee sev-snp or tdx; the simulator"
                " has a device of its own"
            )
        if self.tee is not None and self.tee not in TEES:
            raise ConfigurationError(f"--tee {self.tee!r} is not one of {', '.join(TEES)}")
        if self.tee is not None and (self.insecure_gpu or self.gpu_toll):
            raise ConfigurationError(
                "--insecure-gpu and --gpu-toll belong to the simulator: with --tee nothing is simulated"
            )

    def _check_device(self) -> None:
        if self.engine.device != "cpu" and not (self.insecure_gpu or self.confidential_gpu):
            raise ConfigurationError(
                f"engine device {self.engine.device}: nothing vouches for that GPU; --insecure-gpu computes"
                " on it all the same, --tee with --gpu nvidia has it vouch for itself, and"
                " `cloister gpu check` says whether it can here"
            )
        if self.engine.kind == "vllm" and self.tee is None:
            raise ConfigurationError(
                "--engine vllm goes with --tee: vLLM starts processes of its own, which the simulator neither"
                " measures nor confines"
            )
        if self.engine.device == "cpu" and (self.insecure_gpu or self.confidential_gpu):
            object.__setattr__(self, "engine", replace(self.engine, device="cuda"))

    def measured(self) -> dict[str, Any]:
        """What goes into the measurement: JSON values."""
        return {"software": SOFTWARE, "engine": self.engine_options(), "issuers": list(self.issuers)}

    def engine_options(self) -> dict[str, str | int | bool]:
        """The engine's options as the workload lists them; an unset one is left out."""
        options = {name: value for name, value in asdict(self.engine).items() if value is not None}
        return options | ({INSECURE: True} if self.insecure_gpu else {})

    def local(self) -> dict[str, Any]:
        """What differs between machines and is not measured: JSON values."""
        return {
            "model": str(self.model),
            "name": self.name,
            "adapters": {name: str(path) for name, path in self.adapters.items()},
            "consent": str(self.consent) if self.consent else None,
            "encoders": {name: str(path) for name, path in self.encoders.items()},
            "documents": {name: str(path) for name, path in self.documents.items()},
            "brokers": list(self.brokers),
            "broker_ca": self.broker_ca,
            "broker_plaintext": self.broker_plaintext,
            "threshold": self.threshold,
            "admitted": list(self.admitted),
            "uploads": str(self.uploads) if self.uploads else None,
            "gpu_toll": self.gpu_toll,
            "tee": self.tee,
            "confidential_gpu": self.confidential_gpu,
            "host": self.host,
            "port": self.port,
        }

    @classmethod
    def from_tables(cls, table: Mapping[str, Any]) -> Self:
        """The configuration in the union of `measured` and `local`."""
        return cls(
            model=place_of(table["model"]),
            name=table["name"],
            adapters={name: place_of(path) for name, path in table["adapters"].items()},
            encoders={name: Path(path) for name, path in table.get("encoders", {}).items()},
            issuers=tuple(table["issuers"]),
            engine=EngineOptions(**{k: v for k, v in table["engine"].items() if k != INSECURE}),
            insecure_gpu=table["engine"].get(INSECURE, False),
            consent=Path(table["consent"]) if table["consent"] else None,
            documents={name: place_of(path) for name, path in table.get("documents", {}).items()},
            brokers=tuple(table.get("brokers", ())),
            broker_ca=table.get("broker_ca"),
            broker_plaintext=table.get("broker_plaintext", False),
            threshold=table.get("threshold", 1),
            admitted=tuple(table.get("admitted", ())),
            uploads=Path(table["uploads"]) if table.get("uploads") else None,
            gpu_toll=table.get("gpu_toll", False),
            tee=table.get("tee"),
            confidential_gpu=table.get("confidential_gpu", False),
            host=table["host"],
            port=table["port"],
        )


def engine_options(settings: list[str]) -> EngineOptions:
    """Engine options from NAME=VALUE words, or the name of a kind; ConfigurationError names what is wrong."""
    kinds = {item.name: item.type for item in fields(EngineOptions)}
    values: dict[str, Any] = {}
    for setting in settings:
        name, mark, value = (f"kind={setting}" if setting in KINDS else setting).partition("=")
        if not mark or name not in kinds:
            raise ConfigurationError(f"engine option {setting!r}; known: {', '.join(sorted(kinds))}")
        numeric = "int" in str(kinds[name])
        if numeric and not value.isdigit():
            raise ConfigurationError(f"engine option {name} is {value!r}, not a whole number")
        values[name] = int(value) if numeric else value
    try:
        return EngineOptions(**values)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
