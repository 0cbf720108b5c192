"""The two ways to run a tier: an engine of our own beside each executor, or somebody's endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from hybrid_batch.config.fields import (
    POSITIVE_INT,
    SECONDS,
    USD,
    Int,
    Location,
    PositiveInt,
    Seconds,
    Section,
    Text,
    Texts,
    Usd,
)
from hybrid_batch.core.cost import EngineTimePrice, Price, TokenPrice
from hybrid_batch.engines.base import EndpointRecipe, MaxTokensField, ServerRecipe, Spared

EngineScalar = str | Int | float | bool


class _Tier(Section):
    model: Annotated[Location, Field(description="a model folder or a name on a model hub")]
    request_timeout_s: Annotated[Seconds, Field(description=SECONDS)] = 600.0

    def model_name(self) -> str:
        """The last part of ``model``, as tables and results show it."""
        return self.model.rstrip("/").rsplit("/", 1)[-1]

    def model_folder(self) -> str | None:
        """The folder that ``model`` names, None for a name on a hub (or at an endpoint)."""
        return self.model if self.model.startswith(("/", "./", "../")) else None


class ServerTier(_Tier):
    """An engine that the job starts itself, one per executor."""

    server: Annotated[Literal["vllm", "fake"], Field(description="vllm or fake")] = "vllm"
    gpus: Annotated[Int, Field(ge=0, description="a whole number of GPUs per engine, 0 for the CPU")] = 1
    tensor_parallel: Annotated[
        PositiveInt,
        Field(
            default_factory=lambda done: max(1, done["gpus"]),
            description="a whole number from 1 to gpus (default: gpus)",
        ),
    ]
    max_model_len: Annotated[PositiveInt | None, Field(description=f"{POSITIVE_INT} (tokens)")] = None
    max_num_seqs: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 256
    window: Annotated[PositiveInt | None, Field(description=POSITIVE_INT)] = None
    dtype: Annotated[
        Literal["auto", "half", "float16", "bfloat16", "float", "float32"],
        Field(description="auto, half, float16, bfloat16, float or float32"),
    ] = "auto"
    trust_remote_code: Annotated[bool, Field(description="true or false")] = False
    engine_args: Annotated[
        dict[str, EngineScalar],
        Field(description="flags of the server: names with text, numbers, true or false"),
    ] = Field(default_factory=dict)
    adapter: Annotated[Text | None, Field(description="a name that engine_args.lora_modules gives")] = None
    env: Annotated[Texts, Field(description="environment variables of the server: names with text")] = Field(
        default_factory=dict
    )
    python: Annotated[Location | None, Field(description="path of a Python interpreter")] = None
    start_timeout_s: Annotated[Seconds, Field(description=SECONDS)] = 900.0
    idle_timeout_s: Annotated[Seconds, Field(description=SECONDS)] = 120.0
    usd_per_gpu_hour: Annotated[Usd | None, Field(description=USD)] = None
    usd_per_engine_hour: Annotated[Usd | None, Field(description=USD)] = None

    @model_validator(mode="after")
    def _consistent(self) -> ServerTier:
        if self.gpus and self.tensor_parallel > self.gpus:
            raise ValueError(f"tensor_parallel is {self.tensor_parallel}, gpus is {self.gpus}; allowed is 1 to gpus")
        if self.usd_per_gpu_hour is not None and self.usd_per_engine_hour is not None:
            raise ValueError("usd_per_gpu_hour and usd_per_engine_hour are both set; give one of them, or neither")
        if self.usd_per_gpu_hour is not None and not self.gpus:
            raise ValueError("usd_per_gpu_hour has no meaning with gpus: 0; a CPU engine takes usd_per_engine_hour")
        return self

    @model_validator(mode="after")
    def _adapter_is_served(self) -> ServerTier:
        served = self.adapter_folders()
        if self.adapter is not None and self.server == "vllm" and self.adapter not in served:
            raise ValueError(
                f"adapter: {self.adapter!r} is served by no flag; add engine_args: {{enable_lora: true, "
                f"lora_modules: {self.adapter}=FOLDER}}"
            )
        return self

    def adapter_folders(self) -> dict[str, str]:
        """The adapter that the flags name, with its folder or name on a hub, from ``NAME=FOLDER`` or vLLM's JSON form.

        Raises ``ValueError`` for text of another form.
        """
        flags = {name.replace("-", "_"): str(value) for name, value in self.engine_args.items()}
        text = flags.get("lora_modules", "").strip()
        if not text.startswith("{"):
            name, _, folder = text.partition("=")
            return {name: folder} if folder else {}
        try:
            given = json.loads(text)
            return {str(given["name"]): str(given["path"])}
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"engine_args.lora_modules: {text!r} is neither NAME=FOLDER nor JSON with name and path"
            ) from None

    def recipe(self, name: str) -> ServerRecipe:
        """What an executor needs to start this engine for tier ``name``."""
        return ServerRecipe(
            tier=name,
            model=self.model,
            server=self.server,
            gpus=self.gpus,
            tensor_parallel=self.tensor_parallel,
            max_model_len=self.max_model_len,
            max_num_seqs=self.max_num_seqs,
            window=self.requests_at_once(),
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            engine_args=tuple(sorted(self.engine_args.items())),
            env=tuple(sorted(self.env.items())),
            python=self.python,
            start_timeout_s=self.start_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            request_timeout_s=self.request_timeout_s,
            adapter=self.adapter,
        )

    def requests_at_once(self) -> int:
        """Requests that one task keeps under way."""
        return self.window or self.max_num_seqs

    def price(self) -> Price | None:
        """USD per engine hour; None when no price is set."""
        if self.usd_per_gpu_hour is not None:
            return EngineTimePrice(self.usd_per_gpu_hour * Decimal(self.gpus))
        return None if self.usd_per_engine_hour is None else EngineTimePrice(self.usd_per_engine_hour)


def _endpoint(value: str) -> str:
    scheme, found, rest = value.partition("://")
    if scheme not in ("http", "https") or not found or not rest or set(rest) & set("@?#"):
        raise ValueError("not the address of an endpoint")
    return value.rstrip("/")


class EndpointTier(_Tier):
    """An OpenAI-compatible endpoint that is already there."""

    endpoint: Annotated[
        Text,
        AfterValidator(_endpoint),
        Field(description="an http:// or https:// address without user, password or query, as in https://host/v1"),
    ]
    api_key_env: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="the NAME of the environment variable that holds the key, never the key itself",
        ),
    ] = None
    concurrency: Annotated[PositiveInt, Field(description=POSITIVE_INT)] = 32
    retry_budget_s: Annotated[Seconds, Field(description=SECONDS)] = 300.0
    requests_per_minute: Annotated[PositiveInt | None, Field(description=POSITIVE_INT)] = None
    tokens_per_minute: Annotated[PositiveInt | None, Field(description=POSITIVE_INT)] = None
    max_tokens_field: Annotated[MaxTokensField, Field(description=" or ".join(get_args(MaxTokensField)))] = "max_tokens"
    unsent: Annotated[tuple[Spared, ...], Field(description=f"a list out of {', '.join(get_args(Spared))}")] = ()
    usd_per_million_prompt_tokens: Annotated[Usd | None, Field(description=USD)] = None
    usd_per_million_completion_tokens: Annotated[Usd | None, Field(description=USD)] = None

    @model_validator(mode="after")
    def _consistent(self) -> EndpointTier:
        prompt, completion = self.usd_per_million_prompt_tokens, self.usd_per_million_completion_tokens
        if (prompt is None) != (completion is None):
            raise ValueError(
                "only one of usd_per_million_prompt_tokens and usd_per_million_completion_tokens is set; "
                "give both (0 is allowed), or neither"
            )
        return self

    def model_folder(self) -> None:
        return None

    def recipe(self, name: str) -> EndpointRecipe:
        """What an executor needs to call this endpoint for tier ``name``."""
        return EndpointRecipe(
            tier=name,
            model=self.model,
            base_url=self.endpoint,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            request_timeout_s=self.request_timeout_s,
            retry_budget_s=self.retry_budget_s,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_tokens_field=self.max_tokens_field,
            unsent=self.unsent,
        )

    def requests_at_once(self) -> int:
        """Requests that one task keeps under way."""
        return self.concurrency

    def price(self) -> Price | None:
        """USD per million tokens; None when no price is set."""
        prompt, completion = self.usd_per_million_prompt_tokens, self.usd_per_million_completion_tokens
        return None if prompt is None or completion is None else TokenPrice(prompt, completion)


SERVER_TAG: Final = "an engine of the job's own"
ENDPOINT_TAG: Final = "an endpoint"
"""With spaces, so that no key of a configuration can be mistaken for one."""


def tier_kind(value: Any) -> str:
    """Which of the two a raw or built tier is."""
    if isinstance(value, EndpointTier) or (isinstance(value, Mapping) and value.get("endpoint") is not None):
        return ENDPOINT_TAG
    return SERVER_TAG


Tier = Annotated[
    Annotated[ServerTier, Tag(SERVER_TAG)] | Annotated[EndpointTier, Tag(ENDPOINT_TAG)],
    Discriminator(tier_kind),
    Field(description="a mapping that describes one model"),
]
SERVER_FIELDS: Final = frozenset(ServerTier.model_fields) - frozenset(_Tier.model_fields)
ENDPOINT_FIELDS: Final = frozenset(EndpointTier.model_fields) - frozenset(_Tier.model_fields)
