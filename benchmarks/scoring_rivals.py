"""What the score stage is measured against: the bare encoder, sentence-transformers, Spark's own predict_batch_udf.

The first two run in processes of their own, which wait between their turns: ``python -m benchmarks.scoring_rivals
bare ENCODER QUERIES TOKENS BATCH THREADS`` reads a line, encodes all queries, and answers with the seconds it took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_batch.engines.head import load_head
from hybrid_batch.engines.surface import surface_features

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

ROOT = Path(__file__).resolve().parents[1]
UDF_BATCH = 32


class Crew:
    """Rivals that run at the same time, each with its share of the queries: as many processes as Spark has workers."""

    def __init__(self, rivals: Sequence[Rival]) -> None:
        self._rivals = rivals
        self.start_seconds = max(rival.start_seconds for rival in rivals)

    def run(self) -> float:
        """Seconds until the last of them is done."""
        with ThreadPoolExecutor(len(self._rivals)) as pool:
            began = time.perf_counter()
            list(pool.map(lambda rival: rival.run(), self._rivals))
            return time.perf_counter() - began

    def close(self) -> None:
        """End the processes."""
        for rival in self._rivals:
            rival.close()


class Rival:
    """A process that encodes the queries whenever it is asked, and says how long it took."""

    def __init__(self, kind: str, encoder: Path, queries: Path, tokens: int, *more: int) -> None:
        command = [sys.executable, "-m", "benchmarks.scoring_rivals", kind, encoder, queries, tokens, *more]
        self._process = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.start_seconds = self._answer()

    def run(self) -> float:
        """Seconds for all queries."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return float(json.loads(line))


def best_bare(encoder: Path, sample: Path, tokens: int, batches: Sequence[int], threads: Sequence[int]) -> tuple:
    """The batch size and number of threads at which the bare encoder is fastest on ``sample``."""
    seconds: dict[tuple[int, int], float] = {}
    for thread in threads:
        for batch in batches:
            rival = Rival("bare", encoder, sample, tokens, batch, thread)
            rival.run()
            seconds[batch, thread] = min(rival.run() for _ in range(2))
            rival.close()
    return min(seconds, key=lambda choice: seconds[choice])


def predict_udf(encoder: Path, head: Path, tokens: int, surface: bool) -> Callable[..., Column]:
    """``predict_batch_udf``, used as its documentation shows, that gives scores: the encoder, then the router's head.

    Workers that computed with it once keep the model for as long as they live.
    """
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import DoubleType

    folder, head_file = str(encoder), str(head)

    def load() -> Callable[[np.ndarray], np.ndarray]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        scores = load_head(Path(head_file), model.config.hidden_size, surface=surface)

        def predict(texts: np.ndarray) -> np.ndarray:
            batch = tokenizer(list(texts), padding=True, truncation=True, max_length=tokens, return_tensors="pt")
            with torch.no_grad():
                states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
            return scores.score(vectors, None, surface_features(list(texts)) if surface else None)

        return predict

    return predict_batch_udf(load, return_type=DoubleType(), batch_size=UDF_BATCH)


def run_udf(udf: Callable[..., Column], queries: DataFrame, output: Path) -> float:
    """Seconds in which ``udf`` scores all ``queries`` and Spark writes them as Parquet."""
    began = time.perf_counter()
    queries.select("query_id", "prompt", udf("prompt").alias("score")).write.mode("overwrite").parquet(str(output))
    return time.perf_counter() - began


def _bare(encoder: str, tokens: int, batch: int, threads: int) -> Callable[[list[str]], Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()

    def encode(texts: list[str]) -> np.ndarray:
        ids = tokenizer(texts, truncation=True, max_length=tokens)["input_ids"]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        vectors = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            padded = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            with torch.inference_mode():
                states = model(**padded).last_hidden_state
                mask = padded["attention_mask"].unsqueeze(-1)
                vectors[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
        return vectors

    return encode


def _sentence_transformers(encoder: str, tokens: int) -> Callable[[list[str]], Any]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    words = Transformer(encoder, max_seq_length=tokens)
    model = SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension()), Normalize()], device="cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


def main(kind: str, encoder: str, queries: str, *numbers: str) -> None:
    """Serve one rival until the input ends."""
    import pyarrow.parquet as pq
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    began = time.perf_counter()
    texts = pq.read_table(queries)["prompt"].to_pylist()
    makers = {"bare": _bare, "sentence-transformers": _sentence_transformers}
    encode = makers[kind](encoder, *map(int, numbers))
    encode(texts[:64])
    print(json.dumps(time.perf_counter() - began), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        encode(texts)
        print(json.dumps(time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
