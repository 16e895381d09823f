"""An owner's process: signing key, data key, policy, sealed artifact, and a key broker of its own."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from client.artifacts import keys
from client.artifacts.seal import SealOrder, seal
from client.artifacts.verify import read_manifest
from client.consenting import describe
from cloister.cli import brokering
from enclave.artifacts.brokers import resource_of
from sealing.artifact import Kind
from sealing.consent import Consent
from sealing.cose import Signer

from .lines import Say, Values
from .searching import hunt, read_all
from .texts import WARDS

POLL = 0.3
NAMED = ("base model", "adapter", "documents", "code")
START_TIMEOUT = 60.0
_LISTENING = re.compile(r"listening on (http://\S+)")


class WillNotSign(Exception):
    """A consent that does not say what this party agreed to."""


class Owner:
    """One owner. `folder` is its own; nobody else reads it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.say = Say(name)
        self._key_file = folder / "owner.pem"
        self._root = b""
        self._sealed: Path | None = None
        self._broker: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def keys(self) -> Values:
        """Make the signing key. Its public half goes to the others."""
        signer = keys.new_owner_key(self._key_file)
        self.say("key", f"made a signing key of its own, {signer.hash.hex()[:16]}...", hash=signer.hash.hex())
        return {"public": (self._key_file.with_name("owner.pem.pub")).read_text(), "hash": signer.hash.hex()}

    async def seal(self, kind: str, source: str, to: str, base: str | None = None) -> Values:
        """Seal what it owns and send the ciphertext to the operator's disk."""
        own = self._plaintext(source)
        order = SealOrder(
            directory=own,
            kind=Kind(kind),
            name=self.name,
            owner=keys.read_owner_key(self._key_file),
            data_key=keys.new_data_key(self.folder / "data.key"),
            base=bytes.fromhex(base) if base else None,
            demo=True,
            chunk_size=64 * 1024,
        )
        sealed = await asyncio.to_thread(seal, order, Path(to))
        manifest = sealed.signed.manifest
        self._root, self._sealed = manifest.root, Path(to)
        size = manifest.layout().plaintext
        chunks = manifest.layout().chunks
        self.say(
            "sealed",
            f"sealed {size:,} bytes in {chunks} chunk{'s' if chunks > 1 else ''}; only the ciphertext leaves",
            sealed=kind,
            root=manifest.root.hex(),
            bytes=size,
        )
        return {"root": manifest.root.hex(), "owner": manifest.owner.hash.hex()}

    async def sign(self, consent: str, digest: str) -> Values:
        """Read the consent, check what it says of this party's own, and sign it."""
        path = Path(consent)
        found = Consent.from_bytes(path.read_bytes())
        manifest, key = found.manifest, keys.read_owner_key(self._key_file)
        mine = [x for x in (manifest.base, *manifest.adapters, *manifest.data) if x.root == self._root]
        if manifest.digest != digest or [x.owner for x in mine] != [Signer.of(key).hash]:
            raise WillNotSign("the consent does not name what this party sealed")
        readers = {reader for item in mine for reader in item.readers}
        if not readers <= {self.name} or manifest.output.logprobs:
            raise WillNotSign("the consent lets others read this party's documents, or lets out too much")
        signed = found.signed_by(key)
        path.write_bytes(signed.to_bytes())
        self.say("signed", f"read the consent, found its own root in it, and signed {digest[:23]}...")
        return told(signed)

    async def policy(self, text: str) -> Values:
        """Keep the policy that a worker must meet; this party's own file."""
        (self.folder / "policy.toml").write_text(text)
        self.say("policy", "wrote its policy: this code, these roots, this consent, or nothing", policy=text)
        return {}

    async def broker(self) -> Values:
        """Put the data key into a broker of its own, start it, and watch its log."""
        with contextlib.redirect_stdout(sys.stderr):
            self._place()
        command = ("broker", "serve", "--data", str(self._data), "--port", "0", "--plaintext")
        self._broker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cloister", *command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        url = await asyncio.wait_for(_url(self._broker), START_TIMEOUT)
        self._watch = asyncio.create_task(self._watch_log())
        self.say("broker", f"its key broker is up ({url}); the key is released to the attested worker alone")
        return {"url": url}

    async def hunt(self, place: str) -> Values:
        """Look for this party's plaintext in what the operator has."""
        whole = read_all(Path(place)) if Path(place).is_dir() else Path(place).read_bytes()
        found = await asyncio.to_thread(hunt, self._secrets(), whole, step=self._step)
        return {"windows": found.windows, "found": found.found, "bytes": len(whole)}

    async def close(self) -> None:
        """Stop the broker."""
        if self._watch is not None:
            self._watch.cancel()
        if self._broker is not None and self._broker.returncode is None:
            self._broker.terminate()
            await self._broker.wait()

    def _secrets(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(self._own.rglob("*.safetensors"))]

    def _plaintext(self, source: str) -> Path:
        """This party's own copy of what it owns."""
        if self.name in WARDS:
            for name, text in WARDS[self.name].files.items():
                path = self._own / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        else:
            shutil.copytree(source, self._own)
        return self._own

    def _place(self) -> None:
        if self._sealed is None:
            raise RuntimeError("nothing was sealed yet")
        until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        resource = str(resource_of(read_manifest(self._sealed)))
        policy, key = self.folder / "policy.toml", self.folder / "data.key"
        order = brokering.order(resource, self._sealed, key, policy, until, "unlimited", [], demo=True)
        brokering.init(self._data, None)
        brokering.add(self._data, None, order)

    async def _watch_log(self) -> None:
        """Tell of each entry of the broker's audit log as it appears."""
        seen = 0
        while True:
            await asyncio.sleep(POLL)
            for seq, entry in self._entries(seen):
                seen = seq
                told = decision(json.loads(entry))
                if told is not None:
                    self.say("audit", f"its broker: {told[0]}, {told[1]}", decision=told[0], about=told[1])

    def _entries(self, since: int) -> list[tuple[int, str]]:
        """Entries after number `since`, read without a hold on the broker's database."""
        place = f"file:{self._data / brokering.DATABASE}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True)) as database:
            rows = database.execute("SELECT seq, entry FROM audit WHERE seq > ? ORDER BY seq", (since,))
            return [(int(seq), str(entry)) for seq, entry in rows]

    @property
    def _step(self) -> int:
        """Every window of a letter, every 16th of weights, which are large."""
        return 1 if self.name in WARDS else 16

    @property
    def _data(self) -> Path:
        return self.folder / "broker"

    @property
    def _own(self) -> Path:
        return self.folder / "plaintext"


