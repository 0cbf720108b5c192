"""Whether an unfinished run of the same name stands in the way: one whose input was another when it began.

Such a run would be left behind without a word, and its answers be paid for a second time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hybrid_batch.core.errors import RunConflictError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.layout import RunLayout, runs_folder
from hybrid_batch.core.listing import Difference
from hybrid_batch.core.plan import ID_DIGITS, Plan
from hybrid_batch.ledger import Ledger
from hybrid_batch.storage import basename, normalise, open_store

_READERS: Final = 16


def require_same_input(output: str, plan: Plan) -> None:
    """Look for a run that a start of ``plan`` would leave behind.

    Raises ``RunConflictError`` if a run like ``plan`` in all but its input files began below ``output`` and is
    unfinished, and none like it that began later is finished.

    Looks at runs of the same name and date alone: one listing, one small request for each of them, and the plans of
    those that are unfinished.
    """
    output = normalise(output)
    ledgers = [Ledger(RunLayout(root)) for root in _namesakes(output, plan.run_id)]
    with ThreadPoolExecutor(_READERS) as pool:
        finished = list(pool.map(Ledger.is_finished, ledgers))
    open_ones = [ledger for ledger, is_finished in zip(ledgers, finished, strict=True) if not is_finished]
    left = _alike(open_ones, plan)
    if not left:
        return
    newest = max(left, key=_age)
    done = [ledger for ledger, is_finished in zip(ledgers, finished, strict=True) if is_finished]
    if any(_age(other) >= _age(newest) for other in _alike(done, plan)):
        return
    raise RunConflictError(
        f"{RunLayout.of(output, newest.run_id).root}: this run is unfinished, and its input has changed since it began "
        f"({newest.created_at}):\n"
        f"{_difference(newest, plan).told()}\n"
        "Put the input back as it was, and the same command goes on with that run; or give this one another run.name; "
        "or start it beside the unfinished one with --new-run."
    )


def _namesakes(output: str, run_id: str) -> list[str]:
    """Folders of the other runs whose ids differ from ``run_id`` in the digits of their fingerprint alone."""
    folder, beginning = runs_folder(output), run_id[:-ID_DIGITS]
    same = re.compile(rf"{re.escape(beginning)}[0-9a-f]{{{ID_DIGITS}}}")
    names = [basename(root) for root in open_store(folder).folders(folder, beginning)]
    return [f"{folder}/{name}" for name in names if same.fullmatch(name) and name != run_id]


def _alike(ledgers: Sequence[Ledger], plan: Plan) -> list[Plan]:
    """The plans that are ``plan`` but for the input's files; a plan of another version is another run."""
    wanted = _without_files(plan)
    with ThreadPoolExecutor(_READERS) as pool:
        plans = list(pool.map(_readable, ledgers))
    return [found for found in plans if found is not None and _without_files(found) == wanted]


def _readable(ledger: Ledger) -> Plan | None:
    try:
        return ledger.plan()
    except RunConflictError:
        return None


def _without_files(plan: Plan) -> str:
    return fingerprint({name: value for name, value in plan.identity.items() if name != "files"})


def _age(plan: Plan) -> str:
    return plan.created_at


def _difference(before: Plan, after: Plan) -> Difference:
    return Difference.between(before.identity["files"], after.identity["files"])
