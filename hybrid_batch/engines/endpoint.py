"""An endpoint as an engine: nothing is started, only the key is read."""

from __future__ import annotations

import os

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.base import EndpointRecipe, EngineHandle


def open_endpoint(recipe: EndpointRecipe) -> EngineHandle:
    """The handle of a remote endpoint, with one task's share of its limits.

    Raises ``ConfigError`` when its key is not in this process's environment.
    """
    key = os.environ.get(recipe.api_key_env) if recipe.api_key_env else None
    if recipe.api_key_env and not key:
        raise ConfigError(
            f"tiers.{recipe.tier}.api_key_env = {recipe.api_key_env!r}: this variable is not set where the job runs; "
            "it must be in the environment of every executor"
        )
    base_url = recipe.base_url.rstrip("/")
    return EngineHandle(
        engine_id=f"{recipe.tier}@{base_url}",
        base_url=base_url,
        model=recipe.model,
        api_key=key,
        is_local=False,
        requests_per_minute=_share(recipe.requests_per_minute, recipe),
        tokens_per_minute=_share(recipe.tokens_per_minute, recipe),
        max_tokens_field=recipe.max_tokens_field,
    )


def _share(limit: int | None, recipe: EndpointRecipe) -> float | None:
    return None if limit is None else limit / max(1, recipe.shares)
