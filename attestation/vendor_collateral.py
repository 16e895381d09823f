"""Collateral out of the vendors' own files: CRLs, TCB info, manifests, key sets, told by content."""

from collections.abc import Mapping
from types import MappingProxyType

from . import certificates
from .collateral import Collateral, Kind
from .encoding import strict_json
from .errors import MalformedEvidence
from .importers.quote_collateral import parts
from .pieces import MAX_FILE, Piece, identify

P = Piece
Pieces = Mapping[Piece, list[bytes]]
COLLATERAL = {
    P.CRL,
    P.OCSP,
    P.TCB_INFO,
    P.QE_IDENTITY,
    P.QUOTE_COLLATERAL,
    P.KEY_SET,
    P.RIM,
    P.INTEL_CHAIN,
}


_OF_A_QUOTE = {P.CRL, P.TCB_INFO, P.QE_IDENTITY, P.INTEL_CHAIN, P.CERTIFICATES}
"""What a document of a quote's collateral may hold: signed by Intel, if by anybody, and no evidence."""


def collateral_in(files: Mapping[str, bytes]) -> Collateral:
    """The collateral in `files`, by content; what is none is left out."""
    pieces = sort_pieces(files)[1]
    amd = tuple(pieces.get(P.CERTIFICATES, ()))
    certified = Collateral(MappingProxyType({Kind.AMD_CERTIFICATE: amd} if amd else {}))
    return collateral_of(pieces).merged(certified)


def of_a_quote(raw: bytes) -> bool:
    """Whether `raw` is all of a quote's collateral in one document."""
    try:
        return identify(raw)[0] is P.QUOTE_COLLATERAL
    except MalformedEvidence:
        return False


def sort_pieces(files: Mapping[str, bytes]) -> tuple[dict[str, Piece], dict[Piece, list[bytes]]]:
    """Each file's kind by name, and the contents by kind, in the order of the names; MalformedEvidence."""
    kinds: dict[str, Piece] = {}
    pieces: dict[Piece, list[bytes]] = {}
    for name, raw in sorted(files.items()):
        try:
            kinds[name], content = identify(raw)
            held = _held(content) if kinds[name] is P.QUOTE_COLLATERAL else ()
            for kind, inner in ((kinds[name], content), *held):
                pieces.setdefault(kind, []).append(inner)
        except MalformedEvidence as error:
            raise MalformedEvidence(f"{name}: {error}") from None
    return kinds, pieces


def _held(document: bytes) -> list[tuple[Piece, bytes]]:
    """The files in a document of a quote's collateral; MalformedEvidence for one that is something else."""
    found = [identify(raw) for raw in parts(document)]
    if strange := sorted({kind for kind, _ in found} - _OF_A_QUOTE):
        raise MalformedEvidence(f"collateral of a quote holds {', '.join(strange)}")
    return found


def collateral_of(pieces: Pieces) -> Collateral:
    """The collateral among sorted files."""
    items: dict[Kind, list[bytes]] = {}
    for piece, kind in (
        (P.TCB_INFO, Kind.INTEL_TCB_INFO),
        (P.QE_IDENTITY, Kind.INTEL_QE_IDENTITY),
        (P.INTEL_CHAIN, Kind.INTEL_TCB_SIGNING_CHAIN),
        (P.INTEL_CHAIN, Kind.INTEL_PCK_CRL_CHAIN),
        (P.RIM, Kind.NVIDIA_RIM),
        (P.OCSP, Kind.NVIDIA_OCSP),
    ):
        items.setdefault(kind, []).extend(pieces.get(piece, ()))
    for raw in pieces.get(P.CRL, ()):
        items.setdefault(_crl_kind(raw), []).append(raw)
    for raw in pieces.get(P.KEY_SET, ()):
        items.setdefault(_key_set_kind(raw), []).append(raw)
    return Collateral(MappingProxyType({kind: tuple(found) for kind, found in items.items() if found}))


def _crl_kind(raw: bytes) -> Kind:
    from .crl import load_crl

    issuer = certificates.common_name(load_crl(raw).issuer)
    if not issuer.startswith("Intel"):
        return Kind.AMD_CRL
    return Kind.INTEL_ROOT_CRL if "Root" in issuer else Kind.INTEL_PCK_CRL


def _key_set_kind(raw: bytes) -> Kind:
    """NRAS signs with elliptic curves, Azure Attestation with RSA."""
    keys = strict_json(raw, limit=MAX_FILE)["keys"]
    curve = any(isinstance(key, dict) and key.get("kty") == "EC" for key in keys)
    return Kind.NVIDIA_NRAS_KEYS if curve else Kind.AZURE_MAA_KEYS
