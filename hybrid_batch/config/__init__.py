"""The configuration of a run: closed, checked at construction, with messages that say what is allowed.

``sources`` reads and merges, ``job`` and ``tiers`` say what is allowed, ``messages`` explains what is wrong.
Nothing here imports Spark or a model library.
"""

from hybrid_batch.config.job import AnswerConfig, JobConfig, TiersSection
from hybrid_batch.config.loading import load_config, parse_config
from hybrid_batch.config.tiers import EndpointTier, ServerTier

__all__ = ["AnswerConfig", "EndpointTier", "JobConfig", "ServerTier", "TiersSection", "load_config", "parse_config"]
