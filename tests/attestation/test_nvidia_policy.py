"""The [nvidia_gpu] and [nvidia_switch] sections: nothing is permitted that is not written."""

from typing import Any

import pytest

from attestation import PolicyError

from .nvidia import policy, switch_policy


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"count": None}, "count"),
        ({"count": 0}, "count"),
        ({"count": 65}, "count"),
        ({"chips": None}, "chips"),
        ({"chips": []}, "chips"),
        ({"chips": ["GH-100"]}, "chips"),
        ({"allow_any_measurements": None}, "measurements"),
        ({"measurements": ["00" * 48]}, "measurements"),
        ({"rims": "required"}, "rims"),
        ({"rims": "optional"}, "rims"),
        ({"measurements": ["00" * 32], "allow_any_measurements": None}, "48"),
        ({"allow_any_driver": None}, "driver"),
        ({"minimum_driver": "550.90"}, "driver"),
        ({"allow_any_driver": None, "minimum_driver": "newest"}, "driver version"),
        ({"allow_any_driver": None, "driver_versions": ["550"]}, "driver version"),
        ({"allow_any_vbios": None}, "vbios"),
        ({"allow_any_vbios": None, "vbios_versions": ["96.00.5e.00.01"]}, "vbios version"),
        ({"allow_any_vbios": None, "minimum_vbios": ["96"]}, "vbios version"),
        ({"devices": ["00"]}, "devices"),
        ({"allow_debugging": True}, "allow_debug"),
        ({"allow_debug": "yes"}, "allow_debug"),
    ],
)
def test_a_section_that_is_incomplete_or_contradicts_itself_is_refused(
    change: dict[str, Any], why: str
) -> None:
    with pytest.raises(PolicyError, match=why):
        policy(**change)


@pytest.mark.parametrize("key", ["count", "chips", "allow_any_vbios", "allow_any_measurements"])
def test_a_switch_section_is_as_strict(key: str) -> None:
    with pytest.raises(PolicyError):
        switch_policy(**{key: None})
    with pytest.raises(PolicyError, match="unknown"):
        switch_policy(allow_protected_pcie=True)


def test_every_weakening_is_off_unless_written() -> None:
    written: dict[str, Any] = {
        "allow_any_driver": None,
        "minimum_driver": "550.90.07",
        "allow_any_vbios": None,
        "minimum_vbios": ["96.00.5E.00.01"],
        "allow_any_measurements": None,
        "rims": "required",
        "allow_missing_fwid": None,
        "allow_missing_ocsp": None,
    }
    rules = policy(**written).nvidia_gpu
    assert rules is not None
    names = {name for name in dir(rules) if name.startswith("allow_")}
    assert len(names) == 8
    assert not any(getattr(rules, name) for name in names)
    assert not rules.driver.any
    assert not rules.vbios.any
    assert str(rules.vbios) == "at least 96.00.5E.00.01"
