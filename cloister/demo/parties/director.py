"""The director: starts the parties' processes, carries what they publish, and keeps what they say."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cloister.cli.serving import shipped_model
from enclave.simulator.reference import policy_for
from sealing.consent import Consent, Loaded, Manifest, OutputRules, Party
from sealing.cose import Signer

from .lines import Values
from .process import PartyProcess
from .texts import CAST, WARDS
from .trials import DESCRIBED, Outcome, Trial
from .trying import Trying

MODULE = "cloister.demo.parties.party"
OWNERS = ("lab", "tuner", "north", "south")
ENGINE = ["threads=1"]
CONSENT_LIFETIME = 24 * 3600
MAX_TOKENS = 64
KEPT_EVENTS = 400


@dataclass(slots=True)
class State:
    """What the page shows. Every fact in it came from a party's process."""

    step: str = "starting"
    busy: str = ""
    failed: str = ""
    events: list[Values] = field(default_factory=list)
    trials: dict[str, Values] = field(default_factory=dict)
    consent: Values = field(default_factory=dict)

    def to_json(self) -> Values:
        """For the page."""
        cast = [asdict(part) for part in CAST]
        trials = {name: asdict(described) for name, described in DESCRIBED.items()}
        return asdict(self) | {"cast": cast, "described": trials}


