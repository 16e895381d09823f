"""Which VCEK or VLEK judges a report, what keeps one from AMD's form, and what stands above it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation import MalformedEvidence, Roots
from attestation.certificates import load
from attestation.checks import CheckId
from attestation.snp import SignerInfo, SigningKey, SnpCheck
from attestation.snp.endorsement import EndorsementKey

from .snp_cases import blocking, policy, verify
from .snp_maker import CHIP, GENOA_TCB, NOW, PSS, STRICT, TURIN_TCB, Issued, der_ia5, der_int, issue, line

C = SnpCheck
OLD = (NOW - timedelta(days=2), NOW - timedelta(days=1))
VLEK_RULES = {"allow_vlek": True, "csp_ids": ["CN=example"]}


def judge(
    *endorsements: Issued | bytes, roots: Roots | None = None, crls: list[bytes] | None = None, **report: Any
) -> set[CheckId]:
    """What blocks the strictly acceptable report with `endorsements` alone, under the strict policy."""
    genoa, rules = line(), dict(STRICT)
    if "signer_info" in report:
        rules |= VLEK_RULES
    given = [item if isinstance(item, bytes) else item.der for item in endorsements]
    _, verdict = verify(
        genoa.report(**report),
        given,
        policy(roots or genoa.roots(), **rules),
        NOW,
        crls=[genoa.crl()] if crls is None else crls,
    )
    return blocking(verdict)


def problems(issued: Issued) -> tuple[str, ...]:
    return EndorsementKey.of(load(issued.der)).problems


def test_a_certificate_of_amds_form_has_no_problem() -> None:
    genoa, turin = line(), line("Turin")
    for issued in (genoa.vcek(), genoa.vlek(), turin.vcek(tcb=TURIN_TCB)):
        assert problems(issued) == ()


VCEK_FORMS: list[tuple[str, dict[str, Any]]] = [
    ("subject is neither", {"name": "SEV-OTHER"}),
    ("issuer is not SEV-Genoa", {"issuer_name": "SEV-Milan"}),
    ("structVersion is not 0", {"amd": {"STRUCT_VERSION": None}}),
    ("productName", {"amd": {"PRODUCT_NAME": der_ia5("Other-B1")}}),
    ("hwID of 64 bytes", {"amd": {"HW_ID": None}}),
    ("hwID of 64 bytes", {"amd": {"HW_ID": CHIP[:63]}}),
    ("hwID of 64 bytes", {"amd": {"HW_ID": CHIP[:8]}}),
    ("hwID of 64 bytes", {"amd": {"CSP_ID": der_ia5("CN=example")}}),
    ("SPL extensions", {"amd": {"UCODE_SPL": None}}),
    ("SPL extensions", {"amd": {"BL_SPL": b"\x02\x02\x01\x00"}}),
    ("SPL extensions", {"amd": {"FMC_SPL": der_int(0)}}),
    ("SPL extensions", {"amd": {"SPL_4": der_int(1)}}),
    ("reserved SPL", {"amd": {"SPL_4": b"\x04\x00"}}),
    ("RSASSA-PSS", {"pss": False}),
    ("P-384", {"key": ec.generate_private_key(ec.SECP521R1())}),
]


@pytest.mark.parametrize(("problem", "changes"), VCEK_FORMS)
def test_what_amd_does_not_issue_is_named(problem: str, changes: dict[str, Any]) -> None:
    (found,) = problems(line().vcek(**changes))
    assert problem in found


@pytest.mark.parametrize(
    ("problem", "amd"),
    [
        ("no hwID", {"HW_ID": CHIP}),
        ("cspID", {"CSP_ID": None}),
        ("cspID", {"CSP_ID": der_ia5("")}),
        ("cspID is not an IA5String", {"CSP_ID": b"\x04\x01a"}),
    ],
)
def test_a_vlek_names_a_provider_and_no_chip(problem: str, amd: dict[str, Any]) -> None:
    assert any(problem in found for found in problems(line().vlek(amd=amd)))


def test_turin_counts_fmc_and_has_identities_of_8_bytes() -> None:
    turin = line("Turin")
    for amd in ({"FMC_SPL": None}, {"HW_ID": CHIP}, {"STRUCT_VERSION": der_int(0)}):
        assert len(problems(turin.vcek(tcb=TURIN_TCB, amd=amd))) == 1


def test_an_identity_may_stand_in_an_octet_string() -> None:
    wrapped = EndorsementKey.of(load(line().vcek(amd={"HW_ID": b"\x04\x40" + CHIP}).der))
    assert (wrapped.hw_id, wrapped.problems) == (CHIP, ())
    other = EndorsementKey.of(load(line().vcek(amd={"HW_ID": b"\x04\x3f" + CHIP}).der))
    assert other.problems != ()


def test_a_critical_extension_that_nobody_knows_is_a_problem() -> None:
    genoa = line()
    made = genoa.vcek().certificate
    builder = x509.CertificateBuilder(made.issuer, made.subject, made.public_key(), 9)
    builder = builder.not_valid_before(made.not_valid_before_utc).not_valid_after(made.not_valid_after_utc)
    for item in made.extensions:
        builder = builder.add_extension(item.value, critical=False)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    for critical in (False, True):
        signed = builder.add_extension(unknown, critical=critical).sign(
            genoa.ask.key, hashes.SHA384(), rsa_padding=PSS
        )
        found = problems(Issued(certificate=signed, key=genoa.chip_key))
        assert found == (("a critical extension is not known",) if critical else ())


def other_vceks() -> list[Issued]:
    """Certificates of this chip's line that do not belong to the report: each differs in one thing."""
    genoa = line()
    return [
        genoa.vcek(tcb=replace(GENOA_TCB, ucode=83)),
        genoa.vcek(amd={"HW_ID": bytes(64)}),
        genoa.vcek(valid=OLD),
        genoa.vlek(),
    ]


