"""The one seam to an owner's Azure credentials: whatever of `client` talks to Azure takes one from here.

Needs the extra [azure]. A worker finds its machine's own (enclave/artifacts/blob.py, enclave/release/azure).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


class AzureUnavailable(ImportError):
    """The extra [azure] is not installed."""


def credential() -> "TokenCredential":
    """A credential from environment, managed identity or a developer's sign-in, in azure-identity's order.

    Raises AzureUnavailable without the extra [azure]. Asks nobody for a token yet.
    """
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise AzureUnavailable("Azure needs: pip install 'cloister[azure]'") from error
    return DefaultAzureCredential()
