"""`cloister serve` and `cloister measure`: settings into a configuration, then the security processor."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from attestation import ExitCode
from enclave.configuration import SOFTWARE, Configuration, ConfigurationError, engine_options
from enclave.model_files import model_root
from enclave.simulator.gpu import device_code, measurement_digest
from enclave.simulator.measure import Measurement
from enclave.simulator.measure import measure as measure_files
from enclave.simulator.processor import launch
from enclave.simulator.reference import policy_for

FAQ_NAME = "faq"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person typed: directories, NAME=DIRECTORY and NAME=VALUE words, PEM files."""

    model: Path | None
    name: str | None
    adapters: list[str]
    engine: list[str]
    issuers: list[Path]
    consent: Path | None = None
    encoders: Sequence[str] = ()
    documents: tuple[str, ...] = ()

    def configuration(self, host: str = "127.0.0.1", port: int = 0) -> Configuration:
        """The configuration; ConfigurationError names the word that does not fit."""
        model = (self.model or shipped_model()).resolve()
        if not (model / "config.json").is_file():
            raise ConfigurationError(f"{model} is not a model directory: it has no config.json")
        named = dict(_named("--adapter", word, "a LoRA adapter") for word in self.adapters)
        return Configuration(
            model=model,
            name=self.name or (FAQ_NAME if self.model is None else model.name),
            adapters=named or (_shipped_adapters(model) if self.model is None else {}),
            encoders=dict(_named("--encoder", word, "a sentence encoder") for word in self.encoders),
            issuers=tuple(_pem(path) for path in self.issuers),
            engine=engine_options(self.engine),
            consent=self.consent.resolve() if self.consent else None,
            documents=dict(_named("--documents", word, "text files") for word in self.documents),
            host=host,
            port=port,
        )


def serve(settings: Settings, host: str, port: int, write_policy: Path | None) -> int:
    """Start the worker and stay until it ends; returns its exit status, 0 after Ctrl-C."""
    configuration = settings.configuration(host, port)
    sys.stderr.write("SIMULATED: a security processor in software measures and starts the worker\n")
    if write_policy is None:
        sys.stderr.write("clients need the policy that pins it: add --write-policy FILE\n")
    worker = launch(configuration.measured(), local=configuration.local())
    try:
        if write_policy is not None:
            write_policy.write_text(_policy(configuration, measure_files(configuration.measured())))
        return worker.wait()
    except KeyboardInterrupt:
        worker.terminate()
        worker.wait()
        return ExitCode.ACCEPTED
    finally:
        if worker.poll() is None:
            worker.kill()


def measure(settings: Settings, write_policy: Path | None, entries: bool) -> int:
    """Print the measurements and the model's root; 0."""
    configuration = settings.configuration()
    measured = measure_files(configuration.measured())
    write = sys.stdout.write
    write(f"snp measurement  {measured.digest.hex()}\n")
    write(f"gpu measurement  {measurement_digest(device_code(measured)).hex()}\n")
    write(f"model root       {model_root(configuration.model).hex()}  {configuration.name}\n")
    for name, directory in sorted(configuration.adapters.items()):
        write(f"adapter root     {model_root(directory).hex()}  {name}\n")
    for name, directory in sorted(configuration.encoders.items()):
        write(f"encoder root     {model_root(directory).hex()}  {name}\n")
    if entries:
        for entry in measured.entries:
            write(f"{entry.sha256}  {entry.name}\n")
    if write_policy is not None:
        write_policy.write_text(_policy(configuration, measured))
        write(f"policy           written to {write_policy}\n")
    return ExitCode.ACCEPTED


def shipped_model() -> Path:
    """The FAQ model: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(str(resources.files("cloister"))) / "models" / "faq" / "model"
    beside = inside.parents[3] / "models" / "faq" / "model"
    for place in (inside, beside):
        if place.is_dir():
            return place
    raise ConfigurationError("the shipped model is not installed here; name one with --model DIRECTORY")


def _shipped_adapters(model: Path) -> dict[str, Path]:
    folder = model.parent / "adapters"
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}


def _policy(configuration: Configuration, measured: Measurement) -> str:
    from enclave.api.tenants import Issuer

    return policy_for(
        measured.digest,
        measurement_digest(device_code(measured)),
        software=SOFTWARE,
        models=_roots({configuration.name: configuration.model, **configuration.encoders}),
        adapters=_roots(configuration.adapters),
        policies=[Issuer.from_pem(pem.encode()).digest for pem in configuration.issuers],
        consents=[_consent_digest(configuration.consent)] if configuration.consent else [],
    )


def _roots(directories: Mapping[str, Path]) -> dict[str, bytes]:
    return {name: model_root(path) for name, path in directories.items()}


def _consent_digest(path: Path) -> str:
    from sealing.consent import Consent
    from sealing.errors import MalformedDocument

    try:
        return Consent.from_bytes(path.read_bytes()).manifest.digest
    except (OSError, MalformedDocument) as error:
        raise ConfigurationError(f"--consent {path}: {error}") from None


def _named(option: str, word: str, kind: str) -> tuple[str, Path]:
    name, mark, directory = word.partition("=")
    path = Path(directory).resolve()
    if not name or not mark or not path.is_dir():
        raise ConfigurationError(f"{option} {word!r} is not NAME=DIRECTORY of {kind}")
    return name, path


def _pem(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--issuer {path}: {error}") from None