class Director:
    """Runs the story in `folder`. `changed` is called whenever the state has changed."""

    def __init__(self, folder: Path, changed: Callable[[Values | None], None] = lambda event: None) -> None:
        self.state = State()
        self._folder = folder
        self._changed = changed
        self._parties: dict[str, PartyProcess] = {}
        self._reference: Values = {}
        self._worker = ""
        self._denied: list[Values] = []
        self._exchange = 0
        self._asked = 0
        self._one = asyncio.Lock()
        self._started = time.monotonic()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Director"]:
        """All parties, up to and including a worker that runs under their consent."""
        try:
            await self._set_up()
            yield self
        finally:
            await asyncio.gather(*(party.stop() for party in self._parties.values()), return_exceptions=True)

    async def ask(self, hospital: str, number: int = 0) -> None:
        """A hospital attests the worker, asks, and hands its receipt to the auditor."""
        async with self._turn(f"{hospital} asks"):
            await self._ask(hospital, number)

    async def attack(self, trial: Trial) -> Outcome:
        """Let the operator try, and have those whom it concerns say how it went."""
        async with self._turn(DESCRIBED[trial].title):
            self.state.trials[trial] = {"running": True}
            self._denied.clear()
            self._changed(None)
            try:
                trying = Trying(self._parties, self._worker, self._reference, self._denied)
                outcome = await trying.attempt(trial)
            finally:
                self.state.trials.pop(trial, None)
                await self._party("operator").do("honest")
            self.state.trials[trial] = asdict(outcome)
            return outcome

    @asynccontextmanager
    async def _turn(self, what: str) -> AsyncIterator[None]:
        """One thing at a time: the machine and its router are one."""
        async with self._one:
            self.state.busy = what
            self._changed(None)
            try:
                yield
            finally:
                self.state.busy = ""
                self._changed(None)

    async def _set_up(self) -> None:
        self._step("Each party starts as a process of its own")
        await asyncio.gather(*(self._start(part.name) for part in CAST))
        self._step("Keys, and reference values of the released code")
        made = await asyncio.gather(
            self._party("auditor").do("reference", engine=ENGINE),
            *(self._party(name).do("keys") for name in OWNERS),
        )
        self._reference, keys = made[0], dict(zip(OWNERS, made[1:], strict=True))
        self._step("Owners seal what is theirs; the operator's disk gets ciphertext")
        sealed = await self._seal()
        self._step("All owners read and sign one consent")
        digest = await self._agree(sealed, keys)
        self._step("Each writes a policy; owners hand their keys to brokers of their own")
        brokers = await self._policies(sealed, digest)
        self._step("The operator starts the worker, which proves itself to every broker")
        await self._boot(brokers)
        self._step("Hospitals attest the worker and ask")
        for hospital in WARDS:
            await self._ask(hospital, 0)
        self._step("ready")

    async def _start(self, name: str) -> None:
        self._parties[name] = await PartyProcess(name, self._folder / name, self._heard).start(MODULE)

    async def _seal(self) -> dict[str, Values]:
        model = shipped_model()
        adapter = next(path for path in sorted((model.parent / "adapters").iterdir()) if path.is_dir())
        base = await self._party("lab").do("seal", kind="model", source=str(model), to=self._place("base"))
        others = await asyncio.gather(
            self._party("tuner").do(
                "seal", kind="adapter", source=str(adapter), to=self._place("adapter"), base=base["root"]
            ),
            *(
                self._party(name).do("seal", kind="documents", source="", to=self._place(name))
                for name in WARDS
            ),
        )
        return dict(zip(OWNERS, (base, *others), strict=True))

    async def _agree(self, sealed: dict[str, Values], keys: dict[str, Values]) -> str:
        manifest = self._manifest(sealed, keys)
        file = self._disk / "joint.consent"
        file.write_bytes(Consent(manifest=manifest).to_bytes())
        for name in OWNERS:
            self.state.consent = await self._party(name).do("sign", consent=str(file), digest=manifest.digest)
        return manifest.digest

    def _manifest(self, sealed: dict[str, Values], keys: dict[str, Values]) -> Manifest:
        def loaded(owner: str, name: str, readers: tuple[str, ...] = ()) -> Loaded:
            what = sealed[owner]
            root, by = bytes.fromhex(what["root"]), bytes.fromhex(what["owner"])
            return Loaded(name=name, root=root, owner=by, readers=readers)

        roles = {part.name: part.role for part in CAST}
        return Manifest(
            title="A base model, an adapter, two hospitals",
            base=loaded("lab", "base"),
            adapters=(loaded("tuner", "adapter"),),
            data=tuple(loaded(name, name, (name,)) for name in WARDS),
            measurement=bytes.fromhex(self._reference["measurement"]),
            output=OutputRules(max_tokens=MAX_TOKENS),
            parties=tuple(
                Party(name=name, role=roles[name], signer=_signer(keys[name]["public"])) for name in OWNERS
            ),
            expires=int(time.time()) + CONSENT_LIFETIME,
        )

    async def _policies(self, sealed: dict[str, Values], digest: str) -> dict[str, str]:
        roots = {name: bytes.fromhex(item["root"]) for name, item in sealed.items()}
        text = policy_for(
            bytes.fromhex(self._reference["measurement"]),
            bytes.fromhex(self._reference["gpu"]),
            software=self._reference["software"],
            models={"base": roots["lab"]},
            adapters={"adapter": roots["tuner"]},
            owners=[bytes.fromhex(item["owner"]) for item in sealed.values()],
            consents=[digest],
        )
        await asyncio.gather(*(self._party(n).do("policy", text=text) for n in (*OWNERS, "auditor")))
        started = await asyncio.gather(*(self._party(name).do("broker") for name in OWNERS))
        return {name: item["url"] for name, item in zip(OWNERS, started, strict=True)}

    async def _boot(self, brokers: dict[str, str]) -> None:
        options = ["--engine", ENGINE[0], "--name", "base", "--model", self._place("base")]
        options += ["--adapter", f"adapter={self._place('adapter')}"]
        for name in WARDS:
            options += ["--documents", f"{name}={self._place(name)}"]
        options += ["--consent", str(self._disk / "joint.consent"), "--broker-plaintext"]
        for url in brokers.values():
            options += ["--broker", url]
        started = await self._party("operator").do("start", options=options, disk=str(self._disk))
        self._worker = started["url"]

    async def _ask(self, hospital: str, number: int) -> Values:
        self._asked += 1
        self._exchange = self._asked
        try:
            return await self._exchanged(hospital, number)
        finally:
            self._exchange = 0

    async def _exchanged(self, hospital: str, number: int) -> Values:
        question = WARDS[hospital].questions[number]
        verdict = await self._party(hospital).do("attest", url=self._worker)
        if not verdict["accepted"]:
            return verdict
        post = self._folder / "auditor" / "post"
        post.mkdir(exist_ok=True)
        asked = await self._party(hospital).do(
            "ask", url=self._worker, number=number, model=question.model, post=str(post)
        )
        await self._party("auditor").do(
            "verify", receipt=asked["receipt"], evidence=asked["evidence"], of=hospital
        )
        return asked

    def _heard(self, line: Values) -> None:
        event = line | {"at": round(time.monotonic() - self._started, 1), "exchange": self._exchange}
        if line["facts"].get("decision") == "denied":
            self._denied.append(event)
        self.state.events.append(event)
        del self.state.events[:-KEPT_EVENTS]
        self._changed(event)

    def _step(self, text: str) -> None:
        self.state.step = text
        self._changed(None)

    def _party(self, name: str) -> PartyProcess:
        return self._parties[name]

    def _place(self, name: str) -> str:
        self._disk.mkdir(parents=True, exist_ok=True)
        return str(self._disk / name)

    @property
    def _disk(self) -> Path:
        return self._folder / "operator" / "disk"


def _signer(pem: str) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the demo's parties have Ed25519 keys")
    return Signer.of(key)
