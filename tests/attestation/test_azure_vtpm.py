"""Azure confidential VMs: the genuine cases, and for each check a vector that only it refuses."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.azure import (
    AzureCheck,
    HclReport,
    ReportType,
    VtpmEvidence,
    VtpmPolicy,
    appraise_snp,
    appraise_tdx,
)
from attestation.checks import CheckId
from attestation.context import Context
from attestation.encoding import b64url_encode
from attestation.errors import MalformedEvidence, PolicyError
from attestation.policy import Policy
from attestation.roots import Roots
from attestation.snp import SnpCheck, SnpPolicy
from attestation.tdx import TdxCheck
from attestation.tpm import PcrSelection, Quote, TpmCheck
from attestation.verdict import Sheet
from tests.attestation import clouds, snp_cases, snp_maker, tdx_cases
from tests.attestation.clouds import accepted, blocking, case, context, flipped, mutated, parses

AK, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
NONCE = bytes(range(48))
VALUES = {index: bytes([index]) * 32 for index in range(24)}
TD_CASE = "azure-tdx-vtpm/outofdate"


def rules(**changes: Any) -> VtpmPolicy:
    keys: dict[str, Any] = {"banks": ["sha256"], "pcrs": {"sha256": {"4": [VALUES[4].hex()]}}} | changes
    return clouds.parse(VtpmPolicy, **{k: v for k, v in keys.items() if v is not None})  # type: ignore[no-any-return]


def open_rules(**changes: Any) -> VtpmPolicy:
    """What the genuine cases come with: no list of registers, some without quote or nonce."""
    keys = {"pcrs": None, "allow_any_pcrs": True, "allow_missing_quote": True, "allow_missing_nonce": True}
    return rules(**(keys | changes))


def read(genuine: clouds.Case, hcl: bytes | None = None, message: bytes | None = None) -> VtpmEvidence:
    signature, values = genuine.read("tpm_quote.sig"), genuine.read("pcrs_sha256.json")
    pcrs = dict(enumerate(map(bytes.fromhex, json.loads(values)))) if values else None
    return VtpmEvidence.from_parts(
        hcl or genuine.must("hcl_report.bin"),
        quote=(message or genuine.must("tpm_quote.msg"), signature) if signature else None,
        pcrs={"sha256": pcrs} if pcrs else {},
    )


def nonce_of(genuine: clouds.Case) -> bytes | None:
    return bytes.fromhex(text) if (text := genuine.input("expected_nonce_hex")) else None


def snp_policy(**changes: Any) -> SnpPolicy:
    return clouds.parse(SnpPolicy, **(snp_cases.LENIENT | changes))  # type: ignore[no-any-return]


def snp_sheets(genuine: clouds.Case, given_parts: VtpmEvidence) -> tuple[Sheet, Sheet]:
    surroundings = context(genuine.at, snp=snp_policy())
    chain = [genuine.must("vcek.pem")]
    return appraise_snp(
        given_parts, chain, surroundings, open_rules(), subject="cpu0", nonce=nonce_of(genuine)
    )


@pytest.mark.parametrize("name", ["genoa", "milan-v1", "genoa-hcl-only", "fail-vcek-of-another-chip"])
def test_snp_cases(name: str) -> None:
    genuine = case(f"azure-snp-vtpm/{name}")
    sheets = snp_sheets(genuine, read(genuine))
    assert accepted(*sheets) is genuine.passes, clouds.verdict(*sheets).summary()
    assert not clouds.missing_claims(genuine, *sheets)
    if not genuine.passes:
        assert blocking(*sheets) == {SnpCheck.REPORT_SIGNATURE, SnpCheck.CHIP_ID}


def tdx_context(**changes: Any) -> Context:
    found = tdx_cases.load(TD_CASE)
    policy = SimpleNamespace(roots=Roots.pinned({"intel"}), snp=None, tdx=tdx_cases.tdx_rules(**changes))
    return Context(policy=cast(Policy, policy), collateral=found.collateral, now=found.now)


def tdx_sheets(**changes: Any) -> tuple[Sheet, Sheet]:
    genuine = case(TD_CASE)
    surroundings = tdx_context(**changes)
    quote, nonce = genuine.must("td_quote.bin"), nonce_of(genuine)
    return appraise_tdx(read(genuine), quote, surroundings, open_rules(), subject="cpu0", nonce=nonce)


def test_the_out_of_date_tdx_case() -> None:
    sheets = tdx_sheets()
    assert not accepted(*sheets)
    assert not clouds.missing_claims(case(TD_CASE), *sheets)
    assert TdxCheck.ATTRIBUTES in blocking(*sheets) and not blocking(sheets[1])
    weak = {"tcb_statuses": ["OutOfDate"], "allow_any_advisory": True, "allow_sept_ve": True}
    tolerant = tdx_sheets(**weak)
    assert accepted(*tolerant), clouds.verdict(*tolerant).summary()


def test_a_td_quote_over_other_runtime_data_is_refused() -> None:
    genuine, other = case(TD_CASE), case("azure-tdx-vtpm/fail-ak-not-in-runtime-data")
    weak = {"tcb_statuses": ["OutOfDate"], "allow_any_advisory": True, "allow_sept_ve": True}
    parts = replace(read(genuine), hcl=HclReport.from_bytes(other.must("hcl_report.bin")))
    quote = genuine.must("td_quote.bin")
    policy = open_rules(allow_no_secure_boot=True)
    sheets = appraise_tdx(parts, quote, tdx_context(**weak), policy, subject="cpu0", nonce=None)
    assert blocking(*sheets) == {TdxCheck.REPORT_DATA, TpmCheck.QUOTE_SIGNATURE}


def test_the_case_of_a_key_from_elsewhere() -> None:
    genuine = case("azure-tdx-vtpm/fail-ak-not-in-runtime-data")
    sheets = appraise_tdx(
        read(genuine), None, context(genuine.at), open_rules(), subject="cpu0", nonce=nonce_of(genuine)
    )
    assert not clouds.missing_claims(genuine, *sheets)
    expected = {AzureCheck.HARDWARE, AzureCheck.SECURE_BOOT, TpmCheck.QUOTE_SIGNATURE, TpmCheck.PCR_DIGEST}
    assert blocking(*sheets) == expected


def jwk(key: rsa.RSAPrivateKey, kid: str = "HCLAkPub") -> dict[str, Any]:
    n = key.public_key().public_numbers().n
    return {"kid": kid, "kty": "RSA", "e": "AQAB", "n": b64url_encode(n.to_bytes(256, "big"))}


def runtime(**changes: Any) -> dict[str, Any]:
    return {
        "keys": [jwk(AK), jwk(OTHER, "HCLEkPub")],
        "vm-configuration": {"secure-boot": True, "tpm-enabled": True},
        "user-data": "ab" * 64,
    } | changes


def hcl(claims: dict[str, Any], kind: ReportType = ReportType.SNP, data: bytes | None = None) -> HclReport:
    raw = json.dumps(claims).encode()
    carried = data if data is not None else hashlib.sha256(raw).digest().ljust(64, b"\0")
    return HclReport(
        version=2,
        request_type=2,
        status=bytes(16),
        hardware=snp_maker.line().report(report_data=carried),
        runtime_version=1,
        report_type=kind,
        hash_type=1,
        runtime=raw,
        claims=claims,
        padding=5,
    )


def quote(key: rsa.RSAPrivateKey = AK, nonce: bytes = NONCE) -> tuple[bytes, bytes]:
    made = Quote(
        qualified_signer=b"",
        extra_data=nonce,
        clock=1,
        reset_count=2,
        restart_count=3,
        safe=True,
        firmware_version=4,
        selections=(PcrSelection(0x000B, b"\xff\xff\xff"),),
        pcr_digest=hashlib.sha256(b"".join(VALUES.values())).digest(),
    ).to_bytes()
    return made, key.sign(made, padding.PKCS1v15(), hashes.SHA256())


def judge(
    report: HclReport | None = None,
    policy: VtpmPolicy | None = None,
    *,
    signed: tuple[bytes, bytes] | None = None,
    pcrs: Any = None,
    **inputs: Any,
) -> tuple[Sheet, Sheet]:
    line = snp_maker.line()
    parts = VtpmEvidence.from_parts(
        (report or hcl(runtime())).to_bytes(),
        quote=signed or quote(),
        pcrs={"sha256": VALUES} if pcrs is None else pcrs,
    )
    surroundings = context(snp_maker.NOW, roots=line.roots(), snp=snp_policy(products=["Genoa"]))
    given_inputs: dict[str, Any] = {"nonce": NONCE} | inputs
    vcek = [line.vcek().der]
    return appraise_snp(parts, vcek, surroundings, policy or rules(), subject="cpu0", **given_inputs)


def test_our_own_machine_is_accepted() -> None:
    sheets = judge(user_data=b"\xab" * 64)
    assert accepted(*sheets), clouds.verdict(*sheets).summary()


VM = "vm-configuration"
REFUSED: list[tuple[dict[str, Any], set[CheckId]]] = [
    ({"report": hcl(runtime(), ReportType.TDX)}, {AzureCheck.HARDWARE, AzureCheck.RUNTIME}),
    ({"report": hcl(runtime(), data=bytes(64))}, {AzureCheck.RUNTIME, SnpCheck.REPORT_DATA}),
    (
        {"report": hcl(runtime(), data=hashlib.sha256(json.dumps(runtime()).encode()).digest() + b"\1" * 32)},
        {AzureCheck.RUNTIME, SnpCheck.REPORT_DATA},
    ),
    ({"report": hcl(runtime(keys=[]))}, {AzureCheck.AK, TpmCheck.QUOTE_SIGNATURE}),
    ({"report": hcl(runtime(keys=[jwk(AK), jwk(AK)]))}, {AzureCheck.AK, TpmCheck.QUOTE_SIGNATURE}),
    ({"report": hcl(runtime(keys=[jwk(OTHER)]))}, {TpmCheck.QUOTE_SIGNATURE}),
    ({"report": hcl(runtime(**{VM: {"secure-boot": False, "tpm-enabled": True}}))}, {AzureCheck.SECURE_BOOT}),
    ({"report": hcl(runtime(**{VM: {"secure-boot": True}}))}, {AzureCheck.TPM}),
    ({"user_data": bytes(64)}, {AzureCheck.USER_DATA}),
    ({"signed": quote(nonce=b"other")}, {TpmCheck.QUOTE_NONCE}),
    ({"nonce": None}, {TpmCheck.QUOTE_NONCE}),
    ({"pcrs": {"sha256": VALUES | {0: bytes(31) + b"\1"}}}, {TpmCheck.PCR_DIGEST}),
    ({"policy": rules(pcrs={"sha256": {"7": ["00" * 32]}})}, {TpmCheck.PCR_VALUES}),
    ({"policy": rules(banks=["sha384"])}, {TpmCheck.QUOTE_BANKS}),
]


@pytest.mark.parametrize(("changes", "expected"), REFUSED)
def test_each_check_refuses(changes: dict[str, Any], expected: set[CheckId]) -> None:
    assert blocking(*judge(**changes)) == expected


def test_a_missing_quote_and_nonce_are_spelled_out() -> None:
    genuine = case("azure-snp-vtpm/genoa-hcl-only")
    surroundings, chain = context(genuine.at, snp=snp_policy()), [genuine.must("vcek.pem")]
    for policy, good in ((open_rules(), True), (open_rules(allow_missing_quote=None), False)):
        parts = read(genuine)
        sheets = appraise_snp(parts, chain, surroundings, policy, subject="cpu0", nonce=None)
        assert accepted(*sheets) is good


def test_no_signed_byte_of_a_genuine_machine_can_change() -> None:
    genuine = case("azure-snp-vtpm/milan-v1")
    raw, message = genuine.must("hcl_report.bin"), genuine.must("tpm_quote.msg")
    signed = [*range(32, 32 + 0x2A0), *range(1236, 1236 + 1110)]
    changed = [(flipped(raw, index), message) for index in signed]
    changed += [(raw, flipped(message, index)) for index in range(len(message))]
    for place, parts in enumerate(changed):
        sheets = parses(lambda _, parts=parts: snp_sheets(genuine, read(genuine, *parts)), b"")  # type: ignore[misc]
        assert sheets is None or not accepted(*sheets), place


@settings(deadline=None)
@given(data=st.data())
def test_mutated_hcl_reports_re_encode_and_are_judged(data: st.DataObject) -> None:
    genuine = case("azure-snp-vtpm/genoa")
    raw = data.draw(st.one_of(st.binary(max_size=2700), mutated(genuine.must("hcl_report.bin"))))
    found = parses(HclReport.from_bytes, raw)
    if found is not None:
        assert found.to_bytes() == raw
        parses(lambda changed: snp_sheets(genuine, read(genuine, changed)), raw)


@settings(deadline=None)
@given(
    claims=st.dictionaries(
        st.sampled_from(["keys", "vm-configuration", "user-data"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["kid", "kty", "n", "e", "crv"]), inner, max_size=3)
                | st.just({"kid": "HCLAkPub", "kty": "RSA"})
            ),
            max_leaves=4,
        ),
    )
)
def test_any_runtime_data_is_judged(claims: dict[str, Any]) -> None:
    sheets = parses(lambda _: judge(hcl(claims)), b"")
    assert sheets is None or not accepted(*sheets)


@pytest.mark.parametrize("offset", [0, 8, 1216, 1220, 1224, 1228, 1232, 1236, 2599])
def test_malformed(offset: int) -> None:
    raw = bytearray(case("azure-snp-vtpm/genoa").must("hcl_report.bin"))
    raw[offset] ^= 0x40
    with pytest.raises(MalformedEvidence):
        HclReport.from_bytes(bytes(raw))


@pytest.mark.parametrize(
    "keys", [{"banks": None}, {"banks": []}, {"pcrs": None}, {"allow_any_pcrs": True}, {"allow_secure": True}]
)
def test_policies_that_leave_something_open_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        rules(**keys)


def test_every_check_has_a_vector_that_it_refuses() -> None:
    refused = {check for entry in REFUSED for check in entry[-1]}
    assert set(AzureCheck) <= refused
