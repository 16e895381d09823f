"""Documents that their owner sealed: released, opened into memory, hashed here, and gone when they expire."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from client.artifacts.seal import seal
from enclave.artifacts.brokers import Brokers
from enclave.artifacts.sealed_files import ArtifactError
from enclave.artifacts.shelf import Found, Shelf
from enclave.documents.opening import find_documents, open_documents
from enclave.documents.shelf import Documents, Folder
from enclave.files import FilesError
from enclave.release import BrokerRefused
from sealing.artifact import Kind, ReleasedSecret, SignedManifest
from tests.artifacts.made import order, secret_for


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    (tmp_path / "plain" / "in").mkdir(parents=True)
    (tmp_path / "plain" / "in" / "a.txt").write_text("warfarin restarted\n\nsodium low")
    seal(order(tmp_path / "plain", kind=Kind.DOCUMENTS), tmp_path / "sealed")
    return tmp_path


def released(signed: SignedManifest) -> ReleasedSecret:
    return secret_for(signed, not_after=5000)


def shelf(releaser: Callable[[SignedManifest], ReleasedSecret] | None = released) -> Shelf:
    return Shelf(releaser, clock=lambda: 1000.0)


def test_sealed_and_plain_have_one_root_and_the_sealed_ones_an_owner_and_an_end(letters: Path) -> None:
    sealed = find_documents("letters", str(letters / "sealed"))
    plain = find_documents("letters", letters / "plain")
    assert sealed.root == plain.root == Documents.read(Folder(letters / "plain")).root
    assert (len(sealed.loaded.owner), plain.loaded.owner) == (64, "")
    opened = open_documents(sealed, shelf())
    assert opened.search("warfarin", 1)[0].passage.path == "in/a.txt"
    assert (opened.not_after, open_documents(plain, shelf(None)).not_after) == (5000, None)


def test_without_a_key_they_stay_shut(letters: Path) -> None:
    with pytest.raises(ArtifactError, match="--broker"):
        open_documents(find_documents("letters", str(letters / "sealed")), shelf(None))


def test_a_root_that_the_files_do_not_have_is_found_out(letters: Path) -> None:
    """For a model the owner's word stands; documents are small enough to be hashed."""
    for found in (
        find_documents("letters", str(letters / "sealed")),
        find_documents("letters", letters / "plain"),
    ):
        with pytest.raises(ArtifactError, match="not those with root"):
            open_documents(replace(found, root=b"\x01" * 32), shelf())


def test_what_changes_between_finding_and_reading_is_found_out(letters: Path) -> None:
    found: Found = find_documents("letters", letters / "plain")
    (letters / "plain" / "in" / "a.txt").write_text("something else")
    with pytest.raises(ArtifactError, match="not those with root"):
        open_documents(found, shelf())


def test_a_sealed_model_is_no_documents(letters: Path) -> None:
    (letters / "plain" / "config.json").write_text("{}")
    (letters / "plain" / "x.safetensors").write_bytes(b"x")
    seal(order(letters / "plain"), letters / "model")
    with pytest.raises(FilesError, match="holds a model, not documents"):
        find_documents("letters", str(letters / "model"))


@dataclass(frozen=True)
class Named:
    name: str


def test_each_owner_may_have_a_broker_of_its_own(letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not know the artifact is passed by; one that refuses has the last word."""
    asked: list[str] = []
    statuses = {"a": 404, "b": 404, "c": 0}

    def release(transport: Named, *_: object, **__: object) -> str:
        asked.append(transport.name)
        if statuses[transport.name]:
            raise BrokerRefused("no", broker=transport.name, status=statuses[transport.name])
        return "the secret"

    monkeypatch.setattr("enclave.artifacts.brokers.release", release)
    signed = find_documents("letters", str(letters / "sealed")).signed
    assert signed is not None
    brokers = Brokers(transports=[Named(n) for n in "abc"], attester=None)  # type: ignore[arg-type,list-item]
    assert brokers(signed) == "the secret"  # type: ignore[comparison-overlap]
    assert asked == ["a", "b", "c"]
    statuses["b"] = 403
    with pytest.raises(BrokerRefused) as caught:
        brokers(signed)
    assert caught.value.status == 403
    statuses.update(a=404, b=404, c=404)
    with pytest.raises(BrokerRefused):
        brokers(signed)
