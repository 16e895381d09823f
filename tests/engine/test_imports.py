"""The worker's side of the engine starts without torch."""

import subprocess
import sys


def test_interface_runner_text_and_hashes_import_no_torch() -> None:
    engine = ["interface", "runner", "scheduler", "grammar", "held_files"]
    modules = ", ".join(
        [*(f"enclave.engine.{name}" for name in engine), "enclave.text", "enclave.model_files"]
    )
    check = f"import sys, {modules}; print(sorted({{'torch', 'transformers', 'peft'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
