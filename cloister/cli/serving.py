"""`cloister serve` and `cloister measure`: settings into a configuration, then who starts the worker."""

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm

from attestation import ExitCode
from enclave.artifacts.desk import owner_hash
from enclave.artifacts.library import Findings
from enclave.artifacts.shelf import Found, Place, place_of
from enclave.configuration import SOFTWARE, Configuration, ConfigurationError, engine_options
from enclave.simulator.gpu import device_code, measurement_digest
from enclave.simulator.measure import Measurement
from enclave.simulator.measure import measure as measure_files
from enclave.simulator.processor import launch
from enclave.simulator.reference import policy_for
from sealing.errors import SealingError

FAQ_NAME = "faq"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Settings:
    """What a person typed: places, NAME=PLACE and NAME=VALUE words, PEM files, brokers' addresses.

    A place is a directory, or where a sealed artifact lies.
    """

    model: str | None
    name: str | None
    adapters: list[str]
    engine: list[str]
    issuers: list[Path]
    consent: Path | None = None
    encoders: Sequence[str] = ()
    documents: tuple[str, ...] = ()
    brokers: Sequence[str] = ()
    broker_ca: Path | None = None
    broker_plaintext: bool = False
    threshold: int = 1
    admitted: Sequence[Path] = ()
    uploads: Path | None = None
    insecure_gpu: bool = False
    gpu_toll: bool = False
    tee: str | None = None
    gpu: bool = False
    gpu_policy: Path | None = None
    gpu_collateral: Sequence[Path] = ()

    def configuration(self, host: str = "127.0.0.1", port: int = 0) -> Configuration:
        """The configuration; ConfigurationError names the word that does not fit."""
        model = shipped_model() if self.model is None else _place(self.model)
        if isinstance(model, Path) and not (model / "config.json").is_file():
            missing = "it has no config.json" if model.is_dir() else "there is none"
            raise ConfigurationError(f"{model} is not a model directory: {missing}")
        named = dict(_named("--adapter", word, "a LoRA adapter") for word in self.adapters)
        return Configuration(
            model=model,
            name=self.name or (FAQ_NAME if self.model is None else _last(self.model)),
            adapters=named or (_shipped_adapters(shipped_model()) if self.model is None else {}),
            encoders=dict(_plain("--encoder", word, "a sentence encoder") for word in self.encoders),
            issuers=tuple(_pem("--issuer", path) for path in self.issuers),
            engine=engine_options(self.engine),
            consent=_file("--consent", self.consent) if self.consent else None,
            documents=dict(_named("--documents", word, "text files") for word in self.documents),
            brokers=tuple(self.brokers),
            broker_ca=_pem("--broker-ca", self.broker_ca) if self.broker_ca else None,
            broker_plaintext=self.broker_plaintext,
            threshold=self.threshold,
            admitted=tuple(_owner(path) for path in self.admitted),
            uploads=_folder(self.uploads) if self.uploads else None,
            insecure_gpu=self.insecure_gpu,
            gpu_toll=self.gpu_toll,
            tee=self.tee,
            confidential_gpu=self.gpu,
            host=host,
            port=port,
        )


