"""BARTScore with a tiny random BART, against a slow computation that takes one token after the other."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.quality import Case, ScorerRecipe, build_scorer, check_recipe
from hybrid_batch.quality.base import OptionValue

WORDS = [f"w{number}" for number in range(40)]
WINDOW = 24
REFERENCE, PROMPT = "w1 w2 w3 w4", "w9 w8 w7"
ANSWERS = ["w1 w2 w3", "w5", "w1 w2 w3 w4 w5 w6 w7 w8 w9", "", "w30 w31 unknown"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a few thousand random weights with a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("bart")
    vocabulary = {word: place for place, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 16, "max_position_embeddings": WINDOW}
    config = BartConfig(vocab_size=len(vocabulary), init_std=0.8, **sizes)
    BartForConditionalGeneration(config).save_pretrained(path)
    return path


def scored(folder: Path, answers: list[str | None], **options: OptionValue) -> list[float | None]:
    recipe = ScorerRecipe.of("bartscore", model=str(folder), **options)
    with closing(build_scorer(recipe)) as scorer:
        [small], [large] = scorer.score([Case("q", PROMPT, REFERENCE)], [answers], [answers[::-1]])
    assert large == small[::-1]
    return small


def slow(folder: Path, source: str, target: str) -> float:
    """Mean log-probability of the target's tokens, each from a pass of its own over all tokens before it."""
    import torch
    from transformers import AutoTokenizer, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = BartForConditionalGeneration.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer(source)["input_ids"]])
    wanted = tokenizer(target)["input_ids"]
    before, total = [model.config.decoder_start_token_id], 0.0
    for token in wanted:
        with torch.no_grad():
            logits = model(input_ids=ids, decoder_input_ids=torch.tensor([before])).logits[0, -1].double()
        total += math.log(torch.softmax(logits, dim=0)[token].item())
        before.append(token)
    return total / len(wanted)


def test_the_direction_decides_what_follows_what(folder):
    precision = [slow(folder, REFERENCE, answer) for answer in ANSWERS]
    recall = [slow(folder, answer, REFERENCE) for answer in ANSWERS]
    assert scored(folder, ANSWERS) == pytest.approx(precision, abs=1e-4)
    assert scored(folder, ANSWERS, direction="answer_to_reference") == pytest.approx(recall, abs=1e-4)
    means = [(one + other) / 2 for one, other in zip(precision, recall, strict=True)]
    assert scored(folder, ANSWERS, direction="f") == pytest.approx(means, abs=1e-4)
    faithful = [slow(folder, PROMPT, answer) for answer in ANSWERS]
    assert scored(folder, ANSWERS, direction="prompt_to_answer") == pytest.approx(faithful, abs=1e-4)
    assert len({round(value, 3) for value in (*precision, *recall, *faithful)}) > len(ANSWERS) * 2
    assert max(precision) < 0


def test_a_quality_does_not_hang_on_its_batch(folder):
    answers: list[str | None] = [" ".join(WORDS[: 1 + number % 20]) for number in range(30)]
    alone = scored(folder, answers, batch_size=1)
    for size in (2, 7, 64):
        assert scored(folder, answers, batch_size=size) == pytest.approx(alone, abs=1e-5)


def test_failed_answers_have_no_quality(folder):
    first, second, third = scored(folder, ["w1", None, "w2"])
    assert second is None
    assert first is not None
    assert first != third


def test_long_texts_are_cut_to_the_window(folder):
    within = " ".join(WORDS[: WINDOW - 2])
    whole, cut = scored(folder, [f"{within} w39 w38 w37", within])
    assert whole == pytest.approx(cut, abs=1e-6)
    [shorter] = scored(folder, [within], max_length=8)
    assert shorter != pytest.approx(cut, abs=1e-3)


def test_only_the_query_needs_no_reference(folder):
    case = Case("q17", PROMPT, None)
    needed = pytest.raises(InputError, match=r"'q17' has no reference.*labels\.reference")
    with closing(build_scorer(ScorerRecipe.of("bartscore", model=str(folder)))) as scorer, needed:
        scorer.score([case], [["w1"]], [["w1"]])
    faithful = ScorerRecipe.of("bartscore", model=str(folder), direction="prompt_to_answer")
    with closing(build_scorer(faithful)) as scorer:
        [[quality]], _ = scorer.score([case], [["w1"]], [["w2"]])
    assert quality == pytest.approx(slow(folder, PROMPT, "w1"), abs=1e-4)


def test_a_folder_that_is_no_such_model_is_refused_unloaded(folder, tmp_path):
    def check(path: Path) -> None:
        check_recipe(ScorerRecipe.of("bartscore", model=str(path)))

    check(folder)
    with pytest.raises(ConfigError, match=r"is no folder of a model: it has no config\.json"):
        check(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors"):
        check(copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": False}))
    with pytest.raises(ConfigError, match="does not lead from one text to another"):
        check(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        check(copy)
