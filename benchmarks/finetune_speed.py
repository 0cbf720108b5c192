"""``python -m benchmarks.finetune_speed --layers 24 --hidden 1024``: how fast an encoder of a size is fine-tuned here.

The encoder (DeBERTa-v2) has random weights and the text is made up: this measures time and memory, and looks whether
the loss falls, and says nothing about routing.  The last line is JSON with all figures.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from hybrid_batch.core.labels import Qualities
from hybrid_batch.core.progress import Progress
from hybrid_batch.training.finetune import PRECISIONS, Examples, FineTune, fine_tune

WORDS = tuple(f"word{number}" for number in range(1000))


class Printer:
    """An observer that keeps when steps were looked at."""

    def __init__(self) -> None:
        self.looks: list[Progress] = []

    def note(self, message: str) -> None:
        print(message, flush=True)

    def progress(self, progress: Progress) -> None:
        self.looks.append(progress)


def make_encoder(folder: Path, layers: int, hidden: int, vocabulary: int) -> Path:
    """A random DeBERTa-v2 of the published large encoders' shape, and a word tokenizer, in ``folder``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import DebertaV2Config, DebertaV2Model, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({name: n for n, name in enumerate(("[PAD]", "[UNK]", *WORDS))}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=max(1, hidden // 64),
        intermediate_size=4 * hidden, relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    DebertaV2Model(config).save_pretrained(folder, max_shard_size="1TB")
    return folder


def make_rows(rows: int, tokens: int) -> Examples:
    """Queries of ``tokens`` words, of two tasks; the small model is right where the second word is an early one."""
    random = np.random.default_rng(0)
    words = random.integers(0, len(WORDS), (rows, tokens))
    words[:, 0] = random.integers(0, 2, rows)
    right = (words[:, 1] < len(WORDS) // 2).astype(float)
    prompts = [" ".join(WORDS[word] for word in row) for row in words]
    q = Qualities(right[:, None], np.full((rows, 1), 0.9))
    return Examples(prompts, [f"task {row[0]}" for row in words], right, q)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune_speed", description=__doc__)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=64, help="width; a multiple of 64")
    parser.add_argument("--vocabulary", type=int, default=128_100, help="rows of the embedding table")
    parser.add_argument("--tokens", type=int, default=128, help="of each query")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    asked = parser.parse_args(arguments)
    options = FineTune(
        epochs=asked.epochs, learning_rate=asked.learning_rate, batch_size=asked.batch_size, max_length=asked.tokens,
        evaluations=2, precision=asked.precision, gradient_checkpointing=asked.gradient_checkpointing,
    )  # fmt: skip
    observer = Printer()
    with tempfile.TemporaryDirectory() as folder:
        encoder = make_encoder(Path(folder) / "encoder", asked.layers, asked.hidden, asked.vocabulary)
        began = time.monotonic()
        found = fine_tune(encoder, make_rows(asked.rows, asked.tokens), None, options, Path(folder) / "work", observer)
        seconds = time.monotonic() - began
        megabytes = sum(file.stat().st_size for file in encoder.iterdir()) / 1e6
    print(json.dumps(vars(asked) | figures(observer, found.history, seconds) | {"encoder_mb": round(megabytes, 1)}))
    return 0


def figures(observer: Printer, history: tuple[dict[str, float], ...], seconds: float) -> dict[str, object]:
    """Queries a second between the first look and the last (checkpoints included), memory, losses."""
    first, last = observer.looks[0], observer.looks[-1]
    rate = last.rows_per_second
    if last.done_rows > first.done_rows:
        rate = (last.done_rows - first.done_rows) / (last.elapsed_seconds - first.elapsed_seconds)
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "queries_per_second": round(rate, 2),
        "seconds_with_checkpoints": round(seconds, 1),
        "gpu_peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
        "process_peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "losses": [entry["train"] for entry in history],
    }


if __name__ == "__main__":
    sys.exit(main())
