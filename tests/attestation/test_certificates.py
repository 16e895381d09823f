"""Certificates, signatures and CRLs: strict reading, every defect one named error."""

import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation import MalformedEvidence, algorithms, der, pkix
from attestation.certificates import (
    MAX_CERTIFICATE,
    MAX_PEM,
    common_name,
    from_der,
    load,
    load_all,
    signed_by,
)
from attestation.crl import MAX_REMEMBERED, load_crl
from tests.shared import shared

from .snp_maker import NOW, Issued, issue, line, named


def leaf_under(issuer: Issued) -> Issued:
    return issue("leaf", issuer, ca=False, key=ec.generate_private_key(ec.SECP384R1()))


def test_fields_are_those_that_cryptography_reads() -> None:
    for path in sorted(shared("evidence", "_roots", "amd").glob("*_a*k.pem")):
        raw = path.read_bytes()
        ours, theirs = load(raw), x509.load_pem_x509_certificate(raw)
        assert ours.raw == theirs.public_bytes(Encoding.DER)
        assert ours.signed == theirs.tbs_certificate_bytes
        assert ours.signature == theirs.signature
        assert ours.serial == theirs.serial_number
        assert ours.subject == theirs.subject.public_bytes()
        assert ours.issuer == theirs.issuer.public_bytes()
        assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
        assert set(ours.extensions) == {e.oid for e in theirs.extensions}
        (name,) = theirs.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        assert ours.name == common_name(ours.subject) == name.value
        assert ours.authority


def test_serial_zero_gives_no_warning() -> None:
    raw = shared("evidence", "snp", "milan-v2-vcek", "vcek.der").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(raw).serial == 0


def test_pem_and_der_are_the_same_certificate() -> None:
    ark = line().ark
    assert load(ark.der) == load(ark.pem) == load(b"\n" + ark.pem + b"\n\0\0")
    assert len(load_all(ark.pem + line().ask.pem)) == 2
    assert load(ark.der) != load(line().ask.der)


@pytest.mark.parametrize("around", [b"x", b"-----BEGIN CERTIFICATE-----\n"])
def test_pem_with_something_else_is_malformed(around: bytes) -> None:
    for raw in (around + line().ark.pem, line().ark.pem + around):
        with pytest.raises(MalformedEvidence):
            load_all(raw)


def test_one_certificate_means_one() -> None:
    with pytest.raises(MalformedEvidence, match="2 certificates"):
        load(line().ark.pem * 2)
    with pytest.raises(MalformedEvidence):
        load(line().ark.der + b"\0")


def test_only_version_3_is_read() -> None:
    raw = line().ark.der
    assert raw.count(bytes.fromhex("a003020102")) == 1
    for version in (0, 1):
        with pytest.raises(MalformedEvidence, match="version 3"):
            from_der(raw.replace(bytes.fromhex("a003020102"), bytes.fromhex("a0030201") + bytes([version])))


def test_both_names_of_the_signature_algorithm_agree() -> None:
    """RFC 5280, 4.1.1.2: what is signed names the algorithm too."""
    ec_root = issue("root", None, pss=False, key=ec.generate_private_key(ec.SECP384R1()))
    raw, sha384, sha256 = ec_root.der, bytes.fromhex("2a8648ce3d040303"), bytes.fromhex("2a8648ce3d040302")
    assert from_der(raw).raw == raw
    outside = raw.rindex(sha384)
    assert raw.index(sha384) != outside
    with pytest.raises(MalformedEvidence, match="two signature algorithms"):
        from_der(raw[:outside] + sha256 + raw[outside + len(sha256) :])


def test_sizes_and_numbers_are_bounded() -> None:
    pem = line().ark.pem
    assert len(load_all(pem * 16)) == 16
    for raw in (pem * 17, pem + b"\n" * MAX_PEM):
        with pytest.raises(MalformedEvidence):
            load_all(raw)
    with pytest.raises(MalformedEvidence, match="exceeds"):
        from_der(b"\x30" + bytes(MAX_CERTIFICATE))


