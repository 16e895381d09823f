"""A broker's master key in Azure Key Vault: kept wrapped, unwrapped by the vault at every start."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from client.broker.errors import MasterKeyError

from . import AzureUnavailable, credential

ALGORITHM: Final = "RSA-OAEP-256"
SIZE: Final = 32


def new_wrapped_key(key_id: str, **options: Any) -> bytes:
    """A new master key, wrapped by the vault's key `key_id` (https://VAULT/keys/NAME), with its version.

    `options` go to azure's client. Raises MasterKeyError.
    """
    with _asking(key_id):
        result = _client(key_id, options).wrap_key(_algorithm(), os.urandom(SIZE))
    table = {"kid": result.key_id, "alg": ALGORITHM, "value": base64.b64encode(result.encrypted_key).decode()}
    return json.dumps(table).encode()


def unwrapper(key_id: str, **options: Any) -> Callable[[bytes], bytes]:
    """What unwraps `new_wrapped_key`'s result. The wrapping key must be of the vault and name in `key_id`."""

    def unwrap(raw: bytes) -> bytes:
        try:
            table = json.loads(raw)
            kid, wrapped = table["kid"], base64.b64decode(table["value"], validate=True)
        except (ValueError, KeyError, TypeError):
            raise MasterKeyError("the wrapped master key is not what `cloister broker init` wrote") from None
        if not isinstance(kid, str) or not kid.startswith(key_id.rstrip("/") + "/"):
            raise MasterKeyError(f"the master key was wrapped by another key than {key_id}")
        with _asking(key_id):
            key: bytes = _client(kid, options).unwrap_key(_algorithm(), wrapped).key
        return key

    return unwrap


@contextmanager
def _asking(key_id: str) -> Iterator[None]:
    """Azure's errors as ours."""
    try:
        from azure.core.exceptions import AzureError
    except ImportError:
        raise MasterKeyError(str(AzureUnavailable())) from None
    try:
        yield
    except AzureUnavailable as error:
        raise MasterKeyError(str(error)) from None
    except AzureError as error:
        raise MasterKeyError(f"{key_id}: {str(error).splitlines()[0]}") from None


def _client(key_id: str, options: dict[str, Any]) -> Any:
    try:
        from azure.keyvault.keys.crypto import CryptographyClient
    except ImportError as error:
        raise AzureUnavailable from error
    given = dict(options)
    own = given.pop("credential", None) or credential()
    try:
        return CryptographyClient(key_id, own, **given)
    except ValueError:
        raise MasterKeyError(f"{key_id!r} is not https://VAULT/keys/NAME") from None


def _algorithm() -> Any:
    from azure.keyvault.keys.crypto import KeyWrapAlgorithm

    return KeyWrapAlgorithm.rsa_oaep_256
