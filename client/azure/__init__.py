"""The one seam to an owner's Azure credentials: whatever of `client` talks to Azure takes one from here.

Needs the extra [azure]. A worker finds its machine's own (enclave/artifacts/blob.py, enclave/release/azure).
"""

from typing import TYPE_CHECKING

from client.errors import ClientError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


class AzureUnavailable(ClientError, ImportError):
    """The extra [azure] is not installed."""

    def __init__(self) -> None:
        super().__init__("Azure needs: pip install 'cloister[azure]'")


def credential() -> "TokenCredential":
    """A credential from environment, managed identity or a developer's sign-in, in azure-identity's order.

    Raises AzureUnavailable without the extra [azure]. Asks nobody for a token yet.
    """
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise AzureUnavailable from error
    return DefaultAzureCredential()
