"""One worker on two ports, for comparison: its gateway on one, its API app in plaintext on the other.

Both share the engine, its thread and the event loop. The security processor runs on a thread of this process:
what it measures does not matter here.

    python -m benchmarks.both_ports POLICY_FILE [MODEL_DIRECTORY [ENGINE_OPTION=VALUE ...]]
"""

import asyncio
import socket
import sys
import threading
from pathlib import Path

import uvicorn
import uvloop

from enclave.configuration import SOFTWARE, Configuration, engine_options
from enclave.gateway.plain import Application
from enclave.gpu.device.attested import unjudged
from enclave.gpu.device.firmware import responder
from enclave.identity import Identity
from enclave.model_files import model_root
from enclave.simulator.answering import Attendant, SecurityProcessor
from enclave.simulator.chip import SnpProcessor
from enclave.simulator.gpu import GpuIdentity, measurement_digest
from enclave.simulator.reference import policy_for
from enclave.tee.simulated import ProcessorLink, SimulatedCollateral, SimulatedCpu
from enclave.worker import Worker, embedded, maintained

MODEL = Path(__file__).parents[1] / "models" / "faq" / "model"
MEASUREMENT = bytes(48)


def link(gpu: GpuIdentity) -> ProcessorLink:
    """A simulated security processor on a thread of its own."""
    ours, theirs = socket.socketpair()
    processor = SecurityProcessor(SnpProcessor(MEASUREMENT), {0: gpu.chain})
    attendant = Attendant(ours, processor)
    ours.settimeout(None)

    def attend() -> None:
        while attendant.attend():
            pass

    threading.Thread(target=attend, daemon=True).start()
    return ProcessorLink(theirs)


async def serve(application: Application, listener: socket.socket) -> None:
    """Serve one application with the settings of a worker."""
    config = uvicorn.Config(
        application, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


async def both(worker: Worker) -> None:
    """Serve gateway and plain app until stopped."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    async with maintained(worker):
        await asyncio.gather(serve(worker.gateway(), listeners[0]), serve(worker.application, listeners[1]))


def main() -> None:
    """Build the worker, write its policy, serve."""
    policy, model, options = Path(sys.argv[1]), Path((*sys.argv, MODEL)[2]), sys.argv[3:]
    engine = engine_options(["threads=1", *options])
    configuration = Configuration(model=model, name="faq", engine=engine, insecure_gpu=engine.device != "cpu")
    measured = measurement_digest(MEASUREMENT)
    policy.write_text(policy_for(MEASUREMENT, measured, software=SOFTWARE, models={"faq": model_root(model)}))
    gpu = GpuIdentity(MEASUREMENT)
    attested = unjudged(responder(gpu).respond)
    cpu = link(gpu)
    parts = (Identity(), SimulatedCpu(cpu), [attested], SimulatedCollateral(cpu))
    worker = Worker(configuration, *parts, embedded)
    uvloop.run(both(worker))


if __name__ == "__main__":
    main()
