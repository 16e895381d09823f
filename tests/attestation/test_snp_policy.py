"""The [snp] section: strict, complete, and clear about what is wrong."""

from typing import Any

import pytest

from attestation import Policy, PolicyError
from attestation.snp import GuestFlag, PlatformInfo, Product, Tcb

from .snp_cases import toml
from .snp_maker import STRICT


def parse(**changes: Any) -> Any:
    section = {key: value for key, value in {**STRICT, **changes}.items() if value is not None}
    rules = Policy.from_toml(toml(**section)).snp
    assert rules is not None
    return rules


def test_a_strict_policy_allows_nothing_that_is_not_written() -> None:
    rules = parse()
    weakened = [name for name in dir(rules) if name.startswith("allow_") and getattr(rules, name)]
    assert weakened == []
    assert rules.products == {Product.GENOA}
    assert rules.minimum_tcb == {Product.GENOA: Tcb(bl=10, tee=0, snp=23, ucode=84)}
    assert rules.vmpls == {0}
    assert rules.host_data == {bytes(32)}
    assert rules.id_key_digests == {bytes(48)}


def test_requirements_are_bits() -> None:
    rules = parse(require_guest=["single-socket"], require_platform=["ecc", "tsme"])
    assert rules.require_guest == GuestFlag.SINGLE_SOCKET
    assert rules.require_platform == PlatformInfo.ECC | PlatformInfo.TSME


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"products": None}, "products is missing"),
        ({"products": []}, "products is empty"),
        ({"products": ["Genua"]}, "did you mean 'Genoa'"),
        ({"measurements": None}, "allow_any_measurement = true"),
        ({"measurements": []}, "measurements is empty"),
        ({"measurements": ["22" * 47]}, "47 bytes, not 48"),
        ({"allow_any_measurement": True}, "not both"),
        ({"allow_any_report_data": True}, "not both"),
        ({"host_data": ["00" * 32], "allow_any_host_data": True}, "not both"),
        ({"minimum_tcb": None}, "allow_any_tcb = true"),
        ({"products": ["Genoa", "Turin"]}, r"minimum_tcb.Turin\] is missing"),
        ({"minimum_tcb": {"Genoa": {"bl": 1, "tee": 0, "snp": 1}}}, "ucode is missing"),
        ({"minimum_tcb": {"Genoa": {"bl": 1, "tee": 0, "snp": 1, "ucode": 256}}}, "256"),
        ({"minimum_tcb": {"Genoa": {"fmc": 1, "bl": 1, "tee": 0, "snp": 1, "ucode": 1}}}, "fmc is unknown"),
        ({"products": ["Turin"]}, "not among the products"),
        ({"allow_any_tcb": True}, "not both"),
        ({"csp_ids": ["CN=x"]}, "allow_vlek"),
        ({"allow_vlek": True}, "allow_any_csp"),
        ({"migration_report_ids": ["00" * 32]}, "allow_migrate_ma"),
        ({"vmpls": [4]}, "VMPL"),
        ({"vmpls": [True]}, "VMPL"),
        ({"minimum_version": "1"}, '"1.55"'),
        ({"require_guest": ["debug"]}, "unknown"),
        ({"allow_debugging": True}, "did you mean 'allow_debug'"),
        ({"allow_debug": 1}, "not bool"),
    ],
)
def test_a_wrong_policy_is_refused_with_the_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        parse(**changes)


def test_report_data_may_be_left_to_the_caller() -> None:
    assert parse(report_data=None).report_data == frozenset()
    assert parse(report_data=None, allow_any_report_data=True).report_data is None
