"""The operator's attempts, one after the other: what he does, and what those whom it concerns say to it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from .lines import Values
from .process import PartyProcess
from .texts import CAST, WARDS
from .trials import DESCRIBED, Outcome, Trial

TITLES = {part.name: part.title for part in CAST}
OWNERS = ("lab", "tuner", "north", "south")


@dataclass(frozen=True, slots=True)
class Trying:
    """One attempt. `denied` fills with the denials of the owners' brokers while it goes on."""

    parties: Mapping[str, PartyProcess]
    worker: str
    reference: Values
    denied: Sequence[Values]

    async def attempt(self, trial: Trial) -> Outcome:
        """Try it."""
        attempts: dict[Trial, Callable[[], Awaitable[Outcome]]] = {
            Trial.WIRE: self._wire,
            Trial.BUS: self._bus,
            Trial.DISK: self._disk,
            Trial.REPLAY: self._replay,
            Trial.SPLICE: self._splice,
            Trial.SWAP: lambda: self._boots("swap"),
            Trial.DOWNGRADE: lambda: self._boots("downgrade"),
            Trial.TAMPER: lambda: self._boots("tamper"),
            Trial.CONSENT: lambda: self._boots("rewrite"),
        }
        outcome = await attempts[trial]()
        return replace(outcome, clear=not outcome.stopped or DESCRIBED[trial].stopper in outcome.said)

    async def _wire(self) -> Outcome:
        recorded = await self._operator.do("wire")
        hunts = await asyncio.gather(
            *(self.parties[name].do("hunt_words", place=recorded["file"]) for name in WARDS)
        )
        did = f"recorded {recorded['bytes']:,} bytes in {recorded['requests']} requests"
        return hunted(did, hunts, "both hospitals' questions, passages and answers")

    async def _bus(self) -> Outcome:
        copied = await self._operator.do("bus")
        hunts = [await self.parties[name].do("hunt", place=copied["file"]) for name in ("lab", "tuner")]
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(copied["records"].items()))
        missed = f", {copied['missed']} more passed too fast" if copied["missed"] else ""
        did = f"copied {copied['bytes']:,} bytes ({kinds}{missed})"
        return hunted(did, hunts, "the weights of model and adapter") if copied["bytes"] else _nothing(did)

    async def _disk(self) -> Outcome:
        disk = await self._operator.do("disk")
        hunts = [await self.parties[name].do("hunt", place=disk["folder"]) for name in OWNERS]
        hunts += [await self.parties[name].do("hunt", place=disk["log"]) for name in WARDS]
        size = hunts[0]["bytes"] + hunts[-1]["bytes"]
        return hunted(f"read his disk and the worker's log, {size:,} bytes", hunts, "weights and documents")

    async def _replay(self) -> Outcome:
        answer = await self._operator.do("replay")
        return Outcome(
            did="sent a recorded request again, byte for byte",
            stopped=answer["status"] != 200,
            by="the worker: it erased the one-time key of this request when it opened it",
            said=f"{answer['status']}, {answer['answer']}",
        )

    async def _splice(self) -> Outcome:
        await self._operator.do("splice", reference=self.reference["device"])
        verdict = await self.parties["north"].do("attest", url=self.worker)
        return judged("gave out another GPU's evidence, signed for the right nonce", verdict)

    async def _boots(self, how: str) -> Outcome:
        machine = await self._operator.do(how)
        did = machine["changed"]
        if not machine["up"]:
            return self._refused(did, machine["said"])
        return judged(did, await self.parties["north"].do("attest", url=self.worker))

    def _refused(self, did: str, said: str) -> Outcome:
        """The machine did not come up: because of a broker, or because of what the worker found."""
        if not self.denied:
            return Outcome(did=did, stopped=True, by="the worker, which did not start", said=said)
        first = self.denied[0]
        return Outcome(
            did=did,
            stopped=True,
            by=f"the key broker of the {TITLES[first['party']].lower()}: no key, so nothing was loaded",
            said=first["facts"]["about"],
        )

    @property
    def _operator(self) -> PartyProcess:
        return self.parties["operator"]


def _nothing(did: str) -> Outcome:
    return Outcome(did=did, stopped=True, by="no bus was found", said="there was nothing to look into")


def hunted(did: str, hunts: Sequence[Values], what: str) -> Outcome:
    """The owners looked for their own secrets in what he has."""
    windows, found = sum(h["windows"] for h in hunts), sum(h["found"] for h in hunts)
    return Outcome(
        did=did,
        stopped=found == 0 and windows > 0,
        by="encryption: he has ciphertext",
        said=f"{windows:,} pieces of {what} were looked for in it by their owners; {found} were found",
    )


def judged(did: str, verdict: Values) -> Outcome:
    """A hospital judged what he showed."""
    failed = verdict.get("failed") or []
    said = "; ".join(f"{item['check']} failed, found {item['found'][:40]}" for item in failed[:3])
    return Outcome(
        did=did,
        stopped=not verdict["accepted"],
        by=f"North hospital's policy: verdict {verdict['word']}, and nothing was sent",
        said=said or verdict.get("error", ""),
    )
