"""The one profile of XML Signature that manifests may use, and that nothing outside it is read."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence
from attestation.nvidia import Rim, appraise_rim
from attestation.verdict import Outcome

from .nvidia import case, cases, context, policy
from .nvidia_maker import NOW, Publisher, roots

PUBLISHER = Publisher()
ROOTS = roots(corim_signing_root_ca=PUBLISHER.parties[0])
GENUINE = case("nvidia-rim/driver-gh100-550-144-03")
TEXT = GENUINE.files["rim.xml"]


def alone(raw: bytes) -> list[str]:
    """The checks that a manifest fails by itself, under the pinned root."""
    sheet = appraise_rim(raw, context(policy(), GENUINE.at), subject="rim")
    return [str(item.check) for item in sheet.results() if item.outcome is not Outcome.PASS]


def altered(old: bytes, new: bytes, count: int = 1) -> bytes:
    """The genuine manifest with a piece of its text replaced."""
    assert old in TEXT
    return TEXT.replace(old, new, count)


def test_a_genuine_manifest_passes() -> None:
    assert alone(TEXT) == []


@pytest.mark.parametrize(
    "c14n",
    [
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    ],
)
def test_canonicalisations_of_the_profile(c14n: str) -> None:
    raw = PUBLISHER.rim({1: ["00" * 48]}, c14n=c14n)
    sheet = appraise_rim(raw, context(policy(ROOTS), NOW), subject="rim")
    assert all(item.outcome is Outcome.PASS for item in sheet.results())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<SoftwareIdentity", b"<!DOCTYPE x><SoftwareIdentity"),
        (b"<SoftwareIdentity", b'<!DOCTYPE x [<!ENTITY e "v">]><SoftwareIdentity'),
        (b"<SoftwareIdentity", b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><SoftwareIdentity'),
        (b"<SoftwareIdentity", b"<!-- note --><SoftwareIdentity"),
        (b"<SoftwareIdentity", b"<?note?><SoftwareIdentity"),
        (b"</SoftwareIdentity>", b"</SoftwareIdentity><!-- note -->"),
        (b'colloquialVersion="550.144.03"', b'colloquialVersion="550.144.03" xml:base="x"'),
        (b"<ns0:Payload", b"<!-- note --><ns0:Payload"),
        (b"<ns0:Payload", b"<![CDATA[ ]]><ns0:Payload"),
        (b"xml-c14n11", b"xml-c14n11#WithComments"),
        (b"xmldsig-more#ecdsa-sha384", b"xmldsig-more#ecdsa-sha256"),
        (b"xmldsig-more#ecdsa-sha384", b"xmldsig-more#hmac-sha384"),
        (b"xmldsig-more#sha384", b"xmldsig-more#sha224"),
        (b"xmldsig#enveloped-signature", b"xmldsig#base64"),
        (b'URI=""', b'URI="#x"'),
        (b'URI=""', b'URI="http://example.com/rim.xml"'),
        (b' URI=""', b""),
        (b'URI=""', b'URI="" Id="x"'),
        (b"<ds:Transforms>", b'<ds:Transforms><ds:Transform Algorithm="x"/>'),
        (b"<ds:SignatureValue>", b"<ds:SignatureValue>!"),
        (b"<ds:DigestValue>", b"<ds:DigestValue>!"),
        (b"<ds:KeyInfo>", b"<ds:KeyInfo><ds:KeyName>k</ds:KeyName>"),
        (b"<ds:X509Data>", b"<ds:X509Data><ds:X509SKI>AA==</ds:X509SKI>"),
        (b"</ds:Signature>", b"<ds:Object/></ds:Signature>"),
        (b"</ds:Signature>", b"</ds:Signature><x/>"),
        (b"</ns0:Payload>", b"<x/></ns0:Payload>"),
        (b"</ns0:Payload>", b"</ns0:Payload><ns0:Payload/>"),
        (b'index="1"', b'index="0"'),
        (b'index="1"', b'index="x"'),
        (b'index="1"', b'index="254"'),
        (b'alternatives="1"', b'alternatives="2"'),
        (b'alternatives="1"', b'alternatives="0"'),
        (b'active="True"', b'active="yes"'),
        (b'product="GH100"', b'product=""'),
        (b"SoftwareIdentity", b"Softwareidentity"),
    ],
)
def test_xml_outside_the_profile_or_schema_is_malformed(old: bytes, new: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        Rim.from_bytes(altered(old, new, -1 if old == b"SoftwareIdentity" else 1))


def test_no_entity_is_expanded() -> None:
    bomb = b"<!DOCTYPE x [" + b"".join(
        b'<!ENTITY e%d "%s">' % (i, (b"&e%d;" % (i - 1)) * 10 if i else b"x" * 10) for i in range(12)
    )
    with pytest.raises(MalformedEvidence):
        Rim.from_bytes(bomb + b"]><x>&e11;</x>")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<",
        b"<x/>",
        b"<a>" * 100_000,
        b" " * (600 * 1024),
        b'<?xml version="1.0" encoding="UTF-16"?><x/>',
        b'<?xml version="1.0" encoding="latin-1"?><x/>',
        "<x/>".encode("utf-16"),
        b"<x>" + b"<y/>" * 5000 + b"</x>",
    ],
)
def test_xml_that_is_no_manifest_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        Rim.from_bytes(raw)


def test_a_signature_moved_from_its_place_is_malformed() -> None:
    start, end = TEXT.index(b"<ds:Signature "), TEXT.index(b"</SoftwareIdentity>")
    signature = TEXT[start:end]
    without = TEXT[:start] + TEXT[end:]
    for moved in (
        without,
        without.replace(b"<ns0:Payload", signature + b"<ns0:Payload"),
        TEXT.replace(b"</SoftwareIdentity>", signature + b"</SoftwareIdentity>"),
        b"<w>" + TEXT + b"</w>",
    ):
        with pytest.raises(MalformedEvidence):
            Rim.from_bytes(moved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'version="1.0"', b'version="1.1"'),
        (b"xmlns:SHA384", b"xmlns:SHA385"),
        (b'name="NVIDIA Corporation"', b'name="Nvidia Corporation"'),
        (b"</ns0:Payload>\n", b"</ns0:Payload>"),
        (b"</ds:Signature>", b"</ds:Signature>\n"),
        (b"</ns0:Payload>", b"</ns0:Payload><extra/>"),
        (b'active="True"', b'active="False"'),
    ],
)
def test_every_change_of_the_document_breaks_its_signature(old: bytes, new: bytes) -> None:
    assert alone(altered(old, new)) == ["nvidia.rim-signature"]


def test_a_change_that_canonical_form_ignores_does_not() -> None:
    assert alone(altered(b'corpus="false" ', b'corpus = "false"   ')) == []


def test_another_digest_or_signature_value_breaks_it() -> None:
    digest = TEXT.index(b"<ds:DigestValue>") + 20
    signature = TEXT.index(b"<ds:SignatureValue>") + 30
    for offset in (digest, signature):
        changed = bytearray(TEXT)
        changed[offset] = ord("A") if changed[offset] != ord("A") else ord("B")
        assert alone(bytes(changed)) == ["nvidia.rim-signature"]


@pytest.mark.parametrize("name", cases("nvidia-rim"))
def test_cutting_a_manifest_short_is_malformed(name: str) -> None:
    raw = case(name).files["rim.xml"]
    for size in range(0, len(raw.rstrip()), 997):
        with pytest.raises(MalformedEvidence):
            Rim.from_bytes(raw[:size])


@given(st.integers(0, len(TEXT.rstrip()) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_without_meaning(offset: int, new: int) -> None:
    raw = bytearray(TEXT)
    raw[offset] = new
    try:
        failed = alone(bytes(raw))
    except MalformedEvidence:
        return
    if not failed:
        genuine, changed = Rim.from_bytes(TEXT), Rim.from_bytes(bytes(raw))
        # The root is taken from the package: of the one offered only name and key are compared.
        assert changed.certificates[:-1] == genuine.certificates[:-1]
        assert replace(changed, certificates=()) == replace(genuine, certificates=())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        Rim.from_bytes(raw)
