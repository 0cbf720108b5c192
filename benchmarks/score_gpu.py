"""`make bench-score-gpu`: the scorer on a GPU beside the bare forward pass of its encoder and a plain matrix product.

Encoders of two sizes with random weights (speed does not ask for trained ones), in 16 bits, on texts of given and of
mixed lengths.  The scorer gets Arrow batches and gives Arrow batches, without Spark: guard, tokens, batches, encoder,
head.  The bare forward pass gets ids that lie on the device already, sorted, at the best of several batch sizes.  The
tokenizer splits at blanks, and is cheaper than a real one.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model

from hybrid_batch.engines.encoder import Encoder
from hybrid_batch.engines.head import MixtureHead
from hybrid_batch.engines.router import RouterScorer
from hybrid_batch.engines.router_card import Member, RouterCard
from hybrid_batch.engines.tokens import Tokens
from hybrid_batch.engines.torch_network import Numbers, TorchNetwork, pooled
from hybrid_batch.stages.guard import guard
from hybrid_batch.stages.score import score_batches
from hybrid_batch.tables import SCORED

WORDS: Final = 2000
LONGEST: Final = 512
MIXED: Final = "mixed"
BARE_BUDGETS: Final = (4_096, 16_384, 65_536)
"""Tokens of a batch that are tried for the bare forward pass."""
BATCH_ROWS: Final = 4096
READ: Final = pa.schema([field for field in SCORED if field.name != "score"])


@dataclass(frozen=True)
class Size:
    """An encoder's measures; ``kind`` is bert or deberta-v2."""

    kind: str
    layers: int
    hidden: int
    heads: int
    inner: int

    def flops(self, tokens: int) -> float:
        """Floating-point operations for one text: two for each weight of the layers and each pair in attention."""
        weights = self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.inner)
        return 2 * tokens * (weights + 2 * self.layers * tokens * self.hidden)


SIZES: Final = {
    "DeBERTa-v3-large": Size("deberta-v2", 24, 1024, 16, 4096),
    "MiniLM": Size("bert", 6, 384, 12, 1536),
    "tiny": Size("bert", 2, 32, 2, 64),
}


def main() -> None:
    asked = _arguments()
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    numbers: Numbers = "bf16"
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "a CPU, for a trial only"
    peak = _product_flops(device, 512 if device == "cpu" else 8192)
    print(f"{name}: a product of large {numbers} matrices reaches {peak / 1e12:.1f} TFLOP/s")
    print(f"\n{'':<18}{'tokens':>7}{'scorer, queries/s':>20}{'bare forward':>15}{'ratio':>8}{'of the product':>17}")
    rows = []
    for size in asked.sizes:
        network = TorchNetwork(_model(SIZES[size]).to(torch.bfloat16).to(device), device, numbers)
        for tokens in [*asked.tokens, MIXED]:
            lengths = _lengths(tokens, asked.queries)
            found = _measured(network, SIZES[size], lengths, asked.rounds, peak)
            rows.append({"encoder": size, "tokens": tokens, **found})
            print(
                f"{size:<18}{tokens:>7}{found['scorer_per_s']:>20,.0f}{found['bare_per_s']:>15,.0f}"
                f"{found['vs_bare']:>8.2f}{found['of_product']:>17.1%}",
                flush=True,
            )
    print("\n" + json.dumps({"device": name, "product_tflops": round(peak / 1e12, 1), "rows": rows}))


def _measured(network: TorchNetwork, size: Size, lengths: np.ndarray, rounds: int, peak: float) -> dict[str, float]:
    count = len(lengths)
    with tempfile.TemporaryDirectory() as temporary:
        encoder = Encoder(network, _tokens(Path(temporary), LONGEST))
    scorer = _scorer(encoder, network.dim)
    batches = list(_batches(lengths))

    def ours() -> None:
        for _ in score_batches((guard(one, 1 << 20) for one in batches), scorer, SCORED):
            pass

    bares = [_bare(network, lengths, budget) for budget in BARE_BUDGETS]
    for one in (ours, *bares):
        one()
    bare = min(bares, key=_seconds)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        seconds["ours"].append(_seconds(ours))
        seconds["bare"].append(_seconds(bare))
    per_s = {name: count / float(np.median(values)) for name, values in seconds.items()}
    return {
        "scorer_per_s": round(per_s["ours"], 1),
        "bare_per_s": round(per_s["bare"], 1),
        "vs_bare": round(float(np.median(np.array(seconds["bare"]) / np.array(seconds["ours"]))), 3),
        "of_product": round(float(np.mean([size.flops(tokens) for tokens in lengths])) * per_s["ours"] / peak, 4),
    }


