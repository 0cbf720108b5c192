"""The configuration of ``hybrid-batch train``: closed sections, checked like those of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hybrid_batch.config.fields import (
    LOCATION,
    POSITIVE_INT,
    SHARE,
    TEXT,
    Int,
    Location,
    Number,
    PositiveInt,
    Section,
    Text,
)
from hybrid_batch.config.loading import load_as
from hybrid_batch.engines.tokens import TRUNCATIONS, Truncation

WHOLE = "a whole number of at least 0"
RATE = "a number above 0, such as 3e-5"


class RouterOutput(Section):
    """What the router is called and where it goes."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="letters, digits, '.', '_' and '-'")
    ]
    output: Annotated[Location, Field(description=f"{LOCATION} of the router folder to make")]


class LabelsSection(Section):
    """What it learns from."""

    path: Annotated[Location, Field(description=f"{LOCATION} of a labels table")]
    kind: Annotated[Literal["det", "prob", "trans", "gain"], Field(description="det, prob, trans or gain")] = "gain"
    validation: Annotated[Number, Field(ge=0.05, le=0.5, description="a number from 0.05 to 0.5")] = 0.2
    use_tasks: Annotated[bool, Field(description="true or false")] = True


class EncoderSection(Section):
    """What turns a query into a vector."""

    model: Annotated[Location | None, Field(description="a folder of a text encoder (safetensors, fast tokenizer)")] = (
        None
    )
    max_length: Annotated[PositiveInt, Field(description=f"{POSITIVE_INT} (tokens)")] = 256
    truncation: Annotated[Truncation, Field(description=f"one of {', '.join(TRUNCATIONS)}")] = "head"
    models_per_gpu: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 1


class HeadSection(Section):
    """What turns a vector into a score."""

    members: Annotated[
        tuple[Literal["auto", "tasks", "clusters", "one"], ...],
        Field(description="a list of auto, tasks, clusters and one"),
    ] = ("auto",)
    clusters: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 24
    seed: Annotated[Int, Field(ge=0, description=WHOLE)] = 0
    surface: Annotated[bool, Field(description="true or false")] = True


class FineTuneSection(Section):
    """How encoders are trained too, after the heads on the encoder as it is."""

    epochs: Annotated[Int, Field(ge=0, description=f"{WHOLE}; 0 leaves the encoder as it is")] = 0
    members: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 1
    learning_rate: Annotated[Number, Field(gt=0, le=0.01, description=RATE)] = 1e-4
    head_rate: Annotated[Number, Field(gt=0, le=0.1, description=RATE)] = 1e-3
    weight_decay: Annotated[Number, Field(ge=0, le=1, description=SHARE)] = 0.01
    dropout: Annotated[Number, Field(ge=0, lt=1, description="a number from 0 to below 1")] = 0.1
    warmup: Annotated[Number, Field(ge=0, lt=1, description="a number from 0 to below 1")] = 0.1
    layer_decay: Annotated[Number, Field(gt=0, le=1, description="a number above 0, up to 1")] = 1.0
    frozen_layers: Annotated[Int, Field(ge=0, description=WHOLE)] = 0
    batch_size: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 32
    max_length: Annotated[PositiveInt, Field(description=f"{POSITIVE_INT} (tokens)")] = 128
    evaluations: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 4
    patience: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 4
    stop: Annotated[Number, Field(ge=0.02, le=0.5, description="a number from 0.02 to 0.5")] = 0.1
    refit: Annotated[bool, Field(description="true or false")] = True
    gate_weight: Annotated[Number, Field(ge=0, description="a number of at least 0")] = 1.0
    quality_weight: Annotated[Number, Field(ge=0, description="a number of at least 0")] = 1.0
    gradient_checkpointing: Annotated[bool, Field(description="true or false")] = False
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Field(description="auto, float32 or bfloat16")] = (
        "auto"
    )
    seed: Annotated[Int, Field(ge=0, description=WHOLE)] = 0
    surface: Annotated[bool, Field(description="true or false")] = False
    warm_start: Annotated[bool, Field(description="true or false")] = False


class PairSection(Section):
    """Names of both models, for the card."""

    small: Annotated[Text, Field(description=TEXT)]
    large: Annotated[Text, Field(description=TEXT)]


class TrainConfig(Section):
    """Everything that a training takes."""

    router: Annotated[RouterOutput, Field(description="a mapping with name and output")]
    labels: Annotated[LabelsSection, Field(description="a mapping with path")]
    init_from: Annotated[Location | None, Field(description=f"{LOCATION} of a router to start from")] = None
    encoder: Annotated[EncoderSection, Field(description="a mapping with model")] = EncoderSection()
    head: HeadSection = HeadSection()
    finetune: FineTuneSection = FineTuneSection()
    pair: Annotated[PairSection | None, Field(description="a mapping with small and large")] = None

    @model_validator(mode="after")
    def _starts_somewhere(self) -> TrainConfig:
        if (self.encoder.model is None) == (self.init_from is None):
            found = "neither" if self.init_from is None else "both"
            raise ValueError(f"encoder.model and init_from: {found} is given; allowed is one of them, to start from")
        return self

    @model_validator(mode="after")
    def _has_members(self) -> TrainConfig:
        if not self.head.members and not self.finetune.epochs:
            raise ValueError("head.members: is empty and finetune.epochs is 0: such a router has no member")
        return self

    @model_validator(mode="after")
    def _reads_what_it_learns(self) -> TrainConfig:
        if self.finetune.epochs and self.finetune.max_length > self.encoder.max_length:
            raise ValueError(
                f"finetune.max_length: {self.finetune.max_length} is not allowed; allowed are at most the "
                f"{self.encoder.max_length} tokens of encoder.max_length, which is what the router will read"
            )
        return self


def load_train_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> TrainConfig:
    """The training in ``path``.  Raises ConfigError as :func:`hybrid_batch.config.loading.load_as`."""
    return load_as(TrainConfig, path, overrides, environ)
