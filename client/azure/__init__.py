"""The one seam to Azure credentials: everything that talks to Azure takes a credential from here.

Needs the extra [azure]. Nothing else in the project imports azure.identity.
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
