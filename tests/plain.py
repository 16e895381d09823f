"""The API without its gateway, in plaintext: the control that measurements and hunts are held against."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import uvicorn

from enclave.api.app import build
from enclave.api.service import Service
from enclave.api.tenants import Tenants
from enclave.engine.interface import EngineOptions
from enclave.engine.runner import EngineRunner
from enclave.files import DirectoryFiles
from enclave.text import TextModel


@contextlib.contextmanager
def plain_app(model: Path, encoders: Mapping[str, Path] | None = None) -> Iterator[str]:
    """The URL of the app over `model`, in a thread of this process."""
    from enclave.engine.embedded import EmbeddedEngine

    engine = EmbeddedEngine.load(DirectoryFiles(model), EngineOptions(threads=1))
    for name, directory in (encoders or {}).items():
        engine.load_encoder(name, DirectoryFiles(directory))
    runner = EngineRunner(engine)
    texts = {name: TextModel(directory) for name, directory in (encoders or {}).items()}
    app = build(Service("faq", TextModel(model), runner, encoders=texts), Tenants())
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            if not thread.is_alive():
                raise RuntimeError("the plain app did not start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        runner.close()
