"""`cloister azure` on the command line, against the stand-in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.artifacts.keys import new_data_key, read_data_key
from cloister.cli import azuring
from tests.artifacts.made import owned_pages
from tests.azure.standin import Standin, running
from tests.azure.test_vault import options
from tests.broker.commands import cloister
from tests.broker.machines import bound
from tests.broker.world import POLICY

AUTHORITY = ("--authority", "https://127.0.0.1:8")


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    with running(Standin(tmp_path / "azure")) as made:
        monkeypatch.setattr(azuring, "OPTIONS", options(made))
        yield made


def written(tmp_path: Path) -> tuple[Path, Path]:
    """A policy that Azure can show, and a workload."""
    from tests.azure.test_release_policy import LOOSE

    head, _, rest = POLICY.partition("[nvidia_gpu]")
    loose = "\n".join(f"{name} = true" for name in (*LOOSE, "allow_any_tcb", "allow_any_csp"))
    text = head.replace('products = ["Genoa"]', f'products = ["Milan", "Genoa", "Turin"]\n{loose}')
    start = text.index("[snp.minimum_tcb")
    (tmp_path / "policy.toml").write_text(text[:start])
    (tmp_path / "workload.json").write_bytes(bound().workload)
    assert rest
    return tmp_path / "policy.toml", tmp_path / "workload.json"


def test_from_policy_to_sealed_key(azure: Standin, tmp_path: Path) -> None:
    policy, workload = written(tmp_path)
    said = cloister(
        "azure", "policy", "-p", str(policy), *AUTHORITY, "--tcb", "10,0,23,84", "--workload", str(workload)
    )
    assert said.returncode == 0, said.stderr
    table = json.loads(said.stdout)
    assert table["version"] == "1.0.0"
    release = tmp_path / "release.json"
    release.write_text(said.stdout)
    made = cloister("azure", "key", azure.url, "model", "--release-policy", str(release))
    assert made.returncode == 0, made.stderr
    owned_pages(tmp_path)
    out = tmp_path / "sealed.azure"
    words = (
        made.stdout.strip(),
        str(tmp_path / "sealed"),
        "--expires",
        "2030-01-01T00:00:00Z",
        "--out",
        str(out),
    )
    done = cloister("azure", "seal", *words, "--data-key", str(tmp_path / "data.key"))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().count(b".") == 4
    assert read_data_key(tmp_path / "data.key") not in out.read_bytes()
    new_data_key(tmp_path / "other.key")
    wrong = cloister("azure", "seal", *words, "--data-key", str(tmp_path / "other.key"))
    assert wrong.returncode == 2 and "commitment" in wrong.stderr


def test_what_cannot_be_demanded_is_said_by_key(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    said = cloister("azure", "policy", "-p", str(tmp_path / "policy.toml"), *AUTHORITY)
    assert said.returncode == 2 and "[nvidia_gpu]" in said.stderr and "snp.allow_missing_crl" in said.stderr
    wrong = cloister("azure", "policy", "-p", str(tmp_path / "policy.toml"), *AUTHORITY, "--tcb", "1,2")
    assert wrong.returncode == 2 and "BL,TEE,SNP,UCODE" in wrong.stderr
