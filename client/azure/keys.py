"""An owner's key in Azure Key Vault that is released under a policy, and secrets sealed to it."""

from collections.abc import Mapping
from typing import Any

from client.errors import ClientError
from sealing.artifact import ReleasedSecret

from . import AzureUnavailable, credential
from .release_policy import encode

BITS = 3072
ALGORITHMS = ["RSA-OAEP-256", "A256GCM"]


class VaultRefused(ClientError):
    """Azure Key Vault, or the way to it, said no."""


def create_key(vault: str, name: str, policy: Mapping[str, Any], **options: Any) -> str:
    """An exportable RSA key in an HSM, under `policy` for ever; returns its id with version.

    `options` go to azure's client. Raises VaultRefused, AzureUnavailable.
    """
    client = _client(vault, options)
    from azure.core.exceptions import AzureError
    from azure.keyvault.keys import KeyReleasePolicy

    rules = KeyReleasePolicy(encode(policy), immutable=True)
    try:
        key = client.create_rsa_key(
            name, size=BITS, hardware_protected=True, exportable=True, release_policy=rules
        )
    except AzureError as error:
        raise VaultRefused(f"{vault}: {str(error).splitlines()[0]}") from None
    return str(key.id)


def seal_secret(key_id: str, secret: ReleasedSecret, **options: Any) -> bytes:
    """The secret as a compact JWE (RSA-OAEP-256, A256GCM) to the vault's key: what a worker is given.

    Whoever has it learns nothing; it opens with the key that the vault releases. Raises VaultRefused.
    """
    from joserfc import jwe
    from joserfc.jwk import RSAKey

    vault, name, version = parse_key_id(key_id)
    client = _client(vault, options)
    from azure.core.exceptions import AzureError

    try:
        found = client.get_key(name, version)
    except AzureError as error:
        raise VaultRefused(f"{key_id}: {str(error).splitlines()[0]}") from None
    public = RSAKey.import_key({"kty": "RSA", "n": _text(found.key.n), "e": _text(found.key.e)})
    header = {"alg": ALGORITHMS[0], "enc": ALGORITHMS[1], "kid": key_id}
    registry = jwe.JWERegistry(algorithms=ALGORITHMS)
    return jwe.encrypt_compact(header, secret.to_bytes(), public, registry=registry).encode("ascii")


def parse_key_id(key_id: str) -> tuple[str, str, str | None]:
    """Vault, name and version of https://VAULT/keys/NAME[/VERSION]; VaultRefused for anything else."""
    address, mark, rest = key_id.partition("/keys/")
    name, _, version = rest.partition("/")
    if not address.startswith("https://") or not mark or not name or "/" in version:
        raise VaultRefused(f"{key_id!r} is not https://VAULT/keys/NAME/VERSION")
    return address, name, version or None


def _client(vault: str, options: Mapping[str, Any]) -> Any:
    try:
        from azure.keyvault.keys import KeyClient
    except ImportError as error:
        raise AzureUnavailable from error
    given = dict(options)
    own = given.pop("credential", None) or credential()
    try:
        return KeyClient(vault, own, **given)
    except ValueError:
        raise VaultRefused(f"{vault!r} is not https://VAULT") from None


def _text(number: bytes) -> str:
    from sealing.kbs.reading import encode as base64url

    return base64url(number)
