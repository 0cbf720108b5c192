"""hybrid-batch: batch inference on two language models at the least cost for a promised quality.

A small router reads each query and predicts how likely the small model's answer is as good as the
large model's (Ding et al., "Hybrid LLM", ICLR 2024, arXiv 2404.14618).  Importing this package, or
:mod:`hybrid_batch.core`, loads no model library and no Spark.
"""

__version__ = "0.1.0"
