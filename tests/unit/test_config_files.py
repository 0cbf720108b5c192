"""Every configuration that the project ships is valid, and resolves to what was last looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.update import FOLDER, conf_files, golden, resolved


@pytest.mark.parametrize("file", conf_files(), ids=lambda file: file.stem)
def test_shipped_configuration_resolves_to_its_golden_form(file: Path) -> None:
    assert resolved(file) == golden(file).read_text(encoding="utf-8"), "run: python -m tests.golden.update"


def test_no_golden_form_without_a_configuration() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == {file.stem for file in conf_files()}
