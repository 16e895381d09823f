"""The auditor's process: publishes reference values of the released code, and verifies receipts offline."""

import asyncio
from pathlib import Path

from attestation import Bundle, Policy
from client.auditing import verify_receipt
from cloister.cli.serving import Settings
from enclave.configuration import SOFTWARE
from enclave.simulator.gpu import device_code, measurement_digest
from enclave.simulator.measure import measure
from sealing.receipts import SignedReceipt

from .lines import Say, Values


class Auditor:
    """Measures the code that is installed here, and judges what others show."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.say = Say(name)

    async def reference(self, engine: list[str]) -> Values:
        """Measure the released code as the security processor would."""
        configuration = Settings(None, None, [], engine, []).configuration()
        measured = await asyncio.to_thread(measure, configuration.measured())
        gpu = measurement_digest(device_code(measured))
        text = f"measured {len(measured.entries):,} files of the released code"
        self.say(
            "reference",
            f"{text}: {measured.digest.hex()[:16]}...",
            measurement=measured.digest.hex(),
            gpu=gpu.hex(),
        )
        return {"measurement": measured.digest.hex(), "gpu": gpu.hex(), "software": SOFTWARE} | {
            "device": device_code(measured).hex()
        }

    async def policy(self, text: str) -> Values:
        """Keep the policy that workers had to meet."""
        (self.folder / "policy.toml").write_text(text)
        return {}

    async def verify(self, receipt: str, evidence: str, of: str) -> Values:
        """Judge one receipt against the evidence of its hour. No network, no worker, no contents."""
        signed = SignedReceipt.from_bytes(Path(receipt).read_bytes())
        bundle = Bundle.from_json(Path(evidence).read_bytes())
        verdict = verify_receipt(signed, bundle, Policy.from_file(self.folder / "policy.toml"))
        passed = sum(r.outcome == "pass" for r in verdict.results)
        failed = [f"{r.subject} {r.check}" for r in verdict.blocking()]
        said = f"{passed} checks passed" if verdict.accepted else f"refused: {failed[0]}"
        self.say(
            "audited",
            f"{of}'s receipt: {said}; what was asked and answered stays unknown to it",
            word=verdict.word,
            accepted=verdict.accepted,
            of=of,
            failed=failed,
            tokens=signed.receipt.completion_tokens,
        )
        return {"accepted": verdict.accepted, "failed": failed}

    async def close(self) -> None:
        """Nothing to close."""
