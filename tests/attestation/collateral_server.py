"""A vendor on loopback: answers requests as told, and remembers what it was asked."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

from attestation.fetch import Service, Services
from tests.shared import shared

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Vendor:
    """All services in one. `routes` are by path; a path that is not there is 404."""

    routes: dict[str, Handler] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    url: str = ""

    def serve(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer `path` with `body`."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, headers=headers)

        self.routes[path] = answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.path not in self.routes:
            return web.Response(status=404)
        return await self.routes[request.path](request)

    @property
    def paths(self) -> list[str]:
        """The paths asked for, with their queries, in order."""
        return [request.path_qs for request in self.asked]

    @property
    def services(self) -> Services:
        """Every service here."""
        return Services.at(dict.fromkeys(Service, self.url))


@contextmanager
def running(vendor: Vendor, tls: ssl.SSLContext | None = None) -> Iterator[Vendor]:
    """`vendor` on a port of its own, in a thread of its own; https with `tls`."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", vendor.answer)
        runner = web.AppRunner(application, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        vendor.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield vendor
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def serve_intel(vendor: Vendor, window: str, root_crl: str, *, chain: str = "tcb_signing_chain_2025") -> None:
    """Serve a published window of Intel collateral as Intel's PCS does."""
    folder, roots = shared("evidence", "_collateral", "intel", window), shared("evidence", "_roots", "intel")
    tee = window.rsplit("_", 1)[1]
    signing = quote((roots / f"{chain}.pem").read_text())
    base = f"/{tee}/certification/v4"
    vendor.serve(f"{base}/tcb", (folder / "tcb_info.json").read_bytes(), {"TCB-Info-Issuer-Chain": signing})
    vendor.serve(
        f"{base}/qe/identity",
        (folder / "qe_identity.json").read_bytes(),
        {"SGX-Enclave-Identity-Issuer-Chain": signing},
    )
    vendor.serve(
        "/sgx/certification/v4/pckcrl",
        (folder / "pck_crl.der").read_bytes(),
        {"SGX-PCK-CRL-Issuer-Chain": signing},
    )
    vendor.serve("/IntelSGXRootCA.der", (roots / f"{root_crl}.der").read_bytes())


def serve_amd(vendor: Vendor, line: str, vcek: bytes, chip: str) -> None:
    """Serve a published VCEK, the authorities of its line and, where there is one, the ARK's CRL."""
    roots = shared("evidence", "_roots", "amd")
    stem, base = line.lower(), f"/vcek/v1/{line}"
    pems = [(roots / f"{stem}_{name}.pem").read_bytes() for name in ("ask", "ark")]
    vendor.serve(f"{base}/cert_chain", b"".join(pems))
    vendor.serve(f"{base}/{chip}", vcek)
    if (roots / f"{stem}_ark_crl.pem").exists():
        vendor.serve(f"{base}/crl", (roots / f"{stem}_ark_crl.pem").read_bytes())
