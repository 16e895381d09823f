"""What the network can do to a fetch: be slow, busy, cut short, oversized, or lead elsewhere."""

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from attestation import CollateralUnavailable, Kind
from attestation.collateral_store import Item
from attestation.fetch import OFFICIAL, Patience, Reply, Request, Service, Services, Transport
from tests.shared import shared

from .collateral_server import Vendor, running

ROOT = Path(__file__).resolve().parents[2]
QUICK = Patience(timeout=0.5, attempts=3, pause=0.01)


def request(**facts: Any) -> Request:
    """A request for /thing of the RIM service."""
    plain: dict[str, Any] = {
        "service": Service.NVIDIA_RIM,
        "path": "/thing",
        "read": lambda reply: (Item(Kind.NVIDIA_RIM, reply.body),),
        "limit": 1000,
    }
    return Request(**(plain | facts))


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with running(Vendor()) as found:
        yield found


async def send(vendor: Vendor, asked: Request | None = None, **options: Any) -> Reply:
    services = options.pop("services", None) or vendor.services
    async with Transport(services, options.pop("patience", QUICK), **options) as transport:
        return await transport.send(asked or request())


async def fails(vendor: Vendor, words: str, asked: Request | None = None, **options: Any) -> str:
    with pytest.raises(CollateralUnavailable, match=words) as caught:
        await send(vendor, asked, **options)
    text = str(caught.value)
    assert text.startswith(f"{vendor.url.removeprefix('http://')}/thing: ")
    assert "; " in text
    return text


async def test_an_answer_comes_back_with_its_headers(vendor: Vendor) -> None:
    vendor.serve("/thing", b"bytes", {"X-Chain": "a%0Ab"})
    reply = await send(vendor)
    assert (reply.body, reply.headers["x-chain"]) == (b"bytes", "a%0Ab")
    assert "Authorization" not in vendor.asked[0].headers
    assert "Cookie" not in vendor.asked[0].headers


async def test_a_post_carries_its_body_and_type(vendor: Vendor) -> None:
    got: list[tuple[str, bytes, str]] = []

    async def answer(incoming: web.Request) -> web.Response:
        got.append((incoming.method, await incoming.read(), incoming.content_type))
        return web.Response(body=b"ok")

    vendor.routes["/thing"] = answer
    await send(vendor, request(body=b"question", content_type="application/ocsp-request"))
    assert got == [("POST", b"question", "application/ocsp-request")]


