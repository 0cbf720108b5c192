"""Prometheus text to a load, and loads summed."""

from __future__ import annotations

import pytest

from hybrid_batch.core.records import EngineLoad
from hybrid_batch.engines.engine_metrics import EngineMetrics, load_of, parse_metrics

TEXT = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1.2e+06
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.79e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 600000.0
vllm:num_preemptions_total{engine="0",model_name="m"} 5.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:generation_tokens_total{engine="0",model_name="m"} 20.0
python_gc_objects_collected_total{generation="0"} 7.0
"""


def test_the_series_of_all_engines_are_read():
    assert parse_metrics(TEXT) == EngineMetrics(7.0, 2.0, 0.75, 1.2e6, 6e5, 5.0, 1.5e6, 20.0)


def test_series_that_are_missing_are_zero_and_nonsense_is_an_error():
    assert parse_metrics("") == parse_metrics("other:thing 7\n") == EngineMetrics()
    with pytest.raises(ValueError, match="lots"):
        parse_metrics("vllm:num_requests_running lots\n")


def test_gauges_are_averaged_and_counters_subtracted():
    looks = [
        EngineMetrics(0, 0, 0.0, 100, 50, 1, 1000, 10),
        EngineMetrics(8, 3, 0.5, 200, 80, 1, 2000, 20),
        EngineMetrics(4, 0, 0.25, 300, 90, 1, 3000, 30),
        EngineMetrics(1, 0, 0.1, 500, 350, 3, 5000, 90),
    ]
    load = load_of(looks)
    assert load == EngineLoad(2, 6.0, 8, 1.5, 3, 0.375, 0.5, 400, 300, 2, 4000, 80)
    assert load.prefix_hit_rate == 0.75
    assert EngineLoad(**load.to_dict()) == load


def test_the_ends_alone_tell_what_was_done_and_nothing_of_how_busy_it_was():
    looks = [EngineMetrics(0, 0, 0.0, 100, 50, 1, 1000, 10), EngineMetrics(1, 2, 0.5, 300, 150, 1, 1500, 30)]
    assert load_of(looks) == EngineLoad(prefix_queries=200, prefix_hits=100, prompt_tokens=500, generation_tokens=20)
    assert load_of(looks[:1]) == EngineLoad()


def test_no_look_is_no_load():
    assert load_of([]) == EngineLoad()
    assert EngineLoad().prefix_hit_rate is None


def test_loads_are_a_monoid():
    one = EngineLoad(2, 4.0, 8.0, 1.0, 2.0, 0.5, 0.75, 100, 25, 1, 200, 20)
    two = EngineLoad(6, 8.0, 9.0, 5.0, 6.0, 0.25, 0.5, 300, 275, 0, 400, 40)
    assert one + two == EngineLoad(8, 7.0, 9.0, 4.0, 6.0, 0.3125, 0.75, 400, 300, 1, 600, 60)
    assert one + EngineLoad() == EngineLoad() + one == one
    assert (one + two) + one == one + (two + one)
