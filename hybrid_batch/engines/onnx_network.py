"""A text encoder on ONNX Runtime, as `hybrid-batch export` makes it.  Needs neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from hybrid_batch.core.errors import ConfigError, EngineError
from hybrid_batch.engines.batches import BatchShape

INPUTS: Final = ("input_ids", "attention_mask")
OUTPUT: Final = "vectors"
_SHAPE: Final = BatchShape(tokens=0, alone=True)
"""A text by itself, at its own length: nothing is padded, and the scale that is found for 8-bit activations is the
text's own, whatever is beside it."""


class OnnxNetwork:
    """The graph in ``file``; :class:`hybrid_batch.engines.encoder.Network`.

    ``numbers`` is what it computes in, for :attr:`told`; ``threads`` bounds the threads of this process, None leaves
    them to the library.
    Raises ``ConfigError`` if ONNX Runtime is missing or cannot run the graph.
    """

    def __init__(self, file: Path, numbers: str, pad: int, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                f"{file}: an exported router needs onnxruntime: pip install 'hybrid-batch[onnx]', "
                "or set router.backend: torch"
            ) from error
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads or 0
        # Other workers want the cores that threads would only wait on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ConfigError(f"{file}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error
        names = {value.name for value in self._session.get_inputs()}
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        if names != set(INPUTS) or OUTPUT not in outputs:
            raise ConfigError(f"{file}: takes {sorted(names)} and gives {sorted(outputs)}; export the router again")
        self.dim = int(outputs[OUTPUT][1])
        self.pad = pad
        self.device = "cpu"
        self.told = f"onnx {numbers} on cpu"
        self.shape = _SHAPE

    def pooled(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[np.ndarray]:
        for ids, mask in batches:
            try:
                (vectors,) = self._session.run([OUTPUT], dict(zip(INPUTS, (ids, mask), strict=True)))
            except Exception as error:
                raise EngineError(f"ONNX Runtime failed: {str(error).splitlines()[0]}") from error
            yield vectors
