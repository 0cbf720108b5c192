"""The loop of a fine-tuning: steps, evaluations, checkpoints.  Loads torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.nn import functional

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.metrics import apgr, cost_curve
from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.training.batches import Batch, by_length, epoch_order, padded
from hybrid_batch.training.checkpoint import Checkpoint, clear, load_checkpoint, save_checkpoint
from hybrid_batch.training.network import RouterNetwork, log_scores, parameter_groups, score_loss

if TYPE_CHECKING:
    from hybrid_batch.core.labels import Qualities
    from hybrid_batch.training.finetune import FineTune

NO_PART: Final = -1
_CLIP: Final = 1.0
"""Largest norm of a step's gradient."""


@dataclass(frozen=True)
class Rows:
    """n queries as a network takes them: token ids, ``targets`` ``[n]``, ``parts`` ``[n]`` (:data:`NO_PART` where there

    is none), ``qualities`` of both models in [0, 1] ``[n, 2]``, the qualities ``q`` that figures are made of, and
    scaled ``surface`` numbers ``[n, WIDTH]`` where heads read them.
    """

    tokens: Sequence[list[int]]
    targets: np.ndarray
    parts: np.ndarray
    qualities: np.ndarray
    q: Qualities
    surface: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.tokens])


class Loop:
    """One fine-tuning.  :meth:`run` brings ``network`` to its best weights; ``history`` says how."""

    def __init__(
        self, network: RouterNetwork, learn: Rows, stop: Rows | None, options: FineTune, pad: int, until: float
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = network.to(self.device)
        self.learn, self.stop, self.options, self.pad = learn, stop, options, pad
        self.optimizer = torch.optim.AdamW(parameter_groups(network, options))
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.per_epoch = math.ceil(len(learn.tokens) / options.batch_size)
        self.steps = self.per_epoch * options.epochs
        self.last = max(1, min(self.steps, round(until * self.steps)))
        self.step, self.best_step, self.best_loss, self.worse = 0, 0, math.inf, 0
        self.history: list[dict[str, Any]] = []
        self._best: dict[str, torch.Tensor] | None = None
        self._losses: list[float] = []

    def run(self, work: Path, key: str, observer: Observer, stage: str) -> None:
        """Train to the end, from the checkpoint in ``work`` where there is one of the training ``key``.

        Raises ``ConfigError`` once the loss is no longer a number.
        """

        def tell(line: str) -> None:
            observer.note(f"{stage}: {line}")

        self._resume(work, key, tell)
        clock = _Clock(stage, self.step)
        while self.step < self.last and not self._is_enough():
            self._losses.append(self._train(self._batch()))
            self.step += 1
            if clock.is_due() or self.step == self.last:
                observer.progress(clock.look(self.step, self.last, self.options.batch_size))
            if self._is_time():
                self._evaluate(tell)
                save_checkpoint(work, key, self._checkpoint())
        if self._best is not None:
            self._put(self._best)

    def _train(self, batch: Batch) -> float:
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)  # dropout depends on the step alone
        factor = _rate(self.step, self.steps, self.options.warmup)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, shown = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimizer.step()
        value = float(shown.detach())
        if not math.isfinite(value):
            raise ConfigError(
                f"finetune.learning_rate: the loss is {value} at step {self.step}; take a lower rate than "
                f"{self.options.learning_rate:g}, or precision float32"
            )
        return value

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """What is minimised, and the part of it that is the score's."""
        gate, expert, quality = self._forward(self.learn, batch)
        rows = batch.rows
        targets, parts, qualities = (
            self._tensor(self.learn.targets[rows]),
            torch.from_numpy(self.learn.parts[rows]).to(self.device),
            self._tensor(self.learn.qualities[rows]),
        )
        score = score_loss(gate, expert, targets).mean()
        loss = score + self.options.quality_weight * functional.binary_cross_entropy_with_logits(quality, qualities)
        if gate.shape[1] > 1 and bool((parts != NO_PART).any()):
            told = functional.cross_entropy(gate, parts, ignore_index=NO_PART)
            loss = loss + self.options.gate_weight * told
        return loss, score

    def _forward(self, rows: Rows, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids, mask = (torch.from_numpy(value).to(self.device) for value in (batch.ids, batch.mask))
        surface = None if rows.surface is None else self._tensor(rows.surface[batch.rows])
        with self._precision():
            found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = self.network(ids, mask, surface)
            return found

    def _precision(self) -> AbstractContextManager[Any]:
        asked = self.options.precision
        half = asked == "bfloat16" or (asked == "auto" and self.device == "cuda" and torch.cuda.is_bf16_supported())
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=half)

    def _batch(self) -> Batch:
        epoch, place = divmod(self.step, self.per_epoch)
        order = epoch_order(self.learn.lengths, self.options.batch_size, self.options.seed, epoch)
        return padded(self.learn.tokens, order[place], self.pad, self.options.max_length)

    def _is_time(self) -> bool:
        """Whether an evaluation is due after :attr:`step` steps; always after the last one."""
        every = max(1, round(self.per_epoch / self.options.evaluations))
        return self.step % every == 0 or self.step == self.last

    def _is_enough(self) -> bool:
        return self.stop is not None and self.worse >= self.options.patience

    def _evaluate(self, tell: Callable[[str], None]) -> None:
        entry: dict[str, Any] = {"step": self.step, "epoch": round(self.step / self.per_epoch, 3)}
        entry["train"] = round(float(np.mean(self._losses)), 6)
        self._losses = []
        if self.stop is not None:
            yes, no = self._log_scores(self.stop)
            loss = float(-(self.stop.targets * yes + (1 - self.stop.targets) * no).mean())
            found = apgr(cost_curve(np.exp(yes), self.stop.q))
            entry |= {"validation": round(loss, 6), "apgr": None if math.isnan(found) else round(found, 4)}
            self._compare(loss)
        self.history.append(entry)
        said = [f"{name} {value:.4f}" for name, value in entry.items() if name not in ("step", "epoch") and value]
        best = ", best so far" if self.stop is not None and self.best_step == self.step else ""
        tell(f"step {self.step:,} of {self.last:,}, epoch {entry['epoch']:.2f}: {', '.join(said)}{best}")

    def _compare(self, loss: float) -> None:
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, self.step, 0
            self._best = {name: one.detach().cpu().clone() for name, one in self._trained()}
        else:
            self.worse += 1

    def _log_scores(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of the scores of ``rows`` and of one minus them, float64 ``[n]`` each, without dropout."""
        found = np.empty((2, len(rows.tokens)))
        self.network.eval()
        with torch.inference_mode():
            for places in by_length(rows.lengths, self.options.batch_size * 2):
                batch = padded(rows.tokens, places, self.pad, self.options.max_length)
                gate, expert, _ = self._forward(rows, batch)
                found[:, places] = torch.stack(log_scores(gate, expert)).cpu().numpy()
        return found[0], found[1]

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, one) for name, one in self.network.named_parameters() if one.requires_grad]

    def _put(self, weights: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained():
                parameter.copy_(weights[name])

    def _checkpoint(self) -> Checkpoint:
        tensors = {f"weight.{name}": one for name, one in self._trained()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        fields = {
            "step": self.step,
            "best_step": self.best_step,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "worse": self.worse,
            "history": self.history,
        }
        return Checkpoint(fields, tensors, self._best)

    def _resume(self, work: Path, key: str, tell: Callable[[str], None]) -> None:
        found = load_checkpoint(work, key)
        if found is None:
            clear(work)
            return
        fields = found.fields
        self.step, self.best_step, self.worse = fields["step"], fields["best_step"], fields["worse"]
        self.best_loss = math.inf if fields["best_loss"] is None else fields["best_loss"]
        self.history, self._best = list(fields["history"]), None if found.best is None else dict(found.best)
        self._put({name.removeprefix("weight."): one for name, one in found.tensors.items()})
        state: dict[int, dict[str, Any]] = {}
        for name, value in found.tensors.items():
            if name.startswith("optimizer."):
                _, number, field = name.split(".")
                state.setdefault(int(number), {})[field] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        tell(f"goes on from step {self.step:,} of {self.last:,}")

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self.device)


class _Clock:
    """Looks at a training about once a second."""

    def __init__(self, stage: str, before: int) -> None:
        self._stage, self._before = stage, before
        self._began = self._looked = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._looked >= 1.0

    def look(self, step: int, last: int, batch_size: int) -> Progress:
        self._looked = time.monotonic()
        rows = (step * batch_size, last * batch_size)
        return Progress(self._stage, *rows, self._looked - self._began, rows_before=self._before * batch_size)


def _rate(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rates: up in a straight line for the first ``warmup`` of the steps, then down to 0."""
    rising = max(1.0, warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return max(0.0, (steps - step) / max(1.0, steps - rising))
