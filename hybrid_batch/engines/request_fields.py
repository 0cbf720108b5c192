"""The fields of a chat completion's body that a row or a job may set: names, types, ranges.  Values only.

What OpenAI's interface and vLLM 0.32 have in common, and vLLM's own on top.  Each field's ``description`` says what is
allowed.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_ANSWERS: Final = 128
MOST_LOGPROBS: Final = 20
MOST_STOPS: Final = 4
"""Limits of OpenAI's interface; those on logprobs and stops are vLLM's defaults too."""

RESPONSE_FORMAT: Final = (
    "a mapping: {type: json_schema, json_schema: {name: ..., schema: {...}}}, {type: json_object} or {type: text}"
)
STRUCTURED_OUTPUTS: Final = "a mapping with exactly one of json, json_object, regex, choice and grammar"
TOOLS: Final = "a list of {type: function, function: {name: ..., parameters: {...}}}, at least one"
TOOL_CHOICE: Final = "none, auto, required or {type: function, function: {name: ...}}"
KEYWORDS: Final = "a mapping of the chat template's own arguments"

Text = Annotated[str, Field(min_length=1)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Natural = Annotated[Whole, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Penalty = Annotated[Real | None, Field(ge=-2, le=2, description="a number from -2 to 2")]
Flag = Annotated[Annotated[bool, Field(strict=True)] | None, Field(description="true or false")]


class Closed(BaseModel):
    """No other keys, no conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class JsonSchema(Closed):
    """OpenAI's wrapping of a schema."""

    name: Text
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Closed):
    """OpenAI's way to ask for JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _one_with_the_other(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError(f"type is {self.type!r}; json_schema goes with type 'json_schema' and with no other")
        return self


class StructuredOutputs(Closed):
    """vLLM's way to constrain an answer."""

    json_: Annotated[dict[str, Any] | Text | None, Field(alias="json")] = None
    json_object: Literal[True] | None = None
    regex: Text | None = None
    choice: Annotated[list[Text] | None, Field(min_length=1)] = None
    grammar: Text | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> StructuredOutputs:
        kinds = ("json_", "json_object", "regex", "choice", "grammar")
        given = [name.rstrip("_") for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"it has {' and '.join(given) or 'none of these'}")
        return self


class Function(Closed):
    """What a model may call."""

    name: Text
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Closed):
    """One entry of ``tools``."""

    type: Literal["function"]
    function: Function


class Named(Closed):
    """The name of a function."""

    name: Text


class NamedTool(Closed):
    """The choice of one tool."""

    type: Literal["function"]
    function: Named


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class Forms(Closed):
    """The fields that say what form an answer has; a job's configuration has them as well."""

    response_format: Annotated[ResponseFormat | None, Field(description=RESPONSE_FORMAT)] = None
    structured_outputs: Annotated[StructuredOutputs | None, Field(description=STRUCTURED_OUTPUTS)] = None
    tools: Annotated[list[Tool] | None, Field(min_length=1, description=TOOLS)] = None
    tool_choice: Annotated[ToolChoice | None, Field(description=TOOL_CHOICE)] = None
    chat_template_kwargs: Annotated[dict[str, Any] | None, Field(description=KEYWORDS)] = None

    @model_validator(mode="after")
    def _fit_each_other(self) -> Forms:
        if self.response_format is not None and self.structured_outputs is not None:
            raise ValueError("response_format and structured_outputs are both given; give one of them")
        if isinstance(self.tool_choice, NamedTool) and self.tools is not None:
            names = [tool.function.name for tool in self.tools]
            if (name := self.tool_choice.function.name) not in names:
                raise ValueError(f"tool_choice: there is no tool {name!r} in tools; these are {', '.join(names)}")
        return self


class Passed(BaseModel):
    """The fields that are sent as they are; a job's configuration, which converts text, has them just as strictly."""

    min_tokens: Annotated[Natural | None, Field(description="a whole number of at least 0")] = None
    ignore_eos: Flag = None
    stop_token_ids: Annotated[list[Whole] | None, Field(description="a list of whole numbers")] = None
    bad_words: Annotated[list[Text] | None, Field(description="a list of texts that are not empty")] = None
    logit_bias: Annotated[dict[str, Real] | None, Field(description="a mapping of token ids to numbers")] = None
    include_stop_str_in_output: Flag = None
    skip_special_tokens: Flag = None
    include_reasoning: Flag = None
    parallel_tool_calls: Flag = None
    reasoning_effort: Annotated[Text | None, Field(description="text as in low, medium, high")] = None
    user: Annotated[str | None, Field(description="text")] = None


class Overrides(Passed, Forms):
    """The body of a chat completion without its model and messages.  A null is as good as no value."""

    temperature: Annotated[Real | None, Field(ge=0, le=2, description="a number from 0 to 2")] = None
    max_tokens: Annotated[Count | None, Field(description="a whole number of at least 1")] = None
    max_completion_tokens: Annotated[Count | None, Field(description="a whole number of at least 1")] = None
    top_p: Annotated[Real | None, Field(gt=0, le=1, description="a number above 0, at most 1")] = None
    top_k: Annotated[int | None, Field(ge=-1, description="a whole number; 0 and -1 mean all tokens")] = None
    min_p: Annotated[Real | None, Field(ge=0, le=1, description="a number from 0 to 1")] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63, description="a whole number of 64 bits")] = None
    stop: Annotated[
        Text | Annotated[list[Text], Field(max_length=MOST_STOPS)] | None,
        Field(description=f"a text, or a list of at most {MOST_STOPS} texts, none of them empty"),
    ] = None
    n: Annotated[int | None, Field(ge=1, le=MOST_ANSWERS, description=f"a whole number from 1 to {MOST_ANSWERS}")] = (
        None
    )
    logprobs: Flag = None
    top_logprobs: Annotated[
        int | None,
        Field(ge=0, le=MOST_LOGPROBS, description=f"a whole number from 0 to {MOST_LOGPROBS}, with logprobs: true"),
    ] = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    repetition_penalty: Annotated[Real | None, Field(gt=0, description="a number above 0")] = None
    adapter: Annotated[Text | None, Field(description="the name of an adapter that the server serves")] = None
    stream: Annotated[Literal[False] | None, Field(description="false")] = None

    @model_validator(mode="after")
    def _said_once(self) -> Overrides:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError(f"top_logprobs is {self.top_logprobs}; it goes with logprobs: true")
        both = self.max_tokens, self.max_completion_tokens
        if None not in both and both[0] != both[1]:
            raise ValueError(f"max_tokens is {both[0]} and max_completion_tokens {both[1]}; give one of them")
        return self
