"""Writing a sealed artifact to Azure Blob Storage: what is there already is not sent again. Needs [azure]."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from client.azure import AzureUnavailable, credential
from sealing.artifact import CHUNKS_NAME, LEAVES_NAME, MANIFEST_NAME
from sealing.artifact.blob_hosts import takes_identity

from .errors import OwnerError
from .verify import read_manifest

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient

BLOCK: Final = 8 * 1024 * 1024
MAX_BLOCKS: Final = 50_000

Progress = Callable[[int, int], None]


def upload(
    directory: Path,
    url: str,
    progress: Progress = lambda done, total: None,
    *,
    own_credential: Any = None,
) -> None:
    """Write the artifact below https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX, the manifest last.

    A query in `url` (a shared access signature) is the credential, else azure-identity finds one, for Azure's
    own hosts alone. Blocks that an earlier try sent are kept. Raises NotAsSealed, OwnerError.
    """
    signed = read_manifest(directory)
    given = own_credential or (None if urlsplit(url).query else _credential(url))
    from azure.core.exceptions import AzureError

    try:
        with _client(url, CHUNKS_NAME, given) as chunks:
            _send_blocks(chunks, directory / CHUNKS_NAME, signed.hash, progress)
        for name in (LEAVES_NAME, MANIFEST_NAME):
            with _client(url, name, given) as client:
                client.upload_blob((directory / name).read_bytes(), overwrite=True)
    except AzureError as error:
        reason = _reason(error)
        raise OwnerError(f"{url.partition('?')[0]}: {reason}; the same command goes on from here") from None
    except OSError as error:
        raise OwnerError(f"{error.filename}: {error.strerror}") from None


def _send_blocks(client: "BlobClient", path: Path, manifest: bytes, progress: Progress) -> None:
    from azure.storage.blob import BlobBlock

    total = path.stat().st_size
    size = max(BLOCK, -(-total // MAX_BLOCKS))
    names = [_block_name(manifest, number) for number in range(-(-total // size))]
    there = _staged(client)
    with path.open("rb") as file:
        for number, name in enumerate(names):
            if name not in there:
                file.seek(number * size)
                client.stage_block(name, file.read(size))
            progress(min((number + 1) * size, total), total)
    client.commit_block_list([BlobBlock(block_id=name) for name in names])


def _block_name(manifest: bytes, number: int) -> str:
    """Blocks of another manifest have other names, so that none is taken for one of this."""
    return base64.b64encode(manifest[:16] + number.to_bytes(4)).decode("ascii")


def _staged(client: "BlobClient") -> set[str]:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        committed, waiting = client.get_block_list("all")
    except ResourceNotFoundError:
        return set()
    return {block.id for block in (*committed, *waiting)}


def _client(url: str, name: str, given: Any) -> "BlobClient":
    from azure.storage.blob import BlobClient

    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/{name}"
    return BlobClient.from_blob_url(urlunsplit(parts._replace(path=path, fragment="")), credential=given)


def _credential(url: str) -> Any:
    if not takes_identity(url):
        raise OwnerError(
            f"{url} is not Azure's: your identity is not shown there; give https://ACCOUNT.blob.core.windows.net"
            "/CONTAINER/NAME, or an address with a shared access signature"
        )
    try:
        return credential()
    except AzureUnavailable as error:
        raise OwnerError(str(error)) from None


def _reason(error: Exception) -> str:
    """Why, without what the message may quote of an address's signature."""
    from azure.core.exceptions import ServiceRequestError

    code = getattr(error, "error_code", None)
    unreached = "it cannot be reached" if isinstance(error, ServiceRequestError) else type(error).__name__
    return str(getattr(code, "value", code) or unreached)