def test_pem_of_another_label_is_malformed() -> None:
    other = line().ark.pem.replace(b"CERTIFICATE", b"X509 CRL")
    for raw in (other, line().ark.pem + other):
        with pytest.raises(MalformedEvidence, match="CERTIFICATE"):
            load_all(raw)


def test_an_issuer_signature_holds_and_another_does_not() -> None:
    ark, ask = load(line().ark.der), load(line().ask.der)
    assert ask.issued_by(ark)
    assert not ark.issued_by(ask)
    namesake = issue("ARK-Genoa", None)
    assert not ask.issued_by(load(namesake.der))


def test_only_an_authority_issues() -> None:
    plain = issue("plain", None, ca=False)
    assert not load(leaf_under(plain).der).issued_by(load(plain.der))
    authority = issue("plain", None)
    assert load(leaf_under(authority).der).issued_by(load(authority.der))


def test_issuer_names_must_agree() -> None:
    authority = issue("one", None)
    stranger = issue("leaf", authority, issuer_name="two", ca=False)
    assert not load(stranger.der).issued_by(load(authority.der))


def test_validity_includes_its_ends() -> None:
    issued = load(issue("x", None, valid=(NOW, NOW + timedelta(days=1))).der)
    assert issued.valid_at(NOW)
    assert issued.valid_at(NOW + timedelta(days=1))
    assert not issued.valid_at(NOW - timedelta(seconds=1))
    assert not issued.valid_at(NOW + timedelta(days=1, seconds=1))


RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("salt", "mask", "accepted"),
    [(48, hashes.SHA384(), True), (32, hashes.SHA384(), False), (48, hashes.SHA256(), False)],
)
def test_pss_parameters(salt: int, mask: Any, accepted: bool) -> None:
    builder = x509.CertificateBuilder(named("x"), named("x"), RSA.public_key(), 1, NOW, NOW)
    pss = padding.PSS(padding.MGF1(mask), salt)
    raw = builder.sign(RSA, hashes.SHA384(), rsa_padding=pss).public_bytes(Encoding.DER)
    ours = load(raw)
    assert (ours.algorithm in algorithms.PSS) == accepted
    assert signed_by(ours.signed, ours.algorithm, ours.signature, ours) == accepted


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_signature_algorithms(digest: Any) -> None:
    for key in (RSA, ec.generate_private_key(ec.SECP256R1())):
        builder = x509.CertificateBuilder(named("x"), named("x"), key.public_key(), 1, NOW, NOW)
        ours = load(builder.sign(key, digest).public_bytes(Encoding.DER))
        assert signed_by(ours.signed, ours.algorithm, ours.signature, ours)
        assert not signed_by(ours.signed + b"x", ours.algorithm, ours.signature, ours)


def test_other_kinds_of_keys_are_malformed() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateBuilder(named("x"), named("x"), key.public_key(), 1, NOW, NOW)
    ours = load(builder.sign(key, None).public_bytes(Encoding.DER))
    with pytest.raises(MalformedEvidence, match="neither RSA nor"):
        signed_by(ours.signed, ours.algorithm, ours.signature, ours)


def test_crl_fields_and_signature() -> None:
    genoa = line()
    crl, ark = load_crl(genoa.crl(5, 9)), load(genoa.ark.der)
    assert crl.revoked == {5, 9}
    assert crl.number == 4
    assert crl.issued_by(ark)
    assert not crl.issued_by(load(genoa.ask.der))
    assert not load_crl(genoa.crl(5, by=genoa.ask)).issued_by(ark)
    assert crl.valid_at(NOW)
    assert not crl.valid_at(NOW + timedelta(days=31))


def test_long_crls_are_judged_and_not_remembered() -> None:
    genoa = line()
    long, ark = genoa.crl(*range(1, 1000)), load(genoa.ark.der)
    remembered = signed_by.cache_info()
    assert len(long) > MAX_REMEMBERED and load_crl(long).issued_by(ark)
    broken = bytearray(long)
    broken[-1] ^= 1
    assert not load_crl(bytes(broken)).issued_by(ark)
    assert signed_by.cache_info() == remembered


