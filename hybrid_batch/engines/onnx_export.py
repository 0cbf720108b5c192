"""From a text encoder on torch to a graph for ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hybrid_batch.engines.onnx_network import INPUTS, OUTPUT
from hybrid_batch.engines.torch_network import load_model, pooled

PACKAGES: Final = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
"""What an export needs, and what its record gives the versions of."""

_TRACED_SHAPE: Final = (2, 16)
_TRACED_IDS: Final = 11
"""Every vocabulary has as many."""


def export_graph(encoder: Path, target: Path, numbers: str) -> None:
    """Write the encoder in folder ``encoder``, pooling included, to the file ``target``.

    ``numbers`` is ``fp32``, or ``int8``: weights of the matrix products as 8-bit integers with a scale for each
    column, activations as 8-bit integers with a scale found when the graph runs; all else stays fp32.  The weights use
    7 of the 8 bits, so that processors without 8-bit dot products, whose sums would overflow, find the same numbers.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written out, attention is several plain products, which are faster here than what is made of the fused one.
    model = load_model(encoder, attn_implementation="eager").float()
    with _quiet():
        if numbers == "fp32":
            _trace(model, target)
            return
        plain = target.with_suffix(".fp32.onnx")
        _trace(model, plain)
        _quantise(plain, target)
        plain.unlink()


def _trace(model: Any, target: Path) -> None:
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any) -> Any:
            return pooled(self.model, ids, mask)

    ids = torch.arange(_TRACED_SHAPE[0] * _TRACED_SHAPE[1]).reshape(_TRACED_SHAPE) % _TRACED_IDS
    mask = torch.ones_like(ids)
    mask[1, _TRACED_SHAPE[1] // 2 :] = 0
    free = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    torch.onnx.export(
        Pooled(),
        (ids, mask),
        str(target),
        input_names=list(INPUTS),
        output_names=[OUTPUT],
        dynamic_shapes=(free, free),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        op_types_to_quantize=["MatMul"],
        extra_options={"MatMulConstBOnly": True},
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own insides, which no user can act on."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
