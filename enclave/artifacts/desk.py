"""ASGI, inside the seal: owners upload artifacts, load and unload their adapters while the worker serves."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sealing.artifact.order import AdapterOrder, Do
from sealing.cose import Signer
from sealing.errors import SealingError, SignatureRefused

from ..engine.interface import EngineError
from ..engine.runner import EngineRunner
from ..files import FilesError
from ..gateway.plain import Application, Receive, Scope, Send
from ..release.errors import ReleaseError
from .library import Library, find_adapter
from .shelf import name_fault
from .stores import BLOB_SCHEME, HTTP_SCHEMES
from .uploads import UploadRefused, Uploads

log = logging.getLogger(__name__)

PREFIX: Final = "/cloister/"
_UPLOAD: Final = re.compile(r"/cloister/uploads/([0-9a-f]{64})(/leaves|/chunks/(\d{1,16}))?")


class Refused(Exception):
    """An answer of `status` that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True, kw_only=True)
class OwnersDesk:
    """`application`, and beside it the owners' paths. `owners`: SHA-256 of the keys of those admitted.

    `keyset` gives K. Orders and manifests carry their owner's signature; leaves and chunks are held against
    the manifest, whoever sends them.
    """

    application: Application
    owners: Collection[bytes]
    library: Library
    runner: EngineRunner
    uploads: Uploads | None
    keyset: Callable[[], bytes]
    clock: Callable[[], float] = time.time
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Paths of others go to the application."""
        if not scope["path"].startswith(PREFIX):
            await self.application(scope, receive, send)
            return
        body = (await receive()).get("body", b"")  # the gateway hands the whole body over at once
        try:
            answer = await self._answered(scope["method"], scope["path"], body)
        except Refused as error:
            await _answer(send, error.status, _error(str(error)))
        except (UploadRefused, FilesError, ReleaseError, EngineError, SealingError) as error:
            status = 403 if isinstance(error, SignatureRefused) else 400
            await _answer(send, status, _error(str(error)))
        else:
            await _answer(send, 200, answer)

    async def _answered(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        if (method, path) == ("POST", "/cloister/adapters"):
            return await self._order(body)
        if self.uploads is None:
            raise Refused(404, "this worker takes no uploads")
        async with self._one:
            return await asyncio.to_thread(self._upload, self.uploads, method, path, body)

    def _upload(self, uploads: Uploads, method: str, path: str, body: bytes) -> dict[str, Any]:
        if (method, path) == ("PUT", "/cloister/uploads"):
            name = uploads.begin(body)
            return {"upload": name, **uploads.progress(name).to_json()}
        match = _UPLOAD.fullmatch(path)
        if match is None or method not in ("GET", "PUT") or (method == "GET") != (match[2] is None):
            raise Refused(404, "no such path: see docs/spec/artifact.md")
        name = match[1]
        if match[3] is not None:
            uploads.take(name, int(match[3]), body)
        elif match[2] is not None:
            uploads.take_leaves(name, body)
        return {"upload": name, **uploads.progress(name).to_json()}

    async def _order(self, body: bytes) -> dict[str, Any]:
        order, signer = AdapterOrder.read(body)
        order.check(self.keyset(), self.clock())
        if signer.hash not in self.owners:
            raise Refused(403, "this worker takes no orders of that owner")
        if order.do is Do.UNLOAD:
            return await self._unload(order, signer.hash)
        return await self._load(order, signer.hash)

    async def _load(self, order: AdapterOrder, owner: bytes) -> dict[str, Any]:
        if fault := name_fault(order.name):
            raise Refused(400, fault)
        async with self._one:
            place = await asyncio.to_thread(self._place, order)
        found = await asyncio.to_thread(find_adapter, order.name, place)
        manifest = found.signed.manifest if found.signed else None
        if manifest is None or manifest.owner.hash != owner or manifest.id != order.artifact:
            raise Refused(403, "what lies there is not the adapter of the order, or not of its owner")
        await self.library.add_adapter(self.runner, order.name, found)
        return _done(order, found.root, owner)

    async def _unload(self, order: AdapterOrder, owner: bytes) -> dict[str, Any]:
        held = self.library.holdings.get(order.name)
        signed = held.found.signed if held is not None and held.adapter else None
        if held is None or signed is None:
            raise Refused(404, f"no sealed adapter named {order.name!r} is loaded")
        if signed.manifest.owner.hash != owner or signed.manifest.id != order.artifact:
            raise Refused(403, f"adapter {order.name!r} is another's")
        await self.library.remove_adapter(self.runner, order.name)
        return _done(order, held.found.root, owner)

    def _place(self, order: AdapterOrder) -> str:
        if order.place.startswith((*HTTP_SCHEMES, BLOB_SCHEME)):
            return order.place
        if order.place:
            raise Refused(400, "place is an http(s) or azblob: address, or empty for what was uploaded")
        uploaded = self.uploads.find(order.artifact) if self.uploads else None
        if uploaded is None:
            raise Refused(404, "that artifact was not uploaded to this worker, or not to its end")
        return str(uploaded)


def owner_hash(pem: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo in an owner's PEM public key.

    Raises ValueError, UnsupportedAlgorithm, LocalProtocolError if it is none.
    """
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
        raise ValueError("an owner's key is Ed25519 or P-384")
    return Signer.of(key).hash


def _done(order: AdapterOrder, root: bytes, owner: bytes) -> dict[str, Any]:
    return {"do": order.do.value, "name": order.name, "root": root.hex(), "owner": owner.hex()}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "owners"}}


async def _answer(send: Send, status: int, table: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(table).encode()})
