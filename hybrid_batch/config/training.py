"""The configuration of ``hybrid-batch train``: closed sections, checked like those of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hybrid_batch.config.fields import LOCATION, POSITIVE_INT, TEXT, Int, Location, Number, PositiveInt, Section, Text
from hybrid_batch.config.messages import config_error, joined
from hybrid_batch.config.sources import Origins, expand, merge, parse_override, read_file

WHOLE = "a whole number of at least 0"


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

    model: Annotated[Location, Field(description="a folder of a text encoder (safetensors, fast tokenizer)")]
    max_length: Annotated[PositiveInt, Field(description=f"{POSITIVE_INT} (tokens)")] = 256


class HeadSection(Section):
    """What turns a vector into a score."""

    members: Annotated[
        tuple[Literal["tasks", "clusters", "one"], ...],
        Field(min_length=1, description="a list of tasks, clusters and one"),
    ] = ("tasks", "clusters", "clusters")
    clusters: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 24
    seed: Annotated[Int, Field(ge=0, description=WHOLE)] = 0


class PairSection(Section):
    """Names of both models, for the card."""

    small: Annotated[Text, Field(description=TEXT)]
    large: Annotated[Text, Field(description=TEXT)]


class TrainConfig(Section):
    """Everything that a training takes."""

    router: Annotated[RouterOutput, Field(description="a mapping with name and output")]
    labels: Annotated[LabelsSection, Field(description="a mapping with path")]
    encoder: Annotated[EncoderSection, Field(description="a mapping with model")]
    head: HeadSection = HeadSection()
    pair: Annotated[PairSection | None, Field(description="a mapping with small and large")] = None


def load_train_config(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> TrainConfig:
    """The training configuration in ``path`` with ``overrides`` (``key.sub=value``) laid over it.

    Raises ConfigError; its message has one line per problem: file or override, field, value, what is allowed.
    """
    origins = Origins(str(path))
    data = read_file(Path(path), origins)
    for text in overrides:
        data = merge(data, parse_override(text), f"--set {text.partition('=')[0]}", origins)
    unset: list[tuple[tuple[str, ...], str]] = []
    data = expand(data, environ, unset)
    if unset:
        raise joined(
            [f"{origins.of(at)}: {'.'.join(at)}: the environment variable {name} is not set" for at, name in unset]
        )
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        raise config_error(error, data, origins, TrainConfig) from None
