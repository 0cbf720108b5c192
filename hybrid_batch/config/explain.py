"""A configuration in plain words: what a run with it will do."""

from __future__ import annotations

from hybrid_batch.config.job import InputSection, JobConfig, PolicySection
from hybrid_batch.config.sampling import SamplingSection
from hybrid_batch.config.secrets import redact
from hybrid_batch.config.tiers import EndpointTier, ServerTier
from hybrid_batch.engines.request_fields import Forms, Passed


def explain(config: JobConfig) -> list[tuple[str, str]]:
    """``(section, sentence)`` lines in the order in which a run goes; nothing secret is in them."""
    run = config.run
    dated = f" for {run.date}" if run.date else ""
    rows = config.shard_rows()
    lines = [
        (
            "run",
            f"{run.name}{dated}; results below {run.output}; at most {run.max_error_rate * 100:g} % of rows may fail",
        ),
        ("input", _input(config.input)),
        ("router", f"every query is scored once by {config.router.path}"),
        ("policy", _policy(config.policy)),
        *((f"tiers.{name}", _tier(tier)) for name, tier in config.tiers.by_name().items()),
        *([("prompt", f"a system turn of {len(config.prompt.system):,} characters")] if config.prompt.system else []),
        ("sampling", _sampling(config.sampling)),
        ("shards", f"{rows:,} queries each, committed one by one; an interrupted run goes on with the next"),
        ("spark", _spark(config)),
    ]
    return [(name, str(redact(sentence))) for name, sentence in lines]


def _input(section: InputSection) -> str:
    first = f"the first {section.limit:,} rows of " if section.limit else ""
    columns = section.columns
    query = f"prompts from {columns.prompt!r}" if columns.prompt else f"chat turns from {columns.messages!r}"
    ids = f"ids from {columns.id!r}" if columns.id else "ids made from file name and row"
    named = (("tasks", columns.task), ("overrides", columns.request), ("images", columns.image))
    further = "".join(f", {what} from {name!r}" for what, name in named if name)
    kept = f"; keeps {', '.join(section.carried)}" if section.carried else ""
    return f"{first}{section.format} at {section.path}; {ids}, {query}{further}{kept}"


def _policy(section: PolicySection) -> str:
    if section.threshold is not None:
        return f"scores of at least {section.threshold:g} go to small, all others to large"
    if section.max_drop_pct is not None:
        sure = f"with {section.confidence * 100:g} % confidence"
        each = f" for each {section.by}; others go to large" if section.by else ""
        return f"at most {section.max_drop_pct:g} % of the large model's quality is lost, {sure}, as calibrated{each}"
    percent = (section.small_share or 0) * 100
    return f"the {percent:g} % of the queries with the highest scores go to small, all others to large"


def _tier(tier: ServerTier | EndpointTier) -> str:
    if isinstance(tier, EndpointTier):
        key = f", key from ${tier.api_key_env}" if tier.api_key_env else ", no key"
        parts = [f"{tier.model} at {tier.endpoint}{key}", f"{tier.concurrency:,} requests at once"]
        if tier.unsent:
            parts.append(f"{', '.join(tier.unsent)} not sent")
        if tier.usd_per_million_prompt_tokens is not None:
            prices = f"{tier.usd_per_million_prompt_tokens} / {tier.usd_per_million_completion_tokens}"
            parts.append(f"{prices} USD per million prompt / completion tokens")
        return "; ".join(parts)
    device = "the CPU" if not tier.gpus else "1 GPU" if tier.gpus == 1 else f"{tier.gpus} GPUs"
    window = f", {tier.max_model_len:,} tokens for prompt and answer" if tier.max_model_len else ""
    model = f"{tier.model} with adapter {tier.adapter}" if tier.adapter else tier.model
    parts = [f"{model} in a {tier.server} server on {device}{window}; {tier.max_num_seqs:,} queries at once"]
    if tier.usd_per_gpu_hour is not None:
        parts.append(f"{tier.gpus} x {tier.usd_per_gpu_hour} USD per hour")
    if tier.usd_per_engine_hour is not None:
        parts.append(f"{tier.usd_per_engine_hour} USD per hour")
    return "; ".join(parts)


def _sampling(section: SamplingSection) -> str:
    how = f"temperature {section.temperature:g}, top_p {section.top_p:g}"
    if section.temperature == 0:
        how = "the most likely token each time (temperature 0)"
    seed = "" if section.seed is None else f", seed {section.seed}"
    stops = f", stops at {len(section.stop)} texts" if section.stop else ""
    several = f", {section.n} answers to each query" if section.n > 1 else ""
    further = (*Forms.model_fields, *Passed.model_fields)
    named = ", ".join(name for name in further if getattr(section, name) is not None)
    given = f"; every request has {named}" if named else ""
    return f"{how}{seed}, at most {section.max_tokens:,} tokens per answer{stops}{several}{given}"


def _spark(config: JobConfig) -> str:
    master = config.spark.master or "the master that spark-submit names, else local[*]"
    conf = ", ".join(sorted(config.spark.conf))
    return f"{master}; settings: {conf}" if conf else master