@pytest.mark.parametrize(
    ("status", "words"), [(404, "does not have"), (401, "refused"), (403, "refused"), (400, "answers 400")]
)
async def test_a_refusal_is_not_tried_again(vendor: Vendor, status: int, words: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    vendor.routes["/thing"] = answer
    await fails(vendor, words)
    assert len(vendor.asked) == 1


def busy(times: int, status: int = 429, **headers: str) -> Any:
    """A handler that is busy for the first `times` requests."""
    left = [times]

    async def answer(_: web.Request) -> web.Response:
        left[0] -= 1
        if left[0] >= 0:
            return web.Response(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return web.Response(body=b"at last")

    return answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_busy_service_is_asked_again_with_growing_pauses(vendor: Vendor, status: int) -> None:
    vendor.routes["/thing"] = busy(2, status)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    assert (await send(vendor, sleep=sleep)).body == b"at last"
    assert pauses == [0.01, 0.02]


async def test_a_service_that_stays_busy_is_given_up(vendor: Vendor) -> None:
    vendor.routes["/thing"] = busy(99)
    await fails(vendor, "answers 429, 3 of 3 tries; try again later")
    assert len(vendor.asked) == 3


async def test_retry_after_is_honoured_up_to_the_patience(vendor: Vendor) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    vendor.routes["/thing"] = busy(1, Retry_After="7")
    await send(vendor, sleep=sleep)
    assert pauses == [7]
    vendor.routes["/thing"] = busy(1, Retry_After="3600")
    await fails(vendor, "asks to wait 3600 s, 1 of 3 tries", sleep=sleep)
    vendor.routes["/thing"] = busy(1, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")
    await send(vendor, sleep=sleep)
    vendor.routes["/thing"] = busy(1, Retry_After="soon")
    await send(vendor, sleep=sleep)
    assert pauses == [7, 0, 0.01]


async def test_a_silent_service_times_out(vendor: Vendor) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    vendor.routes["/thing"] = answer
    await fails(vendor, r"no answer within 0\.2 s", patience=Patience(timeout=0.2, attempts=1))


async def test_nobody_listening_says_so(vendor: Vendor) -> None:
    services = Services.at({Service.NVIDIA_RIM: "http://127.0.0.1:9/base"})
    with pytest.raises(
        CollateralUnavailable, match=r"^127\.0\.0\.1:9/base/thing: the exchange failed .*; check"
    ):
        await send(vendor, services=services)


async def test_a_truncated_answer_is_no_answer(vendor: Vendor) -> None:
    async def answer(incoming: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(incoming)
        await response.write(b"half")
        assert incoming.transport is not None
        incoming.transport.close()
        return response

    vendor.routes["/thing"] = answer
    await fails(vendor, "the exchange failed")


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_oversized_answer_is_cut_off(vendor: Vendor, chunked: bool) -> None:
    async def answer(incoming: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = 1001
        await response.prepare(incoming)
        await response.write(bytes(1001))
        return response

    vendor.routes["/thing"] = answer
    await fails(vendor, "longer than 1000 bytes")
    vendor.serve("/thing", bytes(1000))
    assert len((await send(vendor)).body) == 1000


async def test_a_compressed_answer_is_refused(vendor: Vendor) -> None:
    vendor.serve("/thing", b"\x1f\x8b", {"Content-Encoding": "gzip"})
    await fails(vendor, "compressed")


def redirect(to: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": to})

    return answer


async def test_redirects_stay_on_the_host(vendor: Vendor) -> None:
    vendor.serve("/there", b"found")
    vendor.routes["/thing"] = redirect("/there")
    assert (await send(vendor)).body == b"found"
    vendor.routes["/thing"] = redirect("http://127.0.0.1:9/there")
    await fails(vendor, "redirects to another host, 127.0.0.1")
    vendor.routes["/thing"] = redirect(vendor.url.replace("http:", "https:") + "/there")
    await fails(vendor, "redirects to another host")
    vendor.routes["/thing"] = redirect("/thing")
    await fails(vendor, "redirects without end")


async def test_the_key_goes_to_nvidia_alone(vendor: Vendor) -> None:
    vendor.serve("/thing", b"bytes")
    services = Services.at(dict.fromkeys(Service, vendor.url), rim_key="secret-key")
    await send(vendor, services=services)
    assert "Authorization" not in vendor.asked[0].headers
    assert "secret-key" not in repr(services)
    headers = Transport(Services.at(rim_key="secret-key"))._headers
    assert headers(request()) == {"Authorization": "Bearer secret-key"}
    assert headers(request(service=Service.AMD_KDS)) == {}
    with pytest.raises(ValueError, match="printable"):
        Services.at(rim_key="a\nb")


@pytest.fixture
def certified(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """TLS for a server at 127.0.0.1, and the file of the certificate that it shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirror")])
    now, day = datetime.now(UTC), timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(address, critical=False)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = tmp_path / "mirror.pem"
    file.write_bytes(private + certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context, file


async def test_a_certificate_that_the_system_does_not_trust_is_refused(
    certified: tuple[ssl.SSLContext, Path],
) -> None:
    with running(Vendor(), certified[0]) as vendor:
        vendor.serve("/thing", b"bytes")
        with pytest.raises(CollateralUnavailable, match="TLS certificate does not verify"):
            await send(vendor)
        assert vendor.asked == []


def test_trust_is_the_system_s(certified: tuple[ssl.SSLContext, Path]) -> None:
    with running(Vendor(), certified[0]) as vendor:
        vendor.serve("/sgx/certification/v4/pckcrl", b"bytes")
        quote = str(shared("evidence", "tdx", "v4-uptodate", "quote.bin"))
        command = [sys.executable, "-m", "cloister", "collateral", "fetch", quote]
        command += ["--pccs", vendor.url, "--store", str(certified[1].parent / "store")]
        trusting = os.environ | {"SSL_CERT_FILE": str(certified[1]), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=trusting, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 20
    assert "pckcrl: the answer is not what was asked for" in done.stderr
    assert "TLS" not in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "http://mirror.example",
        "ftp://127.0.0.1",
        "mirror.example",
        "https://user@mirror.example",
        "https://mirror.example/?x=1",
        "https://mirror.example:port",
    ],
)
def test_a_base_url_is_https_or_loopback(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Services.at({Service.AMD_KDS: url})


def test_services_are_the_vendors_unless_named() -> None:
    services = Services.at({Service.AMD_KDS: "https://mirror.example/kds/"}, pccs="https://localhost:8081")
    assert services.base(Service.AMD_KDS) == "https://mirror.example/kds"
    assert services.base(Service.INTEL_PCS) == services.base(Service.INTEL_CERTIFICATES)
    assert services.pccs
    assert services.official(Service.NVIDIA_OCSP) and not services.official(Service.AMD_KDS)
    assert Services().bases == OFFICIAL
    assert all(url.startswith("https://") for url in OFFICIAL.values())


def test_what_goes_into_a_path_is_quoted() -> None:
    asked = request(path="/a b?c#d", query=(("q", "x&y"),))
    assert asked.target == "/a%20b%3Fc%23d?q=x%26y"