def told(consent: Consent) -> Values:
    """What a party reads in a consent: whose signatures hold, what it names, what may come out."""
    manifest = consent.manifest
    return {
        "digest": manifest.digest,
        "parties": [name for name, word in consent.standing().items() if word == "signed"],
        "names": [f"{name}: {value}" for name, value in describe(manifest) if name in NAMED],
        "output": {"max_tokens": manifest.output.max_tokens, "logprobs": manifest.output.logprobs},
    }


def decision(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """An audit entry that decides something, as one word and a sentence; None for others."""
    match entry:
        case {"event": "release", "resource": resource, "count": count}:
            return "released", f"the key of {_kind(resource)} to the attested worker, release {count}"
        case {"event": "denied", "refusals": [*refusals]} if not str(refusals[0]).startswith("unknown"):
            return "denied", "; ".join(map(str, refusals))[:400]
        case {"event": "attest", "outcome": "rejected", "policies": policies}:
            return "denied", f"evidence not accepted: {_why(policies)}"[:400]
    return None


def _kind(resource: object) -> str:
    return {"model": "the model", "adapter": "the adapter"}.get(str(resource).split("/")[1], "the documents")


def _why(policies: object) -> str:
    """The first reasons that a policy gave."""
    for verdict in policies.values() if isinstance(policies, Mapping) else ():
        if isinstance(verdict, Mapping) and verdict.get("reasons"):
            return "; ".join(map(str, verdict["reasons"][:2]))
    return "malformed"


async def _url(process: asyncio.subprocess.Process) -> str:
    printed: list[str] = []
    if process.stdout is not None:
        async for raw in process.stdout:
            printed.append(raw.decode(errors="replace"))
            if match := _LISTENING.search(printed[-1]):
                return match[1]
    raise RuntimeError("the broker did not start: " + "".join(printed))