def test_the_certificate_that_fits_is_found_among_others() -> None:
    genoa = line()
    for other in other_vceks():
        assert judge(genoa.ask, other) != set()
        assert judge(genoa.ask, other, genoa.vcek()) == set()
        assert judge(genoa.vcek(), other, genoa.ask) == set()


def test_a_vlek_is_found_beside_a_vcek() -> None:
    genoa = line()
    report = {"signer_info": SignerInfo(signing_key=SigningKey.VLEK), "chip_id": bytes(64)}
    for given in ([genoa.vcek(), genoa.vlek()], [genoa.vlek(), genoa.vcek()]):
        assert judge(*given, **report) == set()


def test_an_intermediate_that_the_root_did_not_sign_breaks_the_chain() -> None:
    """Its name and its key's signature fit; only the ARK's signature is missing."""
    genoa = line()
    forged = issue("SEV-Genoa", issue("ARK-Genoa", None), serial=9)
    bare = Roots(
        names=frozenset({"test"}), anchors={"amd": {"genoa_ark": genoa.ark.certificate}}, custom=True
    )
    assert judge(genoa.vcek(), genoa.ask, roots=bare) == set()
    assert judge(genoa.vcek(by=forged), forged, roots=bare) == {C.CHAIN}
    assert judge(genoa.vcek(), roots=bare) == {C.CHAIN}


def test_a_line_that_is_not_pinned_has_no_root() -> None:
    """Where one line alone is pinned everything is judged under it; where several are, none stands in."""
    genoa = line()
    milan, turin = line("Milan").roots().anchors["amd"], line("Turin").roots().anchors["amd"]
    several = Roots(names=frozenset({"test"}), anchors={"amd": {**milan, **turin}}, custom=True)
    one = Roots(names=frozenset({"test"}), anchors={"amd": milan}, custom=True)
    assert {C.ROOT, C.CHAIN} <= judge(genoa.vcek(), genoa.ask, roots=several)
    assert C.CHAIN in judge(genoa.vcek(), genoa.ask, roots=one)


def test_the_number_of_certificates_is_bounded() -> None:
    genoa = line()
    many = [genoa.ask.der] * 40
    with pytest.raises(MalformedEvidence, match="more than"):
        judge(genoa.vcek(), *many)


def test_crls_count_that_the_line_signed() -> None:
    genoa, revoking = line(), line().crl(2)
    forged, others = genoa.crl(by=line("Milan").ark), line("Milan").crl()
    old = genoa.crl(2, until=NOW - timedelta(days=1))
    assert judge(genoa.vcek(), crls=[genoa.crl(), others]) == set()
    for crls in ([forged], [genoa.crl(), forged], [others], [revoking], [genoa.crl(), revoking], []):
        assert judge(genoa.vcek(), crls=crls) == {C.CRL}
    assert judge(genoa.vcek(), crls=[genoa.crl(), old]) == {C.CRL}, "what an older list revoked stays so"