def serve(settings: Settings, host: str, port: int, write_policy: Path | None) -> int:
    """Start the worker and stay until it ends; its exit status.

    After Ctrl-C 0 if it had begun to serve and ended in order, else 130.
    """
    configuration = settings.configuration(host, port)
    places = (
        configuration.model,
        *configuration.adapters.values(),
        *configuration.documents.values(),
    )
    if not configuration.brokers and any(isinstance(place, str) for place in places):
        raise ConfigurationError("what is sealed needs the address of its key broker: --broker URL")
    if configuration.engine.kind == "vllm" and find_spec("vllm") is None:
        raise ConfigurationError(
            "--engine vllm: vLLM is not installed beside Cloister here; see docs/vllm.md"
        )
    _listenable(host, port)
    if configuration.tee is not None:
        from .hardware import become_worker

        become_worker(settings, configuration, write_policy)
    if settings.gpu_policy or settings.gpu_collateral:
        raise ConfigurationError("--gpu-policy and --gpu-collateral judge real GPUs: --tee with --gpu nvidia")
    if configuration.insecure_gpu:
        device = configuration.engine.device
        sys.stderr.write(f"INSECURE GPU: the model runs on {device}, whose memory and transfers are open\n")
    if write_policy is not None and not write_policy.parent.is_dir():
        raise ConfigurationError(f"--write-policy {write_policy}: {write_policy.parent} is not a directory")
    sys.stderr.write("SIMULATED: a security processor in software measures and starts the worker\n")
    if write_policy is None:
        sys.stderr.write("clients need the policy that pins it: add --write-policy FILE\n")
    worker = launch(configuration.measured(), local=configuration.local())
    try:
        if write_policy is not None:
            write_policy.write_text(_policy(configuration, measure_files(configuration.measured())))
            sys.stderr.write(f"policy for clients: {write_policy}\n")
        return worker.wait()
    except KeyboardInterrupt:
        worker.terminate()
        return ExitCode.ACCEPTED if worker.wait() == 0 else INTERRUPTED
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
    findings = Findings.of(configuration)
    kinds = ["model"] + ["encoder"] * len(findings.encoders) + ["adapter"] * len(findings.adapters)
    for kind, found in zip(kinds, findings, strict=True):
        owner = f"  owner {found.loaded.owner}" if found.signed else ""
        write(f"{kind + ' root':<17}{found.root.hex()}  {found.name}{owner}\n")
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

    findings = Findings.of(configuration)
    return policy_for(
        measured.digest,
        measurement_digest(device_code(measured)),
        software=SOFTWARE,
        models=_roots(findings.model, *findings.encoders),
        adapters=_roots(*findings.adapters),
        owners=[found.signed.manifest.owner.hash for found in findings if found.signed],
        policies=[Issuer.from_pem(pem.encode()).digest for pem in configuration.issuers],
        consents=[_consent_digest(configuration.consent)] if configuration.consent else [],
    )


def _roots(*found: Found) -> dict[str, bytes]:
    return {one.name: one.root for one in found}


def _consent_digest(path: Path) -> str:
    from sealing.consent import Consent
    from sealing.errors import MalformedDocument

    try:
        return Consent.from_bytes(path.read_bytes()).manifest.digest
    except (OSError, MalformedDocument) as error:
        raise ConfigurationError(f"--consent {path}: {error}") from None


def _place(word: str) -> Place:
    place = place_of(word)
    if isinstance(place, Path):
        return place.resolve()
    return place if "://" in place else str(Path(place).resolve())


def _last(word: str) -> str:
    """What a model is called that nobody named: the last part of its place."""
    return Path(word.partition("?")[0]).resolve().name


def _named(option: str, word: str, kind: str) -> tuple[str, Place]:
    name, mark, place = word.partition("=")
    found = _place(place)
    if not name or not mark or (isinstance(found, Path) and not found.is_dir()):
        raise ConfigurationError(f"{option} {word!r} is not NAME=PLACE of {kind}")
    return name, found


def _plain(option: str, word: str, kind: str) -> tuple[str, Path]:
    name, place = _named(option, word, kind)
    if not isinstance(place, Path):
        raise ConfigurationError(f"{option} {word!r} is sealed: these are loaded plain")
    return name, place


def _owner(path: Path) -> str:
    pem = _pem("--admit-owner", path)
    try:
        owner_hash(pem.encode())
    except (ValueError, SealingError, UnsupportedAlgorithm):
        message = f"--admit-owner {path} is not an owner's public key: `cloister owner-key new` makes one"
        raise ConfigurationError(message) from None
    return pem


def _listenable(host: str, port: int) -> None:
    """ConfigurationError if nobody can listen there, before minutes go into measuring and loading."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (while ")[0]
        raise ConfigurationError(f"{host}:{port}: {reason}; give another --port or --host") from None


def _file(option: str, path: Path) -> Path:
    if not path.is_file():
        raise ConfigurationError(f"{option} {path}: no such file")
    return path.resolve()


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigurationError(f"--uploads {path} is not a directory")
    return path.resolve()


def _pem(option: str, path: Path) -> str:
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise ConfigurationError(f"{option} {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{option} {path}: {error}") from None
