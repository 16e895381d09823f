"""TPM quotes, keys and logs of genuine machines."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from attestation.errors import MalformedEvidence
from attestation.tpm import TpmCheck, TpmEvidence, appraise
from tests.attestation import clouds
from tests.attestation.clouds import accepted, blocking, case, context, flipped
from tests.attestation.test_tpm_checks import rules

BANKS = ("sha1", "sha256", "sha384")


@pytest.mark.parametrize("name", ["gce-cos85-no-nonce", "gce-cos85-nonce9009"])
def test_genuine_quotes_over_three_banks_are_accepted(name: str) -> None:
    genuine = case(f"tpm/{name}")
    given = _genuine(genuine)
    policy = rules(
        ak_vendors=None, allow_untrusted_ak=True, pcrs=None, allow_any_pcrs=True, event_log="required"
    )
    nonce = bytes.fromhex(genuine.input("expected_nonce_hex"))
    sheet = appraise(given, context(genuine.at), policy, subject="tpm0", nonce=nonce)
    assert accepted(sheet), clouds.verdict(sheet).summary()
    assert given.log is not None and given.public is not None
    assert given.log.to_bytes() == genuine.must("event_log.bin")
    assert given.public.to_bytes() == genuine.must("ak_pub.tpmt")


def _genuine(genuine: clouds.Case, log: bytes | None = None) -> TpmEvidence:
    values = json.loads(genuine.must("pcrs.json"))
    return TpmEvidence.from_parts(
        quotes=[
            (genuine.must(f"quote_{bank}.msg"), genuine.must(f"quote_{bank}.sig_tpmt")) for bank in BANKS
        ],
        public=genuine.must("ak_pub.tpmt"),
        certificates=[genuine.must("ak_cert.der")],
        pcrs={bank: {int(i): bytes.fromhex(v) for i, v in values[bank].items()} for bank in BANKS},
        event_log=log or genuine.must("event_log.bin"),
    )


@pytest.mark.parametrize("name", ["azure-ak-cert-clean", "gce-ak-chain"])
def test_genuine_attestation_keys_chain_to_the_pinned_roots(name: str) -> None:
    genuine = case(f"tpm/{name}")
    files = ("ak_cert.der", "ak_cert.pem", "ak_intermediate.pem")
    given = TpmEvidence.from_parts(certificates=[raw for file in files if (raw := genuine.read(file))])
    policy = rules(
        ak_vendors=["azure", "google"], banks=None, allow_missing_quote=True, pcrs=None, allow_any_pcrs=True
    )
    sheet = appraise(given, context(genuine.at), policy, subject="tpm0", nonce=None)
    assert accepted(sheet), clouds.verdict(sheet).summary()
    assert not clouds.missing_claims(genuine, sheet)
    other = replace(policy, vendors=frozenset({"google" if "azure" in name else "azure"}))
    assert blocking(appraise(given, context(genuine.at), other, subject="tpm0", nonce=None)) == {
        TpmCheck.AK_CHAIN,
        TpmCheck.AK_VALIDITY,
    }
    late = genuine.at + timedelta(days=40_000)
    assert blocking(appraise(given, context(late), policy, subject="tpm0", nonce=None)) == {
        TpmCheck.AK_VALIDITY
    }


def test_zeros_after_a_certificate_from_nv_storage_are_dropped() -> None:
    genuine = case("tpm/azure-ak-cert-clean").must("ak_cert.der")
    assert TpmEvidence.from_parts(certificates=[genuine + bytes(87)]).certificates[0].raw == genuine
    with pytest.raises(MalformedEvidence):
        TpmEvidence.from_parts(certificates=[genuine + bytes(87) + b"x"])


def test_an_altered_event_log_does_not_lead_to_the_quoted_registers() -> None:
    genuine = case("tpm/gce-cos85-nonce9009")
    raw = bytearray(genuine.must("event_log.bin"))
    raw[0x57] ^= 1  # inside the first event's SHA-1 digest
    policy = rules(
        ak_vendors=None, allow_untrusted_ak=True, pcrs=None, allow_any_pcrs=True, event_log="ignored"
    )
    given = _genuine(genuine, bytes(raw))
    sheet = appraise(given, context(genuine.at), policy, subject="tpm0", nonce=b"\x90\x09")
    assert blocking(sheet) == {TpmCheck.EVENT_LOG}
    assert given.log is not None
    cut = replace(given, log=replace(given.log, events=tuple(e for e in given.log.events if e.pcr != 4)))
    sheet = appraise(cut, context(genuine.at), policy, subject="tpm0", nonce=b"\x90\x09")
    assert blocking(sheet) == {TpmCheck.EVENT_LOG}


def test_a_genuine_quote_flipped_anywhere_is_refused() -> None:
    genuine = case("tpm/gce-cos85-nonce9009")
    policy = rules(ak_vendors=None, allow_untrusted_ak=True, pcrs=None, allow_any_pcrs=True)
    good, message = _genuine(genuine), genuine.must("quote_sha256.msg")
    for index in range(len(message)):
        try:
            bad = good.quotes[1].from_bytes(flipped(message, index), genuine.must("quote_sha256.sig_tpmt"))
        except MalformedEvidence:
            continue
        sheet = appraise(
            replace(good, quotes=(bad,)), context(genuine.at), policy, subject="t", nonce=b"\x90\x09"
        )
        assert not accepted(sheet), index
