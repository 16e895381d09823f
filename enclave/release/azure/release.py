"""One release from Azure Key Vault, held to the same as one from a broker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from attestation.encoding import b64url_encode
from enclave.release.attester import Attester
from enclave.release.errors import BrokerLied, BrokerRefused, BrokerUnreachable, ReleaseError
from enclave.release.secret import Expected
from enclave.release.tls import system_roots
from enclave.release.transport import Transport
from sealing.artifact import ReleasedSecret
from sealing.errors import SealingError

from .attestation import attest, runtime_data
from .wrapping import ASKED, NotReleased, unwrap

_BITS = 2048
_ALGORITHMS = ["RSA-OAEP-256", "A256GCM"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultKey:
    """A key in a vault and the secret sealed to it. `ca`: PEM that the vault chains to, or the system's.

    `id`: https://VAULT/keys/NAME/VERSION. `sealed`: what `client.azure.keys.seal_secret` made. `options`
    go to azure's client. ValueError for another form of id.
    """

    id: str
    sealed: bytes
    ca: bytes | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.id)
        path = parts.path.split("/")
        if parts.scheme != "https" or not parts.hostname or len(path) != 4 or path[1] != "keys":
            raise ValueError(f"{self.id!r} is not https://VAULT/keys/NAME/VERSION")

    @property
    def vault(self) -> str:
        """The vault's address."""
        return self.id.partition("/keys/")[0]

    @property
    def name(self) -> str:
        """The key's name."""
        return self.id.split("/")[-2]

    @property
    def version(self) -> str:
        """The key's version."""
        return self.id.split("/")[-1]


def release_from_vault(
    key: VaultKey,
    authority: Transport,
    attester: Attester,
    expected: Expected,
    *,
    clock: Callable[[], float],
) -> ReleasedSecret:
    """The secret that opens with a vault's key. Blocks. Raises ReleaseError.

    1. a one-time RSA key, bound into a fresh report;  2. a token of `authority` over it;
    3. the vault compares the token with the key's policy and wraps the key to the one-time key;
    4. unwrapped here, it opens the sealed secret, which is held to what was asked for.
    """
    one_time = rsa.generate_private_key(65537, _BITS)  # 1
    token = attest(authority, attester, runtime_data(_jwk(one_time), attester.bound()))  # 2
    answer = _released(key, token)  # 3
    host = urlsplit(key.id).hostname or ""
    roots = x509.load_pem_x509_certificates(key.ca) if key.ca is not None else system_roots()
    try:
        private = unwrap(answer, one_time, host=host, kid=key.id, roots=roots)
        secret = ReleasedSecret.from_bytes(_opened(key.sealed, private))
    except (NotReleased, SealingError) as error:
        raise BrokerLied(str(error), broker=key.vault) from None
    expected.check(secret.manifest, secret.owner, secret.not_after, now=clock(), broker=key.vault)  # 4
    return secret


def _released(key: VaultKey, token: str) -> str:
    try:
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.identity import ManagedIdentityCredential
        from azure.keyvault.keys import KeyClient
    except ImportError:
        raise ReleaseError("Azure needs: pip install 'cloister[azure]'", broker=key.vault) from None
    given = dict(key.options)
    client = KeyClient(key.vault, given.pop("credential", None) or ManagedIdentityCredential(), **given)
    try:
        return str(client.release_key(key.name, token, version=key.version, algorithm=ASKED).value)
    except HttpResponseError as error:
        status = error.status_code or 0
        if status not in (401, 403, 404):
            raise BrokerUnreachable(f"the vault answered {status}", broker=key.vault) from None
        text = "the vault's policy does not allow the release, or it has no such key"
        raise BrokerRefused(text, broker=key.vault, status=status) from None
    except AzureError as error:
        raise BrokerUnreachable(str(error).splitlines()[0], broker=key.vault) from None


def _opened(sealed: bytes, private: rsa.RSAPrivateKey) -> bytes:
    from joserfc.errors import JoseError
    from joserfc.jwe import JWERegistry, decrypt_compact
    from joserfc.jwk import RSAKey

    registry = JWERegistry(algorithms=_ALGORITHMS)
    try:
        return decrypt_compact(sealed, RSAKey(private, private), registry=registry).plaintext or b""
    except (JoseError, ValueError, TypeError, KeyError):  # joserfc lets these escape for odd headers
        raise NotReleased("the released key does not open the sealed secret") from None


def _jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    n, e = (b64url_encode(v.to_bytes((v.bit_length() + 7) // 8, "big")) for v in (numbers.n, numbers.e))
    return {"kid": "cloister-release", "kty": "RSA", "key_ops": ["encrypt"], "n": n, "e": e}
