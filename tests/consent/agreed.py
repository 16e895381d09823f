"""A consent of three parties, for tests."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealing.consent import Consent, Loaded, Manifest, OutputRules, Party
from sealing.cose import Signer, SigningKey

NOW = 1_800_000_000
KEYS: dict[str, SigningKey] = {
    "lab": Ed25519PrivateKey.from_private_bytes(b"\x01" * 32),
    "north": Ed25519PrivateKey.from_private_bytes(b"\x02" * 32),
    "south": ec.derive_private_key(3, ec.SECP384R1()),
}
MANIFEST = Manifest(
    title="three parties",
    base=Loaded(name="faq", root=b"\x0a" * 32),
    adapters=(Loaded(name="sailor", root=b"\x0b" * 32),),
    data=(Loaded(name="letters", root=b"\x0c" * 32, readers=("north",)),),
    measurement=b"\x0d" * 48,
    output=OutputRules(max_tokens=16),
    parties=tuple(Party(name=name, role="a role", signer=Signer.of(key)) for name, key in KEYS.items()),
    expires=NOW + 100,
)


def signed(manifest: Manifest = MANIFEST, *names: str) -> Consent:
    """Signed by the named parties, or by all of them."""
    consent = Consent(manifest=manifest)
    for name in names or KEYS:
        consent = consent.signed_by(KEYS[name])
    return consent
