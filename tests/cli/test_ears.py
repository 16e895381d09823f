"""`cloister verify --ear-key` and `cloister ear show` as people use them."""

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.running import RunningWorker, cloister

KEY = ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    secret, public = tmp_path / "ear.pem", tmp_path / "ear.pub.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret.write_bytes(KEY.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(KEY.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def test_a_verdict_is_signed_shown_and_checked(
    worker: RunningWorker, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    secret, public = keys
    token = tmp_path / "verdict.jwt"
    policy = ("--policy", str(worker.policy_file))
    done = cloister("verify", worker.url, *policy, "--ear-key", str(secret), "--ear-out", str(token))
    assert done.returncode == 3 and "SIMULATED" in done.stdout, done.stderr
    claims = jwt.decode(token.read_text().strip(), KEY.public_key(), algorithms=["ES384"])
    assert set(claims["submods"]) >= {"bundle", "cpu0", "gpu0"}
    assert {item["ear_status"] for item in claims["submods"].values()} == {"contraindicated"}
    assert len(claims["eat_nonce"]) == 43
    shown = cloister("ear", "show", str(token), "--key", str(public))
    assert shown.returncode == 3 and "SIMULATED" in shown.stdout and "signature checked" in shown.stdout
    unchecked = cloister("ear", "show", token.read_text().strip())
    assert unchecked.returncode == 20
    assert "SIGNATURE NOT CHECKED" in unchecked.stdout.strip().splitlines()[-1]
    forged = cloister("ear", "show", token.read_text().strip()[:-8] + "AAAAAAAA", "--key", str(public))
    assert forged.returncode == 10 and "not signed by this key" in forged.stderr
    other = cloister("ear", "show", str(token), "--key", str(public), "--nonce", "00" * 32)
    assert other.returncode == 10 and "nonce" in other.stderr


def test_without_a_file_the_token_alone_is_on_stdout(worker: RunningWorker, keys: tuple[Path, Path]) -> None:
    done = cloister("verify", worker.url, "--policy", str(worker.policy_file), "--ear-key", str(keys[0]))
    assert done.returncode == 3
    assert done.stdout.count(".") == 2 and len(done.stdout.splitlines()) == 1
    assert "bundle.nonce" in done.stderr


def test_a_wrong_key_is_a_usage_error_before_anything_is_asked(
    keys: tuple[Path, Path], tmp_path: Path
) -> None:
    policy = tmp_path / "p.toml"
    policy.write_text("")
    arguments = ("verify", "http://127.0.0.1:9", "--policy", str(policy))
    public_only = cloister(*arguments, "--ear-key", str(keys[1]))
    assert public_only.returncode == 2 and "private key" in public_only.stderr
    assert "BEGIN" not in public_only.stderr and "Traceback" not in public_only.stderr
    assert cloister(*arguments, "--ear-out", str(tmp_path / "x")).returncode == 2
    assert cloister(*arguments, "--ear-key", str(tmp_path / "none.pem")).returncode == 2


def test_what_is_no_token_is_malformed(tmp_path: Path) -> None:
    garbage = tmp_path / "x.jwt"
    garbage.write_text("a.b.c")
    assert cloister("ear", "show", str(garbage)).returncode == 30
    assert cloister("ear", "show", str(tmp_path / "none.jwt")).returncode == 2
