"""A hospital's process: an owner of documents that also asks, and keeps receipts."""

import asyncio
import json
from pathlib import Path

from attestation import MalformedEvidence, Policy, Rejected, Verdict
from client.artifacts import keys
from client.errors import ClientError
from client.hourly import fetch
from client.receipts import Proof
from client.sdk import AsyncClient
from client.searching import party_token, search

from .lines import Values
from .owner import Owner
from .searching import hunt
from .texts import WARDS


class Hospital(Owner):
    """One hospital: documents, questions, answers."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self._said: list[str] = []

    async def attest(self, url: str) -> Values:
        """Ask the worker for evidence, and judge it under this hospital's own policy."""
        async with AsyncClient(url, self._policy()) as client:
            try:
                _, verdict = await client.examine()
            except (ClientError, MalformedEvidence) as error:
                return self._no_verdict(error)
        return self._told(verdict)

    async def ask(self, url: str, number: int, model: str, post: str) -> Values:
        """Look passages up in its documents, put a question to the model; keep the receipt."""
        question = WARDS[self.name].questions[number]
        key = keys.read_owner_key(self.folder / "owner.pem")
        async with AsyncClient(url, self._policy(), token=party_token(self.name, key)) as client:
            try:
                passages = await search(client, self.name, question.look_for, limit=1)
                answer = await client.ask(question.ask, model=model, receipt=True, temperature=0)
            except Rejected as rejected:
                return self._told(rejected.verdict) | {"sent": False}
            except ClientError as error:
                return self._no_verdict(error) | {"sent": False}
        quoted = [{"path": p.path, "lines": f"{p.first}-{p.last}", "text": p.text} for p in passages]
        self._said += [question.look_for, question.ask, answer.text, *(p.text for p in passages)]
        self.say(
            "exchange",
            "asked and was answered, over a channel that only the attested worker can open",
            looked_for=question.look_for,
            passages=quoted,
            question=question.ask,
            answer=answer.text,
            model=model,
        )
        if answer.receipt is None:
            raise RuntimeError("no receipt")
        return await self._kept(url, answer.receipt, Path(post)) | {"sent": True}

    async def hunt_words(self, place: str) -> Values:
        """Look for what this hospital asked and was told in what the operator recorded."""
        recorded = Path(place).read_bytes()
        secrets = [text.encode() for text in self._said]
        found = await asyncio.to_thread(hunt, secrets, recorded)
        return {"windows": found.windows, "found": found.found, "bytes": len(recorded)}

    def _secrets(self) -> list[bytes]:
        return [text.encode() for text in WARDS[self.name].files.values()]

    def _policy(self) -> Policy:
        return Policy.from_file(self.folder / "policy.toml")

    async def _kept(self, url: str, proof: Proof, post: Path) -> Values:
        """Keep the receipt and what opens it; send the auditor the receipt and the hour's evidence."""
        number = len(list(self.folder.glob("*.receipt")))
        proof.save(self.folder / f"{number}.receipt")
        path = post / f"{self.name}-{number}.receipt"
        path.write_bytes(proof.signed.raw)
        evidence = post / f"{self.name}-{number}.evidence.json"
        evidence.write_bytes((await fetch(url, proof.receipt)).to_json())
        table = json.loads(proof.receipt.to_bytes())
        self.say("receipt", "keeps a receipt, and the salts that open it", receipt=table)
        return {"receipt": str(path), "evidence": str(evidence)}

    def _told(self, verdict: Verdict) -> Values:
        """Say the verdict; what failed, by name."""
        failed = [
            {"check": f"{r.subject} {r.check}", "found": r.found[:200], "expected": r.expected[:200]}
            for r in verdict.blocking()
            if r.outcome == "fail"
        ]
        passed = sum(r.outcome == "pass" for r in verdict.results)
        facts = {"word": verdict.word, "passed": passed, "failed": failed, "accepted": verdict.accepted}
        text = f"{passed} checks passed" if verdict.accepted else f"refused: {failed[0]['check']}"
        self.say("verdict", text, **facts)
        return facts

    def _no_verdict(self, error: Exception) -> Values:
        text = f"{type(error).__name__}: {error}"[:300]
        self.say("verdict", f"no verdict: {text}", word="NONE", passed=0, failed=[], accepted=False)
        return {"word": "NONE", "accepted": False, "failed": [], "error": text}
