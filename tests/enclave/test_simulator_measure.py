"""What changes the measurement and what does not, on a copy of the packages and a small search path."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from attestation import Policy
from enclave.simulator.gpu import device_code, measurement_digest
from enclave.simulator.measure import Measurement, measure
from enclave.simulator.reference import policy_for
from enclave.simulator.sources import (
    MeasurementError,
    SearchPath,
    interpreter,
    interpreter_sources,
    site_sources,
)
from tests.enclave.simulation import Machine, copy_packages, failed, judge, policy, small_search_path

CONFIGURATION = {"software": "cloister test", "engine": {"dtype": "float32", "max_rows": 64}}


class Place:
    """One installation: packages, standard library and installed packages under one folder."""

    def __init__(self, folder: Path) -> None:
        self.root = copy_packages(folder / "checkout")
        self.search = small_search_path(folder)
        self.installed = self.search.sites[0]

    def measure(self, configuration: object = None) -> Measurement:
        table = CONFIGURATION if configuration is None else configuration
        assert isinstance(table, dict)
        return measure(table, root=self.root, search=self.search)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "one")


def append(path: Path, text: str = "# one line\n") -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_is_the_same_elsewhere_and_at_another_time(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "somewhere" / "else")
    for path in other.root.rglob("*.py"):
        os.utime(path, (1, 1))
    (other.installed / "torch" / "__pycache__").mkdir()
    (other.installed / "torch" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"bytecode")
    (other.root / "enclave" / "__pycache__").mkdir()
    (other.root / "enclave" / "__pycache__" / "identity.cpython-311.pyc").write_bytes(b"bytecode")
    (other.installed / "_editable_impl_cloister.pth").write_text(f"{other.root}\n")
    (other.installed / "cloister-0.1.0.dist-info").mkdir()
    (other.installed / "cloister-0.1.0.dist-info" / "RECORD").write_text("x,,\n")
    assert other.measure() == place.measure()
    assert len(place.measure().digest) == 48


@pytest.mark.parametrize(
    "name",
    [
        "attestation/verify.py",
        "attestation/roots/amd/milan_ark.pem",
        "sealing/hpke.py",
        "enclave/identity.py",
        "enclave/simulator/bootstrap.py",
        "cloister/__init__.py",
    ],
)
def test_one_line_of_a_package_changes_it(place: Place, name: str) -> None:
    before = place.measure()
    append(place.root / name)
    after = place.measure()
    assert after.digest != before.digest
    assert after.differences(before) == [f"packages/{name}"]


def test_a_new_file_in_a_package_changes_it(place: Place) -> None:
    before = place.measure()
    (place.root / "sealing" / "extra.py").write_text("")
    assert place.measure().differences(before) == ["packages/sealing/extra.py"]


@pytest.mark.parametrize(
    "change",
    [
        {"software": "cloister test", "engine": {"dtype": "float32", "max_rows": 63}},
        {"software": "cloister test", "engine": {"dtype": "bfloat16", "max_rows": 64}},
        {"software": "cloister test", "engine": {"dtype": "float32", "max_rows": 64}, "issuers": ["x"]},
        {},
    ],
)
def test_an_option_changes_it(place: Place, change: dict[str, object]) -> None:
    assert place.measure(change).differences(place.measure()) == ["configuration"]


def test_the_order_of_options_does_not(place: Place) -> None:
    turned = dict(reversed(CONFIGURATION.items()))
    assert place.measure(turned) == place.measure()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torch/__init__.py", "x = 1\n"),
        ("torch/lib/libtorch.so", "more"),
        ("torch-1.dist-info/RECORD", "torch/extra.py,sha256=c,3\n"),
        ("torch-1.dist-info/METADATA", "Version: 2\n"),
        ("other.pth", "import evil\n"),
        ("sitecustomize.py", "import evil\n"),
        ("usercustomize.py", "import evil\n"),
        ("evil.py", "dropped in\n"),
        ("evil.pyc", "a module without its source"),
    ],
)
def test_a_change_of_a_dependency_changes_it(place: Place, name: str, text: str) -> None:
    before = place.measure()
    append(place.installed / name, text)
    assert place.measure().differences(before) == [f"sites/0/{name}"]


def test_the_standard_library_changes_it(place: Place) -> None:
    before = place.measure()
    append(place.search.stdlib[0] / "os.py")
    assert place.measure().differences(before) == ["stdlib/0/os.py"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torch-1.dist-info/direct_url.json", "where it came from"),
        ("torch-1.dist-info/RECORD", "../../../bin/torchrun,sha256=its interpreter's path,12\n"),
        ("torch-1.dist-info/RECORD", "torch/__pycache__/x.cpython-311.pyc,,\n"),
        ("torch/include/torch.h", "int other;\n"),
    ],
)
def test_what_nothing_loads_does_not_change_it(place: Place, name: str, text: str) -> None:
    before = place.measure()
    append(place.installed / name, text)
    assert place.measure() == before


def test_a_link_counts_as_what_it_leads_to(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "linked"
    target.mkdir()
    (target / "code.py").write_text("x = 1\n")
    (place.installed / "linked").symlink_to(target)
    before = place.measure()
    append(target / "code.py")
    assert place.measure().differences(before) == ["sites/0/linked/code.py"]


def test_a_link_that_leads_back_is_an_error(place: Place) -> None:
    (place.installed / "torch" / "again").symlink_to(place.installed)
    with pytest.raises(MeasurementError):
        place.measure()


def test_a_missing_package_is_an_error(place: Place) -> None:
    (place.root / "sealing").rename(place.root / "unsealing")
    with pytest.raises(MeasurementError, match="sealing"):
        place.measure()


def edit_engine(place: Place) -> None:
    append(place.root / "enclave" / "engine" / "forward.py")


def edit_library(place: Place) -> None:
    append(place.installed / "torch" / "__init__.py")


def edit_gateway(place: Place) -> None:
    append(place.root / "enclave" / "gateway" / "app.py")


@pytest.mark.parametrize(
    ("edit", "changes"), [(edit_engine, True), (edit_library, True), (edit_gateway, False)]
)
def test_the_gpu_measures_the_code_that_runs_on_it(
    place: Place, edit: Callable[[Place], None], changes: bool
) -> None:
    before = measurement_digest(device_code(place.measure()))
    edit(place)
    assert (measurement_digest(device_code(place.measure())) != before) is changes


def test_a_client_that_pinned_the_old_code_refuses_the_new(place: Place) -> None:
    before = place.measure()
    pinned = policy(measurement=before.digest)
    assert judge(Machine(measurement=before.digest).bundle(), pinned).accepted
    append(place.root / "enclave" / "identity.py")
    refused = judge(Machine(measurement=place.measure().digest).bundle(), pinned)
    assert failed(refused) == {"snp.measurement"}


def test_the_policy_that_pins_it_parses_and_weakens_nothing() -> None:
    name = 'a "quoted" name \U0001f642 \x7f\n'
    text = policy_for(bytes(48), bytes(48), software=name, models=[bytes(32)], devices=2)
    rules = Policy.from_toml(text)
    assert rules.roots.simulated and "allow_" not in text
    assert rules.snp is not None and rules.snp.measurements == frozenset({bytes(48)})
    assert rules.nvidia_gpu is not None and rules.nvidia_gpu.count == 2
    assert rules.workload is not None and rules.workload.software == {name}


def test_this_interpreter_is_covered() -> None:
    measured = measure(CONFIGURATION)
    names = {entry.name for entry in measured.entries}
    assert {"python/executable", "python/version", "configuration"} <= names
    assert {"stdlib/0/json/__init__.py", "packages/enclave/simulator/measure.py"} <= names
    assert any(name.startswith("sites/0/rfc8785") and name.endswith("RECORD") for name in names)
    assert not any("__pycache__" in name for name in names)
    assert not any(name.startswith(("packages/cloister/models", "packages/client")) for name in names)
    assert Path(interpreter()).is_file()
    assert set(SearchPath.current().entries()) <= {*map(str, SearchPath.current().stdlib)} | {
        *map(str, SearchPath.current().sites)
    }


@pytest.mark.parametrize("name", ["pyvenv.cfg", "pybuilddir.txt"])
def test_a_file_that_would_redirect_the_interpreter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The worker runs the binary itself; such a file beside it would choose another standard library."""
    (tmp_path / "bin").mkdir()
    binary = tmp_path / "bin" / "python3"
    binary.write_bytes(b"machine code")
    monkeypatch.setattr("enclave.simulator.sources.interpreter", lambda: str(binary))
    assert next(source.name for source in interpreter_sources()) == "executable"
    (tmp_path / "bin" / name).write_text("home = /elsewhere")
    with pytest.raises(MeasurementError, match=name):
        list(interpreter_sources())


def test_entry_points_of_our_own_distribution_are_measured(tmp_path: Path) -> None:
    """Libraries call what entry points name; RECORD alone, which names places, is left out."""
    information = tmp_path / "cloister-0.1.0.dist-info"
    information.mkdir()
    for name in ("entry_points.txt", "METADATA", "RECORD", "direct_url.json"):
        (information / name).write_text(name)
    names = {source.name.rsplit("/", 1)[-1] for source in site_sources((tmp_path,))}
    assert names == {"entry_points.txt", "METADATA"}