def _bare(network: TorchNetwork, lengths: np.ndarray, budget: int) -> Callable[[], None]:
    """The forward pass alone over texts of ``lengths``, sorted, in batches of ``budget`` tokens."""
    batches, ordered = [], np.sort(lengths)[::-1]
    start = 0
    while start < len(ordered):
        width = int(ordered[start])
        rows = ordered[start : start + max(1, budget // width)]
        ids = torch.randint(2, WORDS, (len(rows), width), device=network.device)
        mask = torch.arange(width)[None, :] < torch.from_numpy(rows.copy())[:, None]
        batches.append((ids, mask.long().to(network.device)))
        start += len(rows)

    def run() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                pooled(network.model, ids, mask)

    return run


def _seconds(work: Callable[[], Any]) -> float:
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _product_flops(device: str, side: int) -> float:
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    right = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    left @ right
    times = [_seconds(lambda: [left @ right for _ in range(10)]) / 10 for _ in range(3)]
    return 2 * side**3 / min(times)


def _model(size: Size) -> Any:
    measures = {
        "vocab_size": WORDS,
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.inner,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }
    if size.kind == "bert":
        return BertModel(BertConfig(**measures)).eval()
    relative = {"relative_attention": True, "position_buckets": 256, "pos_att_type": ["p2c", "c2p"]}
    return DebertaV2Model(DebertaV2Config(**measures, **relative, norm_rel_ebd="layer_norm")).eval()


def _tokens(folder: Path, longest: int) -> Tokens:
    """A tokenizer that makes one token of each word."""
    words = Tokenizer(models.WordLevel({_word(number): number for number in range(WORDS)}, unk_token=_word(1)))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return Tokens(folder, longest)


def _word(number: int) -> str:
    return f"word{number}"


def _lengths(tokens: int | str, count: int) -> np.ndarray:
    """Tokens of each text: all alike, or mixed as in public routing sets, half of them below 57."""
    if isinstance(tokens, int):
        return np.full(count, tokens)
    return np.clip(np.random.default_rng(0).lognormal(4.04, 0.9, count), 5, LONGEST).astype(np.int64)


def _batches(lengths: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Different texts of as many words, in batches as the job reads them."""
    random = np.random.default_rng(0)
    for start in range(0, len(lengths), BATCH_ROWS):
        rows = [
            {
                "query_id": str(start + number),
                "prompt": " ".join(map(_word, random.integers(2, WORDS, tokens))),
                "source_file": "none",
                "source_row": start + number,
            }
            for number, tokens in enumerate(lengths[start : start + BATCH_ROWS])
        ]
        yield pa.RecordBatch.from_pylist(rows, schema=READ)


def _scorer(encoder: Encoder, dim: int) -> RouterScorer:
    random = np.random.default_rng(0)
    head = MixtureHead(*(random.normal(size=shape) for shape in ((8, dim), 8, (8, dim), 8)))
    member = Member("head.safetensors", "encoder", False)
    card = RouterCard("bench", "det", dim, LONGEST, "head", 1, (member,), (), {}, {}, "")
    return RouterScorer(card, {"encoder": encoder}, [(member, head)], remember=0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["DeBERTa-v3-large", "MiniLM"])
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 64, 128, 512], metavar="N")
    parser.add_argument("--queries", type=int, default=50_000, metavar="N", help="queries of each length [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each [%(default)s]")
    parser.add_argument("--device", metavar="D", help="torch device [cuda, if there is one]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
