"""Encoders small enough to be trained in a test: random weights, a word tokenizer made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hybrid_batch.core.labels import Qualities
from hybrid_batch.training.finetune import Examples

DIM = 32
WORDS = ("add", "spell", "easy", "hard", *(f"word{number}" for number in range(40)))


def make_tiny_encoder(folder: Path, kind: str = "bert", seed: int = 0, layers: int = 2, hidden: int = DIM) -> Path:
    """Write a random encoder of ``kind`` (bert, roberta, deberta-v2) and its tokenizer to ``folder`` -> ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertModel,
        DebertaV2Config,
        DebertaV2Model,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaModel,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    vocabulary = {name: number for number, name in enumerate(("[PAD]", "[UNK]", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": len(vocabulary),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    if kind == "bert":
        model = BertModel(BertConfig(**sizes))
    elif kind == "roberta":
        model = RobertaModel(RobertaConfig(**sizes))
    else:
        # Relative positions as in the published large encoders.
        relative = {"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"]}
        model = DebertaV2Model(DebertaV2Config(**sizes, **relative, norm_rel_ebd="layer_norm"))
    model.save_pretrained(folder)
    return folder


def toy(rows: int = 128, seed: int = 0) -> Examples:
    """Two tasks; in one the small model is right where the query is easy, in the other where it is hard."""
    random = np.random.default_rng(seed)
    adds, easy = random.random(rows) < 0.5, random.random(rows) < 0.5
    prompts = [
        " ".join(
            ["add" if add else "spell", *random.choice(WORDS[4:], random.integers(2, 9)), "easy" if light else "hard"]
        )
        for add, light in zip(adds, easy, strict=True)
    ]
    small = (adds == easy).astype(float)
    q = Qualities(small[:, None], np.full((rows, 1), 0.9))
    return Examples(prompts, ["sum" if add else "spelling" for add in adds], small, q)
