"""A router artefact small enough for any test: a two-layer random encoder with a real tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.head import save_head
from hybrid_batch.engines.router_card import CARD, ENCODER, FORMAT, HEAD, file_record
from tests.support.heads import linear_head

DIM = 32


def make_tiny_router(folder: Path, seed: int = 0) -> Path:
    """Write the artefact to ``folder`` -> ``folder``.  Scores are meaningless, spread out and repeatable."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = ensure_model("all-minilm-l6-v2")
    encoder = folder / ENCODER
    encoder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, encoder / name)
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=DIM, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=30522
    )
    BertModel(config).save_pretrained(encoder)
    save_head(folder / HEAD, linear_head((torch.randn(1, DIM) * 8).numpy(), 0.0))
    (folder / CARD).write_text(json.dumps(_card(folder)))
    return folder


def _card(folder: Path) -> dict:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    records = {str(path.relative_to(folder)): file_record(path) for path in files}
    return {
        "format": FORMAT,
        "name": "tiny",
        "created": "2026-01-01",
        "label_kind": "det",
        "encoder": {"source": "random", "pooling": "mean", "normalize": True, "max_length": 128, "dim": DIM},
        "members": [{"head": HEAD, "encoder": ENCODER}],
        "files": {name: {"sha256": record.sha256, "bytes": record.bytes} for name, record in records.items()},
        "pair": {"small": "none", "large": "none"},
        "training": {},
        "metrics": {},
        "versions": {},
    }