def test_genuine_crls_agree_with_cryptography() -> None:
    for name in ("milan", "genoa"):
        raw = shared("evidence", "_roots", "amd", f"{name}_ark_crl.pem").read_bytes()
        ours, theirs = load_crl(raw), x509.load_pem_x509_crl(raw)
        assert ours.revoked == {entry.serial_number for entry in theirs}
        assert (ours.this_update, ours.next_update) == (theirs.last_update_utc, theirs.next_update_utc)
        ark = load(shared("evidence", "_roots", "amd", f"{name}_ark.pem").read_bytes())
        assert ours.issued_by(ark)


MUTATIONS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=6)


@given(MUTATIONS, st.integers(0, 2**16))
def test_altered_certificates_parse_or_are_malformed(mutations: list[tuple[int, int]], cut: int) -> None:
    raw = bytearray(line().ask.der)
    for offset, value in mutations:
        raw[offset % len(raw)] = value
    for candidate in (bytes(raw), bytes(raw[: cut % len(raw)])):
        try:
            found = load(candidate)
            common_name(found.subject)
            assert not found.issued_by(load(line().ark.der)) or found.raw == line().ask.der
        except MalformedEvidence:
            pass


@given(MUTATIONS)
def test_altered_crls_parse_or_are_malformed(mutations: list[tuple[int, int]]) -> None:
    raw = bytearray(CRL)
    for offset, value in mutations:
        raw[offset % len(raw)] = value
    try:
        found = load_crl(bytes(raw))
        assert not found.issued_by(load(line().ark.der)) or raw == CRL
    except MalformedEvidence:
        pass


CRL = line().crl(1, 2, 3)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_malformed(raw: bytes) -> None:
    for read in (load, from_der, load_crl):
        with pytest.raises(MalformedEvidence):
            read(raw)


@given(st.integers(-(2**200), 2**200))
def test_integers(value: int) -> None:
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    raw = value.to_bytes(size, "big", signed=True)
    assert der.integer(der.only(bytes((2, size)) + raw)) == value


@pytest.mark.parametrize("raw", ["0200", "02020001", "0202ffff", "0201", "028101ff", "030100", "1f0100"])
def test_integers_not_in_der(raw: str) -> None:
    with pytest.raises(MalformedEvidence):
        der.integer(der.only(bytes.fromhex(raw)))


def validity(time: bytes) -> bytes:
    return bytes((0x30, 2 * len(time))) + 2 * time


def test_times() -> None:
    def instant(time: bytes) -> datetime:
        return pkix.instant(pkix.decode(pkix.Validity, validity(time)).not_after)

    assert instant(b"\x17\x0d500101000000Z") == datetime(1950, 1, 1, tzinfo=UTC)
    assert instant(b"\x17\x0d491231235959Z") == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert instant(b"\x18\x0f20500101000000Z") == datetime(2050, 1, 1, tzinfo=UTC)
    bad = (b"\x17\x0d500001000000Z", b"\x17\x0c500101000000", b"\x18\x0f00000101000000Z")
    for time in (*bad, b"\x18\x1120500101000000.5Z"):
        with pytest.raises(MalformedEvidence):
            instant(time)


@pytest.mark.parametrize(
    ("dotted", "raw"),
    [("2.5.4.3", "550403"), ("1.3.6.1.4.1.3704.1.4", "2b060104019c780104"), ("2.999", "8837")],
)
def test_object_identifiers(dotted: str, raw: str) -> None:
    assert der.dotted(bytes.fromhex(raw)) == dotted


@pytest.mark.parametrize("raw", ["", "80", "5580", "558001"])
def test_object_identifiers_not_in_der(raw: str) -> None:
    with pytest.raises(MalformedEvidence):
        der.dotted(bytes.fromhex(raw))
