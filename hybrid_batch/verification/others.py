"""Objects in a run's folder that are not the run's."""

from __future__ import annotations

from typing import Final

from hybrid_batch.verification.evidence import Evidence

OTHERS: Final = "other objects"


def expected_objects(evidence: Evidence) -> frozenset[str]:
    """All objects that the run may have written by a name of its own."""
    layout, shards = evidence.layout, evidence.planned
    single = (layout.plan, layout.routing, layout.manifest, layout.success, layout.cost_report, layout.html_report)
    kinds = (layout.routed, layout.results, layout.receipt, layout.dead_letters)
    return frozenset(
        {
            *single,
            *(layout.scored(split.number) for split in evidence.plan.splits),
            *(kind(shard) for kind in kinds for shard in shards),
            *(place(unit) for place in (layout.batch_output, layout.batch_errors) for unit in range(len(shards))),
        }
    )


def foreign_objects(evidence: Evidence) -> tuple[list[str], list[str]]:
    """Names of what is not the run's: what readers of the results would take for answers, and the rest."""
    layout = evidence.layout
    made_freely = (f"{layout.labels_folder}/", f"{layout.root}/judged/") if evidence.plan.is_labelling else ()
    foreign = [
        url
        for url in evidence.objects.keys() - expected_objects(evidence)
        if not url.startswith(made_freely or ("\0",))
    ]
    below = f"{layout.results_folder}/"
    taken = [url for url in foreign if url.startswith(below) and not _is_passed_over(url.removeprefix(below))]
    return sorted(map(evidence.name, taken)), sorted(map(evidence.name, set(foreign) - set(taken)))


def _is_passed_over(path: str) -> bool:
    """Whether readers of a folder pass over ``path`` in it: a name on the way begins with an underscore."""
    return any(name.startswith("_") and "=" not in name for name in path.split("/"))
