"""Azure's confidential VMs at the broker: the agents' documents, bound by the virtual TPM's quote.

The forms are those of deps/verifier/src/az_snp_vtpm/{mod,compat}.rs in Trustee at 258ea4a and
attestation-agent/attester/src/az_snp_vtpm/mod.rs in guest-components at 07b7c1a.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import Collateral, MalformedEvidence, Policy, Verdict, verify
from attestation.binding import kbs_report_data
from attestation.kbs import KbsEvidence
from sealing import kbs
from tests.attestation import snp_maker
from tests.attestation import test_azure_vtpm as azure

NONCE = "bm9uY2Ugb2YgdGhlIGNoYWxsZW5nZSwgMzIgYnl0ZXM="
RUNTIME = {"nonce": NONCE, "tee-pubkey": kbs.TeeKeyPair.generate().public.to_json()}
POLICY = Policy.from_toml(
    'version = 1\nroots = ["amd", "intel", "nvidia"]\nmax_verdict_age = 3600\n'
    '[snp]\nproducts = ["Genoa"]\nallow_any_measurement = true\nallow_any_tcb = true\n'
    "allow_missing_crl = true\nallow_smt = true\n"
    "[azure_vtpm]\nallow_any_pcrs = true\nallow_missing_quote = true\nallow_missing_nonce = true\n"
).with_roots(snp_maker.line().roots())
"""It waives what can be waived; the binding to the exchange cannot."""

Form = Callable[[tuple[bytes, bytes]], dict[str, Any]]
REPORT = azure.hcl(azure.runtime()).to_bytes()
VCEK = snp_maker.line().vcek()
PCRS = list(azure.VALUES.values())


def version(number: int) -> Form:
    def form(quote: tuple[bytes, bytes]) -> dict[str, Any]:
        message, signature = (part.hex() for part in quote)
        return {
            "version": number,
            "tpm_quote": {
                "signature": signature,
                "message": message,
                "pcrs": [value.hex() for value in PCRS],
            },
            "hcl_report": base64.urlsafe_b64encode(REPORT).decode(),
            "vcek": base64.urlsafe_b64encode(VCEK.der).decode(),
        }

    return form


def unversioned(quote: tuple[bytes, bytes]) -> dict[str, Any]:
    message, signature = (list(part) for part in quote)
    pem = base64.encodebytes(VCEK.der).decode()
    return {
        "quote": {"signature": signature, "message": message, "pcrs": [list(value) for value in PCRS]},
        "report": list(REPORT),
        "vcek": f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n",
    }


def quoted(runtime: Mapping[str, Any] = RUNTIME) -> tuple[bytes, bytes]:
    """What the virtual TPM signs for this exchange: the digest without the zeros of a report."""
    return azure.quote(nonce=kbs_report_data(runtime, "")[:48])


def judge(primary: Any, tee: str = "az-snp-vtpm", runtime: Mapping[str, Any] = RUNTIME) -> Verdict:
    return verify(
        KbsEvidence(tee=tee, runtime=runtime, primary=primary),
        Collateral(),
        POLICY,
        nonce=NONCE.encode(),
        now=snp_maker.NOW,
        nonce_age=timedelta(seconds=1),
    )


def blocking(verdict: Verdict) -> set[str]:
    return {f"{r.subject} {r.check}" for r in verdict.blocking()}


@pytest.mark.parametrize("form", [unversioned, version(1), version(2)])
def test_each_form_of_the_agents_is_accepted(form: Form) -> None:
    verdict = judge(form(quoted()))
    assert verdict.accepted, verdict.summary()


def test_a_quote_of_another_exchange_is_refused() -> None:
    other = RUNTIME | {"tee-pubkey": kbs.TeeKeyPair.generate().public.to_json()}
    assert blocking(judge(version(1)(quoted(other)))) == {"cpu0.vtpm tpm.quote-nonce"}
    assert blocking(judge(version(1)(quoted()), runtime=other)) == {"cpu0.vtpm tpm.quote-nonce"}


def test_a_quote_over_the_padded_report_data_is_refused() -> None:
    padded = azure.quote(nonce=kbs_report_data(RUNTIME, ""))
    assert blocking(judge(version(1)(padded))) == {"cpu0.vtpm tpm.quote-nonce"}


def test_a_machine_of_the_other_kind_is_refused() -> None:
    assert not judge(version(1)(quoted()), tee="az-tdx-vtpm").accepted


@pytest.mark.parametrize("tee", ["az-snp-vtpm", "az-tdx-vtpm"])
@pytest.mark.parametrize("primary", [None, [], {}, {"tpm_quote": {}}, {"tpm_quote": 1, "hcl_report": "AA=="}])
def test_what_is_no_such_document_is_malformed(tee: str, primary: Any) -> None:
    with pytest.raises(MalformedEvidence):
        judge(primary, tee=tee)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda x: st.lists(x, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(["tpm_quote", "hcl_report", "vcek", "message", "signature", "pcrs"]), VALUES)
def test_verify_is_total_over_what_an_agent_can_send(name: str, value: Any) -> None:
    document = version(1)(quoted())
    inside = document["tpm_quote"] if name in document["tpm_quote"] else document
    inside[name] = value
    try:
        verdict = judge(document)
    except MalformedEvidence:
        return
    assert not verdict.accepted
