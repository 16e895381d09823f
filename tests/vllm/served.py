"""Runs in vLLM's own environment: the worker of `cloister serve --tee` over vLLM, asked in its process.

python -m tests.vllm.served KIND < messages.json: the answers as JSON. The hardware is the played kernel of
tests/hardware, so no client could attest it; what is tried is how the worker starts, answers and ends.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx2

from cloister.cli.serving import Settings, find_spec
from enclave import hardware
from enclave.identity import Identity
from enclave.tee.tsm import TsmCpu
from tests.hardware.kernel import snp
from tests.running import FAQ

BOUNDS = ["kv_tokens=4096", "block_tokens=32", "max_rows=8", "step_tokens=256", "max_adapters=2"]


async def asked(application: Any, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    transport = httpx2.ASGITransport(app=application)
    async with httpx2.AsyncClient(transport=transport, base_url="http://worker", timeout=300) as client:
        answers = [await client.post("/v1/chat/completions", json=each) for each in questions]
        return [{"status": answer.status_code, **answer.json()} for answer in answers]


def main() -> int:
    settings = Settings(
        model=str(FAQ), name="faq", adapters=[f"sailor={FAQ.parent / 'adapters' / 'sailor'}"],
        engine=[sys.argv[1], *BOUNDS], issuers=[], tee="sev-snp",
    )  # fmt: skip
    assert sys.argv[1] == "embedded" or find_spec("vllm") is not None
    identity = Identity()
    with tempfile.TemporaryDirectory() as tree:
        cpu = TsmCpu("sev-snp", reports=Path(tree), files=snp())
        worker = hardware.started(settings.configuration(), identity, cpu, ())
        answers = asyncio.run(asked(worker.application, json.load(sys.stdin)))
        engine = json.loads(worker.workload)["engine"]
        worker.close()
    print("RESULT " + json.dumps({"answers": answers, "engine": engine}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
