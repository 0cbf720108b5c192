"""Fine-tuning of a router's encoder end to end, in plain torch.

::

    tuned = fine_tune(encoder, learn, stop, FineTune(epochs=3), work, observer)
    tuned.encoder, tuned.head            # an encoder folder and a head, as every scorer loads them

Encoder, gate and experts learn together: the mixture's score against the label, the gate against the task, and two
helpers (dropped afterwards) against the quality of each model's answers.  Evaluations on ``stop`` rows, several in an
epoch, decide which weights are kept.  Batches and dropout depend on seed and step alone, so a training that was
interrupted comes to the same weights as one that was not (on a CPU, with as many threads).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.labels import Qualities
from hybrid_batch.core.progress import Observer
from hybrid_batch.engines.head import MixtureHead, load_head, save_head
from hybrid_batch.engines.router_card import ENCODER, ENCODER_FILES, HEAD, file_record
from hybrid_batch.engines.surface import VERSION, SurfaceScale, fit_scale, surface_features
from hybrid_batch.engines.tokens import Tokens, Truncation
from hybrid_batch.training.checkpoint import clear, read_json, write_json
from hybrid_batch.training.mixture import task_parts

if TYPE_CHECKING:
    from hybrid_batch.training.loop import Loop, Rows

AUTO, FLOAT32, BFLOAT16 = "auto", "float32", "bfloat16"
PRECISIONS: Final = (AUTO, FLOAT32, BFLOAT16)
TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "added_tokens.json"
)  # fmt: skip
_DONE: Final = "done.json"
_FORMAT: Final = 1
"""Number of the way trainings are made; a checkpoint made another way is not continued."""


@dataclass(frozen=True)
class FineTune:
    """How an encoder is fine-tuned.

    ``warmup`` is the share of the steps in which the rates rise; afterwards they fall to 0 by the last step.
    ``head_rate`` is the learning rate of gate, experts and helpers, ``layer_decay`` the factor by which each layer
    learns slower than the one above it, ``frozen_layers`` how many of the lowest stay as they are (with the
    embeddings).  ``evaluations`` are made in each epoch, and ``patience`` of them without a better one end the
    training.  ``gate_weight`` and ``quality_weight`` weigh the losses of the gate and of the helpers.  With ``surface``
    gate and experts read what a query looks like beside its vector (:mod:`hybrid_batch.engines.surface`).
    """

    epochs: int = 2
    learning_rate: float = 1e-4
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.1
    warmup: float = 0.1
    layer_decay: float = 1.0
    frozen_layers: int = 0
    batch_size: int = 32
    max_length: int = 128
    truncation: Truncation = "head"
    evaluations: int = 4
    patience: int = 4
    gate_weight: float = 1.0
    quality_weight: float = 1.0
    gradient_checkpointing: bool = False
    precision: str = AUTO
    seed: int = 0
    surface: bool = False


@dataclass(frozen=True)
class Examples:
    """n queries: ``prompts``, their ``tasks`` where known, ``targets`` float ``[n]`` in [0, 1], qualities ``q``."""

    prompts: Sequence[str]
    tasks: Sequence[str | None]
    targets: np.ndarray
    q: Qualities

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, index: np.ndarray) -> Examples:
        """The rows at ``index`` (int or bool ``[m]``)."""
        rows = np.arange(len(self))[index]
        prompts, tasks = [self.prompts[row] for row in rows], [self.tasks[row] for row in rows]
        return Examples(prompts, tasks, self.targets[rows], self.q.take(rows))


@dataclass(frozen=True)
class FineTuned:
    """What a fine-tuning came to: a folder of an ``encoder``, and the ``head`` on its unit vectors.

    ``names`` are the tasks of the head's parts, empty for a head of one part.  ``history`` has one entry for each
    evaluation: ``step``, ``epoch``, ``train`` (mean loss since the last one), and ``validation`` and ``apgr`` on the
    stop rows.  ``best_step`` of ``steps`` is the one whose weights these are.
    """

    encoder: Path
    head: MixtureHead
    names: tuple[str, ...]
    history: tuple[dict[str, Any], ...]
    best_step: int
    steps: int


def part_names(tasks: Sequence[str | None]) -> tuple[str, ...]:
    """Names of the parts of a head for ``tasks``; empty where tasks are too few, or have too few rows."""
    found = task_parts(tasks)
    return () if found is None else found[1]


def parts_of(tasks: Sequence[str | None], names: Sequence[str]) -> np.ndarray:
    """Part int ``[n]`` of each row; a task without a part of its own belongs to the last part, "" if there is one.

    Where there is none, it is -1: the gate learns nothing from such a row.
    """
    places = {name: number for number, name in enumerate(names)}
    other = places.get("", -1 if names else 0)
    return np.array([places.get(task or "", other) for task in tasks], dtype=np.int64)


def fine_tune(
    encoder: Path,
    learn: Examples,
    stop: Examples | None,
    options: FineTune,
    work: Path,
    observer: Observer,
    *,
    names: Sequence[str] | None = None,
    head: MixtureHead | None = None,
    until: float = 1.0,
    stage: str = "fine-tune",
) -> FineTuned:
    """Fine-tune the encoder in the folder ``encoder`` on ``learn`` -> its result, which lies in the folder ``work``.

    ``stop`` rows choose the best evaluation; without them the weights of the last step are kept.  ``names`` are the
    parts (from the tasks of ``learn`` if None), ``head`` is where gate and experts begin, ``until`` the share of the
    schedule after which to end.  A training that was interrupted in ``work`` goes on; a finished one is read.
    Raises ``ConfigError`` if torch is missing, the encoder cannot be read, or the loss is no longer a number.
    """
    parts = part_names(learn.tasks) if names is None else tuple(names)
    key = _fingerprint(encoder, learn, stop, options, parts, head, until)
    if (found := _finished(work, key)) is not None:
        observer.note(f"{stage}: finished earlier, in {work}")
        return found
    loop = _loop(encoder, learn, stop, options, parts, head, until)
    loop.run(work, key, observer, stage)
    _write(work, encoder, loop, {"key": key, "names": parts})
    clear(work)
    result = _finished(work, key)
    if result is None:
        raise ConfigError(f"{work}: what was just written there has been changed; nothing else may write to it")
    return result


def _loop(
    encoder: Path,
    learn: Examples,
    stop: Examples | None,
    options: FineTune,
    names: tuple[str, ...],
    head: MixtureHead | None,
    until: float,
) -> Loop:
    try:
        import torch

        from hybrid_batch.training.loop import Loop
        from hybrid_batch.training.network import RouterNetwork, freeze_below, load_trainable
    except ImportError as error:
        raise ConfigError(
            f"fine-tuning needs torch and transformers: {error}; pip install 'hybrid-batch[router]'"
        ) from None
    tokens = Tokens(encoder, options.max_length, options.truncation)
    torch.manual_seed(options.seed)
    model = load_trainable(encoder, options.dropout, options.gradient_checkpointing)
    scale = _scale(learn, head) if options.surface else None
    network = RouterNetwork(model, max(1, len(names)), head, scale)
    freeze_below(network, options.frozen_layers)
    both = [learn.q.mean_small, learn.q.mean_large]
    span = float(np.min(both)), float(np.max(both))
    rows = [None if one is None else _rows(one, tokens, names, span, scale) for one in (learn, stop)]
    assert rows[0] is not None
    return Loop(network, rows[0], rows[1], options, model.config.pad_token_id or 0, until)


def _scale(learn: Examples, head: MixtureHead | None) -> SurfaceScale:
    """That of the head to begin with, so that its weights mean what they meant; else that of the rows to learn from."""
    return head.scale if head is not None and head.scale is not None else fit_scale(surface_features(learn.prompts))


def _rows(
    examples: Examples,
    tokens: Tokens,
    names: Sequence[str],
    span: tuple[float, float],
    scale: SurfaceScale | None,
) -> Rows:
    from hybrid_batch.training.loop import Rows

    low, high = span
    both = np.stack([examples.q.mean_small, examples.q.mean_large], axis=1)
    return Rows(
        tokens.ids(examples.prompts),
        examples.targets,
        parts_of(examples.tasks, names),
        np.clip((both - low) / ((high - low) or 1.0), 0.0, 1.0),
        examples.q,
        None if scale is None else scale.apply(surface_features(examples.prompts)),
    )


def _write(work: Path, encoder: Path, loop: Loop, done: dict[str, Any]) -> None:
    """Encoder and head, then the record that they are complete."""
    from hybrid_batch.training.network import save_encoder

    save_encoder(loop.network.encoder, encoder, work / ENCODER)
    for name in TOKENIZER_FILES:
        if (encoder / name).is_file():
            shutil.copyfile(encoder / name, work / ENCODER / name)
    head = loop.network.head()
    save_head(work / HEAD, head)
    files = {name: asdict(file_record(work / name)) for name in _result_files()}
    told = {"history": loop.history, "best_step": loop.best_step or loop.step, "steps": loop.steps}
    read = {"dim": head.dim, "surface": head.scale is not None}
    write_json(work / _DONE, {**done, **told, **read, "files": files})


def _finished(work: Path, key: str) -> FineTuned | None:
    """The result in ``work`` if it is that of the training ``key``, and unchanged."""
    done = read_json(work / _DONE)
    if done is None or done.get("key") != key:
        return None
    for name, record in done["files"].items():
        if not (work / name).is_file() or asdict(file_record(work / name)) != record:
            return None
    names = tuple(done["names"])
    head = load_head(work / HEAD, done["dim"], surface=done["surface"])
    return FineTuned(work / ENCODER, head, names, tuple(done["history"]), done["best_step"], done["steps"])


def _result_files() -> list[str]:
    return [HEAD, *(f"{ENCODER}/{name}" for name in ENCODER_FILES)]


def _fingerprint(
    encoder: Path,
    learn: Examples,
    stop: Examples | None,
    options: FineTune,
    names: Sequence[str],
    head: MixtureHead | None,
    until: float,
) -> str:
    """Of all that decides the result: a checkpoint of anything else is not continued."""
    return fingerprint(
        {
            "format": [_FORMAT, VERSION],
            "encoder": {name: file_record(encoder / name).sha256 for name in ENCODER_FILES},
            "learn": _plain(learn),
            "stop": None if stop is None else _plain(stop),
            "options": asdict(options),
            "names": list(names),
            "head": None if head is None else [value.tobytes().hex() for value in head.tensors().values()],
            "until": until,
        }
    )


def _plain(rows: Examples) -> list[Any]:
    numbers = (rows.targets, rows.q.mean_small, rows.q.mean_large)
    return [list(rows.prompts), list(rows.tasks), *(value.tolist() for value in numbers)]
