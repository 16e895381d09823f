"""One strict profile of XML Signature 1.1, for reference manifests; nothing else is accepted.

One enveloped signature, the last child of the root; one reference, to the whole document, with
the transforms enveloped-signature and one canonicalisation; ECDSA with SHA-384; X.509
certificates as the only key information. No document type, entity, comment, processing
instruction or xml: attribute, so canonical XML 1.0 and 1.1 agree on what is left.
"""

import base64
import binascii
import hashlib
import importlib
from dataclasses import dataclass
from typing import Any

from ..errors import MalformedEvidence
from .chain import Certificate, certificate

Node = Any  # an lxml element; lxml has no types of its own

DSIG = "{http://www.w3.org/2000/09/xmldsig#}"
MAX_XML = 512 * 1024
MAX_NODES = 4096
MAX_SIGNERS = 6

_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_EXCLUSIVE = {
    "http://www.w3.org/2006/12/xml-c14n11": False,
    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315": False,
    "http://www.w3.org/2001/10/xml-exc-c14n#": True,
}


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The root without its signature, and what the signature says. Parsed, not verified.

    `intact` is whether the document has the digest that `signed_info` gives.
    """

    root: Node
    signed_info: bytes
    signature: bytes
    certificates: tuple[Certificate, ...]
    intact: bool


def parse(raw: bytes) -> SignedDocument:
    """The signed document in `raw`, or MalformedEvidence if it is not of the profile."""
    root = _parse_xml(raw)
    signatures = list(root.iter(f"{DSIG}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root or root[-1] is not signatures[0]:
        raise MalformedEvidence("not one signature, as the last child of the root")
    info, value, keys = _children(signatures[0], "SignedInfo", "SignatureValue", "KeyInfo")
    method, algorithm, reference = _children(info, "CanonicalizationMethod", "SignatureMethod", "Reference")
    if _algorithm(algorithm) != _ECDSA_SHA384:
        raise MalformedEvidence("signed with another algorithm than ECDSA with SHA-384")
    signed_info = _canonical(info, _algorithm(method))
    transform, digest = _reference(reference)
    signers = _certificates(keys)
    signature = _base64(value)
    _detach(signatures[0])
    actual = hashlib.sha384(_canonical(root, transform)).digest()
    return SignedDocument(root, signed_info, signature, signers, actual == digest)


def _etree() -> Any:
    """lxml, imported when the first manifest is: most verifications see none."""
    return importlib.import_module("lxml.etree")


def _parse_xml(raw: bytes) -> Node:
    if len(raw) > MAX_XML:
        raise MalformedEvidence(f"XML of {len(raw)} bytes exceeds {MAX_XML}")
    # Well-formed XML has "<!" and "<?" in markup alone: document types, comments, CDATA, instructions.
    if b"<!" in raw or b"<?" in raw[1:]:
        raise MalformedEvidence("XML with a document type, comment, CDATA section or instruction")
    etree = _etree()
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        raw.decode("utf-8")
        root = etree.fromstring(raw, parser)
    except (etree.LxmlError, ValueError, LookupError) as error:
        raise MalformedEvidence(f"not XML in UTF-8: {error}") from None
    if str(root.getroottree().docinfo.encoding).upper() not in ("NONE", "UTF-8", "ASCII", "US-ASCII"):
        raise MalformedEvidence("XML that claims another encoding than UTF-8")
    if root.getprevious() is not None or root.getnext() is not None:
        raise MalformedEvidence("XML with nodes beside its root")
    for count, node in enumerate(root.iter()):
        if count >= MAX_NODES or not isinstance(node.tag, str):
            raise MalformedEvidence("XML with too many nodes, a comment, instruction or entity")
        if any(name.startswith("{http://www.w3.org/XML/1998/namespace}") for name in node.keys()):  # noqa: SIM118
            raise MalformedEvidence("XML with an xml: attribute")
    return root


def _children(node: Node, *names: str) -> tuple[Node, ...]:
    """The children of `node`, which must be exactly these of the signature's namespace."""
    found = tuple(node)
    if tuple(child.tag for child in found) != tuple(DSIG + name for name in names):
        raise MalformedEvidence(f"{node.tag} does not hold exactly {', '.join(names)}")
    return found


def _algorithm(node: Node) -> str:
    if len(node) or set(node.keys()) != {"Algorithm"}:
        raise MalformedEvidence(f"{node.tag} has parameters")
    return str(node.get("Algorithm"))


def _reference(node: Node) -> tuple[str, bytes]:
    """The canonicalisation that the reference names and the digest that it gives."""
    if node.items() != [("URI", "")]:
        raise MalformedEvidence("the signature does not refer to the whole document")
    transforms, method, value = _children(node, "Transforms", "DigestMethod", "DigestValue")
    enveloped, canonical = _children(transforms, "Transform", "Transform")
    if _algorithm(enveloped) != _ENVELOPED or _algorithm(method) != _SHA384:
        raise MalformedEvidence("not an enveloped signature over a SHA-384 digest")
    return _algorithm(canonical), _base64(value)


def _certificates(keys: Node) -> tuple[Certificate, ...]:
    (data,) = _children(keys, "X509Data")
    if not 0 < len(data) <= MAX_SIGNERS:
        raise MalformedEvidence(f"{len(data)} signer certificates")
    nodes = _children(data, *["X509Certificate"] * len(data))
    return tuple(certificate(_base64(node)) for node in nodes)


def _canonical(node: Node, algorithm: str) -> bytes:
    if algorithm not in _EXCLUSIVE:
        raise MalformedEvidence("canonicalised by a method outside the profile")
    etree = _etree()
    try:
        form: bytes = etree.tostring(
            node, method="c14n", exclusive=_EXCLUSIVE[algorithm], with_comments=False
        )
    except (etree.LxmlError, ValueError) as error:
        raise MalformedEvidence(f"XML without a canonical form: {error}") from None
    return form


def _detach(signature: Node) -> None:
    """Take the signature out and leave the text that follows it, as the transform says."""
    parent, before, tail = signature.getparent(), signature.getprevious(), signature.tail or ""
    if parent is None:
        raise MalformedEvidence("the signature is the root")
    parent.remove(signature)
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail


def _base64(node: Node) -> bytes:
    if len(node):
        raise MalformedEvidence(f"{node.tag} is not base64")
    try:
        return base64.b64decode("".join((node.text or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedEvidence(f"{node.tag} is not base64") from None
