"""Sending a sealed artifact to an attested worker, and ordering it to load or let go of an adapter."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from client.errors import ApiFailure, BrokenAnswer
from client.sdk import AsyncClient
from sealing import cose
from sealing.artifact import CHUNKS_NAME, LEAVES_NAME, MANIFEST_NAME
from sealing.artifact.order import AdapterOrder, Do

from .errors import NotAsSealed
from .verify import read_manifest

PIECE: Final = 1024 * 1024
Progress = Callable[[int, int], None]


async def upload(
    client: AsyncClient, directory: Path, progress: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Send what the worker does not have yet of the artifact in `directory`; what it says at the end.

    An upload that broke off goes on where it stopped. Raises ApiFailure, NotAsSealed, and what a request
    raises.
    """
    read_manifest(directory)
    state = await _ask(client, "PUT", "/cloister/uploads", _read(directory / MANIFEST_NAME))
    base = f"/cloister/uploads/{state['upload']}"
    if state["leaves"]:
        state = await _ask(client, "PUT", f"{base}/leaves", _read(directory / LEAVES_NAME))
    with _opened(directory / CHUNKS_NAME) as file:
        while state["have"] < state["total"]:
            progress(state["have"], state["total"])
            file.seek(state["have"])
            piece = file.read(min(PIECE, state["total"] - state["have"]))
            if not piece:
                raise NotAsSealed(f"{directory / CHUNKS_NAME} ends at byte {state['have']}")
            before = state["have"]
            state = await _ask(client, "PUT", f"{base}/chunks/{before}", piece)
            if state["have"] <= before:
                raise BrokenAnswer("the worker does not go on with the upload")
    progress(state["have"], state["total"])
    return state


async def order(
    client: AsyncClient, do: Do, name: str, directory: Path, key: cose.SigningKey, place: str = ""
) -> dict[str, Any]:
    """Have the worker load or unload the adapter in `directory`, whose owner's key is `key`.

    `place`: where the worker finds it; "" for what was uploaded. Raises ApiFailure, NotAsSealed, and what a
    request raises.
    """
    attested = await client.attest()
    made = AdapterOrder(
        do=do,
        name=name,
        artifact=read_manifest(directory).manifest.id,
        place=place,
        keyset=attested.keyset_digest,
        created=int(time.time()),
    )
    return await _ask(client, "POST", "/cloister/adapters", made.sign(key))


async def _ask(client: AsyncClient, method: str, path: str, body: bytes) -> dict[str, Any]:
    headers = ((b"content-type", b"application/octet-stream"),)
    async with client.request(method, path, body, headers) as response:
        raw = await response.read(1 << 20)
    try:
        value = json.loads(raw)
    except ValueError:
        raise BrokenAnswer("the worker's answer is not JSON") from None
    if response.status != 200:
        error = value.get("error") if isinstance(value, dict) else None
        told = error if isinstance(error, dict) else {"message": "no reason given"}
        raise ApiFailure(response.status, told)
    if not isinstance(value, dict):
        raise BrokenAnswer("the worker's answer is not an object")
    return value


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise NotAsSealed(f"{path}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    with _opened(path) as file:
        content: bytes = file.read()
    return content
