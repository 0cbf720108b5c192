"""Which form of a router executors load: what the driver finds, what a plan keeps, what an executor insists on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.plan import Plan
from hybrid_batch.engines.base import ExportRef
from hybrid_batch.engines.exports import FOLDER, RECORD, Export
from hybrid_batch.engines.router_card import FORMAT, file_record
from hybrid_batch.routers import planned_recipe, require_planned, router_recipe, scorer_entry
from tests.support.paper_router import MEMBERS, NEEDED


@pytest.fixture
def router(tmp_path: Path) -> Path:
    """A router's card with files that only have names."""
    folder = tmp_path / "router"
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    document = {
        "format": FORMAT,
        "name": "paper",
        "label_kind": "det",
        "encoder": {"pooling": "mean", "normalize": True, "max_length": 8, "dim": 4},
        "members": MEMBERS,
        "files": {name: vars(file_record(folder / name)) for name in NEEDED},
    }
    (folder / "router.json").write_text(json.dumps(document))
    return folder


def exported(router: Path, numbers: str, fingerprint: str | None = None) -> Path:
    """Put a record of an export beside ``router`` -> its file."""
    card = hashlib.sha256((router / "router.json").read_bytes()).hexdigest()
    record = router / FOLDER / numbers / RECORD
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(Export(numbers, fingerprint or card, 0.02, 0.0, [("a", 0.5)], {}, {}).to_json())
    return record


def test_auto_takes_the_fastest_export_along(router: Path) -> None:
    assert router_recipe(str(router)).export is None
    exported(router, "fp32")
    found = router_recipe(str(router)).export
    assert found is not None
    assert found.numbers == "fp32"
    record = exported(router, "int8")
    assert router_recipe(str(router)).export == ExportRef("int8", hashlib.sha256(record.read_bytes()).hexdigest())
    assert router_recipe(str(router), "torch").export is None
    forced = router_recipe(str(router), "onnx-fp32").export
    assert forced is not None
    assert forced.numbers == "fp32"


@pytest.mark.parametrize("content", [b"rubbish", b'{"format": "hybrid-batch-export/9"}', None])
def test_an_export_that_is_none_of_this_router_is_passed_over_by_auto_alone(
    router: Path, content: bytes | None
) -> None:
    record = exported(router, "int8", "0" * 64)
    if content is not None:
        record.write_bytes(content)
    assert router_recipe(str(router)).export is None
    with pytest.raises(ConfigError, match="is not exported as int8; run: hybrid-batch export"):
        router_recipe(str(router), "onnx-int8")


@pytest.mark.parametrize("backend", ["auto", "torch", "torch-bf16", "onnx-int8"])
def test_a_plan_keeps_what_the_first_start_found(router: Path, backend) -> None:
    exported(router, "int8")
    recipe = router_recipe(str(router), backend)
    plan = Plan("r", "f", {"router": recipe.fingerprint}, (), 1, "now", {}, {}, scorer_entry(recipe))
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert planned_recipe(str(router), again) == recipe
    require_planned(router, recipe)


def test_an_export_that_was_replaced_is_told(router: Path) -> None:
    exported(router, "int8")
    recipe = router_recipe(str(router))
    record = exported(router, "int8")
    record.write_bytes(record.read_bytes() + b" ")
    with pytest.raises(ConfigError, match="is not the export that this run began with"):
        require_planned(router, recipe)
    record.unlink()
    with pytest.raises(ConfigError, match="is not the export that this run began with"):
        require_planned(router, recipe)


def test_another_router_or_none_is_told(router: Path, tmp_path: Path) -> None:
    recipe = router_recipe(str(router))
    for folder, wanted in ((router, replace(recipe, fingerprint="0" * 64)), (tmp_path / "empty", recipe)):
        with pytest.raises(ConfigError, match="is not the router that this run began with"):
            require_planned(folder, wanted)
