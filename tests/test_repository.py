"""What the repository promises of itself: names in the wheel, documents that keep up."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import cloister
from enclave.configuration import SOFTWARE

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_installs_these_names_and_no_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    info = f"cloister-{cloister.__version__}.dist-info"
    assert tops == {"attestation", "sealing", "client", "enclave", "cloister", info}
    for needed in (
        "attestation/roots/simulator/amd/genoa_ark.pem",
        "enclave/simulator/INSECURE_genoa_ark.pem",
        "cloister/models/faq/model/model.safetensors",
        "cloister/models/faq/adapters/sailor/adapter_model.safetensors",
        "cloister/demo/parties/page/index.html",
        "cloister/demo/parties/page/page.js",
    ):
        assert needed in names


def test_every_row_of_the_threat_model_has_its_test() -> None:
    rows = re.findall(r"^\| ([A-Z]\d+) \|", (ROOT / "THREAT_MODEL.md").read_text(), re.MULTILINE)
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "attacks").glob("test_*.py"))
    tested = set(re.findall(r"def test_([a-z]\d+)_", tests))
    assert len(rows) == len(set(rows)) >= 18
    assert {row.lower() for row in rows} == tested


def test_the_measured_software_name_carries_the_version() -> None:
    assert f"cloister {cloister.__version__}" == SOFTWARE


def test_links_in_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_files_named_in_the_architecture_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for name in re.findall(r"[a-z_]+(?:/[a-z_]+)+\.py", text):
        assert (ROOT / name).exists(), name
