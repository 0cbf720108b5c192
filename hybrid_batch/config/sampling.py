"""How answers are drawn and what form they have, as a job says it for all its rows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from hybrid_batch.config.fields import POSITIVE_INT, Int, Number, PositiveInt, Section, Share, Text
from hybrid_batch.engines.base import Sampling
from hybrid_batch.engines.request_body import check_forms, forms_of, passed_of
from hybrid_batch.engines.request_fields import (
    KEYWORDS,
    MOST_ANSWERS,
    MOST_LOGPROBS,
    MOST_STOPS,
    RESPONSE_FORMAT,
    STRUCTURED_OUTPUTS,
    TOOL_CHOICE,
    TOOLS,
    Forms,
    Passed,
)

Penalty = Annotated[Number | None, Field(ge=-2, le=2, description="a number from -2 to 2")]


class SamplingSection(Passed, Section):
    """How answers are drawn, the same for both tiers.  What is None is left to the server."""

    temperature: Annotated[Number, Field(ge=0, le=2, description="a number from 0 to 2")] = 0.0
    max_tokens: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 256
    top_p: Annotated[Number, Field(gt=0, le=1, description="a number above 0, at most 1")] = 1.0
    seed: Annotated[Int | None, Field(ge=0, lt=2**63, description="a whole number of at least 0")] = None
    stop: Annotated[
        tuple[Text, ...],
        Field(max_length=MOST_STOPS, description=f"a list of at most {MOST_STOPS} texts that are not empty"),
    ] = ()
    top_k: Annotated[Int | None, Field(ge=0, description="a whole number of at least 0")] = None
    min_p: Annotated[Share | None, Field(description="a number from 0 to 1")] = None
    n: Annotated[Int, Field(ge=1, le=MOST_ANSWERS, description=f"a whole number from 1 to {MOST_ANSWERS}")] = 1
    logprobs: Annotated[
        Int | None, Field(ge=0, le=MOST_LOGPROBS, description=f"a whole number from 0 to {MOST_LOGPROBS}")
    ] = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    repetition_penalty: Annotated[Number | None, Field(gt=0, description="a number above 0")] = None
    response_format: Annotated[dict[str, Any] | None, Field(description=RESPONSE_FORMAT)] = None
    structured_outputs: Annotated[dict[str, Any] | None, Field(description=STRUCTURED_OUTPUTS)] = None
    tools: Annotated[list[dict[str, Any]] | None, Field(description=TOOLS)] = None
    tool_choice: Annotated[str | dict[str, Any] | None, Field(description=TOOL_CHOICE)] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, Field(description=KEYWORDS)] = None

    @model_validator(mode="after")
    def _consistent(self) -> SamplingSection:
        check_forms(self._forms())
        if self.tool_choice not in (None, "none") and self.tools is None:
            raise ValueError(f"tool_choice is {self.tool_choice!r} and there are no tools; give tools")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"temperature is 0 and n is {self.n}: the same answer {self.n} times")
        return self

    def to_sampling(self) -> Sampling:
        plain: dict[str, Any] = self.model_dump(exclude={*Forms.model_fields, *Passed.model_fields})
        passed = self.model_dump(include={*Passed.model_fields}, exclude_none=True)
        return Sampling(**plain | forms_of(self._forms()), passed=passed_of(passed))

    def _forms(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Forms.model_fields}
