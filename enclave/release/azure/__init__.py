"""Secure key release of Azure Key Vault: attest with Azure Attestation, get the key, unwrap it in the worker.

Run against a stand-in only, never against Azure; docs/azure.md says what is checked how.
"""

from .release import VaultKey, release_from_vault

__all__ = ["VaultKey", "release_from_vault"]
