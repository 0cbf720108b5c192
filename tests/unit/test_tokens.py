"""Cutting texts to what an encoder reads, against the plain way: split all of it, then cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from hybrid_batch.engines.tokens import TRUNCATIONS, Tokens, Truncation

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "def f(x):\n    return x + 1",
    "Ünïcode 漢字 emoji 🙂",
    "a b c d e",
]
LONGEST = 12


def word_pieces() -> Tokenizer:
    """As BERT's: lower case, words, pieces, and a special token at each end."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_pairs() -> Tokenizer:
    """As RoBERTa's: bytes, and blanks that belong to the word behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def sentence_pieces() -> Tokenizer:
    """As DeBERTa's and T5's: a mark before each word, and no special tokens here."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>")
    )
    return tokenizer


MAKERS = {"word pieces": word_pieces, "byte pairs": byte_pairs, "sentence pieces": sentence_pieces}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("tokenizer")
    MAKERS[request.param]().save(str(place / "tokenizer.json"))
    return place


def plainly(folder: Path, text: str, truncation: Truncation) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    body = tokenizer.encode(text, add_special_tokens=False).ids
    around = tokenizer.encode("a").ids
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    room = LONGEST - (len(around) - len(bare))
    before = around[:1] if len(around) > len(bare) else []
    after = around[-1:] if len(around) > len(bare) else []
    if len(body) > room:
        half = room // 2
        body = {"head": body[:room], "tail": body[-room:], "both": body[: room - half] + body[len(body) - half :]}[
            truncation
        ]
    return [*before, *body, *after]


words = st.sampled_from(
    [
        "the",
        "fox",
        "x",
        "return",
        "漢字",
        "🙂",
        "Ü",
        "zzzzzz",
        "(x)",
        "\x0b",
        "\x1c",
        "\x85",
        "\u2003",
        "\n",
        "\t",
        "  ",
        "a" * 40,
    ]
)
texts = st.lists(words, max_size=120).map(" ".join)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts)
def test_a_long_text_is_cut_as_if_all_of_it_had_been_split(folder: Path, truncation: Truncation, text: str) -> None:
    assert Tokens(folder, LONGEST, truncation).ids([text]) == [plainly(folder, text, truncation)]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "fox " * 30_000,
        " " * 100_000 + "dog the quick " * 20,
        "fox  \n\n  " * 9_000 + "the end",
        "word\u00a0word\u3000" * 5_000,
    ],
)
def test_very_long_texts_too(folder: Path, truncation: Truncation, text: str) -> None:
    assert Tokens(folder, LONGEST, truncation).ids(["x", text]) == [
        plainly(folder, "x", truncation),
        plainly(folder, text, truncation),
    ]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("text", ["a" * 200_000, "漢" * 200_000, "fox" + " " * 100_000 + "dog", "x\u00a0" * 100_000])
def test_a_text_without_blanks_is_cut_all_the_same(folder: Path, truncation: Truncation, text: str) -> None:
    tokens = Tokens(folder, LONGEST, truncation)
    (ids,) = tokens.ids([text])
    assert 0 < len(ids) <= LONGEST
    assert tokens.ids([text, "x"])[0] == ids


def test_no_texts_have_no_ids(folder: Path) -> None:
    assert Tokens(folder, LONGEST).ids([]) == []


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_an_encoder_may_read_no_more_than_special_tokens(folder: Path, truncation: Truncation) -> None:
    around = len(Tokens(folder, 100).ids([""])[0])
    assert [len(row) for row in Tokens(folder, around, truncation).ids(["the quick brown fox"])] == [around]
