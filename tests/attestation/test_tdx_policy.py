"""The [tdx] and [sgx] sections: nothing permissive by default, every weakening written out."""

from typing import Any

import pytest

from attestation import PolicyError
from attestation.tdx import TdAttributes

from .tdx_cases import sgx_rules, tdx_rules

Z = "00" * 48
STRICT = {"allow_any_measurement": None, "allow_any_report_data": None}
MEASURED = STRICT | {f"{name}s": ["11" * 48] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}


def test_a_strict_section_allows_nothing_it_does_not_name() -> None:
    rules = tdx_rules(**MEASURED)
    assert rules.mrtds == frozenset({b"\x11" * 48}) == rules.rtmrs[3]
    assert rules.tcb_statuses == {"UpToDate"} and not rules.advisories and not rules.allow_any_advisory
    assert not (rules.allow_debug or rules.allow_sept_ve or rules.allow_any_report_data)
    assert not (rules.allow_missing_root_crl or rules.allow_missing_pck_crl or rules.collateral_grace)
    assert rules.allow_attributes == TdAttributes(0)
    assert rules.mrservicetds == rules.mrconfigids == rules.mrowners == frozenset({bytes(48)})


REFUSED: list[tuple[dict[str, Any], str]] = [
    (STRICT, "mrtds"),
    (MEASURED | {"rtmr2s": None}, "rtmr2s"),
    (MEASURED | {"mrtds": ["11" * 32]}, "48"),
    (MEASURED | {"mrtds": ["xx" * 48]}, "hexadecimal"),
    (MEASURED | {"allow_any_measurement": True}, "choose one"),
    (MEASURED | {"allow_any_registers": ["mrtd"]}, "choose one"),
    ({"allow_any_registers": ["rtmr4"]}, "rtmr4"),
    ({"minimum_tcb_evaluation_data_number": None}, "minimum_tcb_evaluation_data_number"),
    ({"tcb_statuses": ["Revoked"]}, "Revoked"),
    ({"tcb_statuses": ["Unsupported"]}, "Unsupported"),
    ({"tcb_statuses": []}, "tcb_statuses"),
    ({"allow_attributes": ["DEBUG"]}, "DEBUG"),
    ({"allow_attributes": ["PERF_PROF"]}, "PERF_PROF"),
    ({"allow_attributes": ["SEPT_VE_DISABLE"]}, "SEPT_VE_DISABLE"),
    ({"allow_debug": "yes"}, "allow_debug"),
    ({"allow_debgu": True}, "allow_debug"),
    ({"collateral_grace_hours": 100000}, "collateral_grace_hours"),
    ({"mrservicetds": [Z], "allow_any_service_td": True}, "mrservicetds"),
    ({"mrowners": [Z], "allow_any_config_ids": True}, "mrowners"),
    ({"fmspcs": ["00"]}, "fmspcs"),
    ({"xfams": ["e7"]}, "xfams"),
    ({"minimum_tee_tcb_svn": "00"}, "minimum_tee_tcb_svn"),
    ({"event_log_registers": ["mrtd"]}, "event_log_registers"),
]


@pytest.mark.parametrize(("keys", "named"), REFUSED)
def test_refused_with_the_name_of_the_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        tdx_rules(**keys)


def test_single_registers_may_be_left_open() -> None:
    rules = tdx_rules(**(MEASURED | {"rtmr3s": None, "allow_any_registers": ["rtmr3"]}))
    assert rules.rtmrs[3] is None and rules.rtmrs[2] is not None


SGX_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"allow_any_measurement": None}, "mrenclaves"),
    ({"mrenclaves": ["11" * 32]}, "mrenclaves"),
    ({"allow_any_measurement": None, "mrsigners": ["11" * 32]}, "isvprodid"),
    ({"isvprodid": 1}, "isvprodid"),
    ({"mrtds": [Z]}, "mrtds"),
    ({"minimum_tcb_evaluation_data_number": None}, "minimum_tcb_evaluation_data_number"),
]


@pytest.mark.parametrize(("keys", "named"), SGX_REFUSED)
def test_sgx_refused_with_the_name_of_the_key(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        sgx_rules(**keys)
