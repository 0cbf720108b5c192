"""Collects the router's training labels: both demo models answer every question, one greedy answer each.

``python -m hybrid_batch.demo.labels`` writes data/labels.jsonl.  Minutes on a CPU; the file is kept in the
repository, so only a change of questions or models asks for another run.  The label made of it is ``det`` of the paper:
1 where the small model's answer is at least as good as the large one's.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from hybrid_batch.core.errors import EngineError, InputError
from hybrid_batch.demo.catalogue import LARGE, SMALL
from hybrid_batch.demo.checks import score
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.demo.questions import Question, all_questions
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EngineHandle, Sampling, ServerRecipe
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.vllm_server import attached, stop

DATA = Path(__file__).parent / "data"
LABELS = DATA / "labels.jsonl"
SAMPLING = Sampling(temperature=0.0, max_tokens=48)
_CONCURRENCY = 32


@dataclass(frozen=True)
class Label:
    """What both models made of one question.  ``q_*`` is 1.0 for a right answer, ``tokens_*`` its completion tokens.

    ``prompt_xxh3`` (hex) ties the row to the wording it was collected with.
    """

    query_id: str
    task: str
    split: str
    prompt_xxh3: str
    q_small: float
    q_large: float
    text_small: str
    text_large: str
    tokens_small: int
    tokens_large: int

    @property
    def det(self) -> int:
        """1 if the small model's answer is at least as good as the large one's, else 0."""
        return int(self.q_small >= self.q_large)


def collect(questions: Sequence[Question]) -> list[Label]:
    """Run both models on ``questions``.  Raises ``EngineError`` if one of them leaves a question unanswered."""
    small, large = (_answers(name, questions) for name in (SMALL, LARGE))
    return [_label(*row) for row in zip(questions, small, large, strict=True)]


def read_labels(path: Path = LABELS) -> list[Label]:
    """The collected labels, in the order of the questions.

    Raises ``InputError`` if they belong to other questions than :func:`all_questions` makes now.
    """
    labels = [Label(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    expected = [(question.query_id, question.split, prompt_hash(question)) for question in all_questions()]
    found = [(label.query_id, label.split, label.prompt_xxh3) for label in labels]
    if found != expected:
        odd = next((now[0] for now, then in zip(expected, found, strict=False) if now != then), "a question")
        raise InputError(f"{path}: collected with other questions ({odd} differs); collect the labels again")
    return labels


def write_labels_of(path: Path, split: str) -> int:
    """The collected labels of ``split`` as a labels table in JSON lines -> rows."""
    prompts = {question.query_id: question.prompt for question in all_questions()}
    rows = [
        {
            "query_id": label.query_id,
            "prompt": prompts[label.query_id],
            "task": label.task,
            "q_small": [label.q_small],
            "q_large": [label.q_large],
        }
        for label in read_labels()
        if label.split == split
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def prompt_hash(question: Question) -> str:
    """Hash of the prompt's wording, as hex."""
    return str(xxhash.xxh3_64_hexdigest(question.prompt.encode()))


def _answers(model: str, questions: Sequence[Question]) -> list[ChatAnswer]:
    began = time.monotonic()
    recipe = ServerRecipe(
        tier=model, model=str(ensure_model(model)), max_model_len=1024, max_num_seqs=_CONCURRENCY, dtype="bfloat16"
    )
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-labels-") as folder:
        home = Path(folder) / "engine"
        try:
            with attached(recipe, home, os.getpid(), Path(folder) / "logs") as handle:
                answers = asyncio.run(_ask_all(handle, questions))
        finally:
            stop(home)
    tokens = sum(answer.completion_tokens for answer in answers)
    print(f"{model}: {len(answers)} answers, {tokens} tokens ({time.monotonic() - began:.0f} s with loading)")
    return answers


async def _ask_all(handle: EngineHandle, questions: Sequence[Question]) -> list[ChatAnswer]:
    client = ChatClient(handle, concurrency=_CONCURRENCY, request_timeout_s=600.0)
    window = asyncio.Semaphore(_CONCURRENCY)
    ask = functools.partial(_ask, client, window)
    try:
        return list(await asyncio.gather(*map(ask, questions)))
    finally:
        await client.close()


async def _ask(client: ChatClient, window: asyncio.Semaphore, question: Question) -> ChatAnswer:
    async with window:
        answer = await client.answer(ChatRequest([{"role": "user", "content": question.prompt}], SAMPLING))
    if answer.text is None:
        raise EngineError(f"{question.query_id} got no answer: {answer.error_kind}: {answer.error_message}")
    return answer


def _label(question: Question, small: ChatAnswer, large: ChatAnswer) -> Label:
    return Label(
        query_id=question.query_id,
        task=question.task,
        split=question.split,
        prompt_xxh3=prompt_hash(question),
        q_small=score(small.text, question.answer, question.check),
        q_large=score(large.text, question.answer, question.check),
        text_small=small.text or "",
        text_large=large.text or "",
        tokens_small=small.completion_tokens,
        tokens_large=large.completion_tokens,
    )


def main() -> None:
    """Collect the labels of all questions and write them to the package's data folder."""
    labels = collect(all_questions())
    rows = [json.dumps(asdict(label), ensure_ascii=False) + "\n" for label in labels]
    DATA.mkdir(exist_ok=True)
    LABELS.write_text("".join(rows), encoding="utf-8")
    print(f"{LABELS}: {len(labels)} labels, {sum(label.det for label in labels)} of them 1")


if __name__ == "__main__":
    main()
