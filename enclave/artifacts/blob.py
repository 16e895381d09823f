"""Sealed artifacts in Azure Blob Storage. Needs the extra [azure]; imported where it is used."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlunsplit

from sealing.artifact import CHUNKS_NAME, MANIFEST_NAME, MAX_MANIFEST
from sealing.artifact.blob_hosts import takes_identity

from .stores import StoreError, split_address

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient


class BlobStore:
    """An artifact at https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX.

    With a query (a shared access signature) that is the credential; else azure-identity finds one: the
    managed identity of the machine, or the environment's. It is shown to Azure's own hosts alone.
    """

    distant = True

    def __init__(self, url: str, *, credential: Any = None) -> None:
        """Raises StoreError without the extra [azure], or for a host that is shown no credential."""
        self._parts = split_address(url)
        if credential is None and not self._parts.query:
            self._check_host(url)
            credential = _default_credential()
        self._manifest = self._client(MANIFEST_NAME, credential)
        self._chunks = self._client(CHUNKS_NAME, credential)

    @property
    def label(self) -> str:
        return urlunsplit(self._parts._replace(query="", fragment=""))

    def manifest(self) -> bytes:
        return self._download(self._manifest, 0, MAX_MANIFEST + 1, MANIFEST_NAME)

    def read_into(self, offset: int, into: memoryview) -> None:
        raw = self._download(self._chunks, offset, len(into), CHUNKS_NAME)
        if len(raw) != len(into):
            raise StoreError(f"{self.label}/{CHUNKS_NAME} ends before byte {offset + len(into)}")
        into[:] = raw

    def close(self) -> None:
        self._manifest.close()
        self._chunks.close()

    def _check_host(self, url: str) -> None:
        if not takes_identity(url):
            raise StoreError(
                f"{self.label} is not Azure's: this machine's identity is not shown there; give the address"
                " of a blob in Azure, or one with a shared access signature"
            )

    def _client(self, name: str, credential: Any) -> "BlobClient":
        try:
            from azure.storage.blob import BlobClient
        except ImportError:
            raise StoreError("Azure Blob needs: pip install 'cloister[azure]'") from None
        path = f"{self._parts.path.rstrip('/')}/{name}"
        url = urlunsplit(self._parts._replace(path=path, fragment=""))
        try:
            return BlobClient.from_blob_url(url, credential=credential, retry_total=4, connection_timeout=20)
        except ValueError:  # its text may quote the signature
            raise StoreError(f"{self.label} names no blob: https://ACCOUNT.../CONTAINER/PREFIX") from None

    def _download(self, client: "BlobClient", offset: int, length: int, name: str) -> bytes:
        from azure.core.exceptions import AzureError

        try:
            return bytes(client.download_blob(offset, length, max_concurrency=1).readall())
        except AzureError as error:
            reason = _reason(error)
            raise StoreError(f"{self.label}/{name}: {reason}") from None


def _default_credential() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise StoreError("Azure Blob needs: pip install 'cloister[azure]'") from None
    return DefaultAzureCredential()


def _reason(error: Exception) -> str:
    """Why, without what the message may quote of an address's signature."""
    from azure.core.exceptions import ServiceRequestError

    code = getattr(error, "error_code", None)
    unreached = "it cannot be reached" if isinstance(error, ServiceRequestError) else type(error).__name__
    return str(getattr(code, "value", code) or unreached)
