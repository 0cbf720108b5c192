"""A text encoder on torch.  The only importer of torch on the hot path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.batches import BatchShape

Numbers = Literal["fp32", "bf16", "fp16"]

_CPU_SHAPE: Final = BatchShape(tokens=512, step=4)
"""A core is at its best from some hundred tokens on; more would only pad more."""
_GPU_SHAPE: Final = BatchShape(tokens=16_384, step=16)
_FIRST_BF16: Final = (8, 0)
_IN_FLIGHT: Final = 4
"""Batches whose vectors are still on the GPU: the next ones are queued before the first is fetched."""


class TorchNetwork:
    """``model`` (of ``transformers``) on ``device``; :class:`hybrid_batch.engines.encoder.Network`."""

    def __init__(self, model: Any, device: str, numbers: Numbers) -> None:
        self.model = model
        self.device = device
        self.dim = int(model.config.hidden_size)
        self.pad = int(model.config.pad_token_id or 0)
        self.told = f"torch {numbers} on {device.partition(':')[0]}"
        self.shape = _CPU_SHAPE if device == "cpu" else _GPU_SHAPE
        self._full_mask = model.config._attn_implementation == "sdpa"

    def pooled(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        waiting: list[tuple[Any, Any]] = []
        for ids, mask in batches:
            waiting.append(self._started(ids, mask))
            if self.device == "cpu" or len(waiting) > _IN_FLIGHT:
                yield _fetched(*waiting.pop(0))
        for vectors, ready in waiting:
            yield _fetched(vectors, ready)

    def _started(self, ids: np.ndarray, mask: np.ndarray) -> tuple[Any, Any]:
        """The vectors of a batch, on their way to the host, and the event that says that they are there."""
        import torch

        with torch.inference_mode():
            vectors = pooled(self.model, self._moved(ids), self._moved(mask), full_mask=self._full_mask)
            if self.device == "cpu":
                return vectors, None
            host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            host.copy_(vectors, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record(torch.cuda.current_stream(vectors.device))
            return host, ready

    def _moved(self, array: np.ndarray) -> Any:
        import torch

        tensor = torch.from_numpy(array)
        return tensor if self.device == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


def _fetched(vectors: Any, ready: Any) -> np.ndarray:
    if ready is not None:
        ready.synchronize()
    found: np.ndarray = vectors.numpy()
    return found


def pooled(model: Any, ids: Any, mask: Any, *, full_mask: bool = False) -> Any:
    """Mean over the tokens of the last layer, at length 1: tensor fp32 ``[rows, dim]``.  Also what is exported.

    With ``full_mask`` the model gets the mask as its attention uses it.  Given the plain one, it looks whether all
    rows are full and then computes without a mask, which gives other bits, and on a GPU waits for the answer.
    """
    import torch

    given = mask.bool()[:, None, None, :] if full_mask else mask
    states = model(input_ids=ids, attention_mask=given).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    means = (states * weights).sum(dim=1) / weights.sum(dim=1)
    return torch.nn.functional.normalize(means, dim=1)


def load_torch_network(
    folder: Path, threads: int | None = None, device: str | None = None, numbers: Numbers | None = None
) -> TorchNetwork:
    """The encoder in ``folder`` (safetensors).

    ``threads`` bounds torch's threads in this process; ``device`` is chosen if None (a GPU if there is one), and so are
    ``numbers``: fp32 on a CPU; on a GPU bf16, or fp16 where the GPU has no bf16.
    Raises ``ConfigError`` if torch is missing, or if this device has no such numbers.
    """
    try:
        import torch
        import transformers  # noqa: F401 - needed below, and missed here in one sentence
    except ImportError as error:
        raise ConfigError(
            f"a router on torch needs torch and transformers: {error}; pip install 'hybrid-batch[router]'"
        ) from None
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    numbers = numbers or _numbers_of(chosen)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if chosen == "cpu" and numbers == "fp16":
        raise ConfigError("fp16 is for GPUs; a CPU takes fp32 or bf16")
    return TorchNetwork(load_model(folder, dtype=kinds[numbers]).to(chosen), chosen, numbers)


def load_model(folder: Path, **options: Any) -> Any:
    """The encoder in ``folder`` as a module of ``transformers``, from safetensors, ready to be asked."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    return AutoModel.from_pretrained(folder, **safe, **options).eval()


def _numbers_of(device: str) -> Numbers:
    import torch

    if device == "cpu":
        return "fp32"
    # Older GPUs emulate bf16, and torch counts that as support.
    return "bf16" if torch.cuda.get_device_capability(device) >= _FIRST_BF16 else "fp16"
