"""Which router a job or a user names, and in which form executors load it: all that is known without loading it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, cast

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.plan import Plan
from hybrid_batch.engines.base import Backend, ExportRef, RouterRecipe
from hybrid_batch.engines.exports import FOLDER, RECORD, TOLERANCES, not_exported, read_export
from hybrid_batch.engines.router_card import CARD, RouterCard, read_card
from hybrid_batch.storage import join, normalise, open_store

AUTO: Final = "auto"


def router_card(path: str, named: str = "router.path") -> RouterCard:
    """The card of the router at ``path`` (a folder or an ``s3://`` URL), without a look at its other files.

    Raises ``ConfigError``, which calls the path ``named``, if there is none or one that this version cannot read.
    """
    folder = normalise(path)
    card = open_store(folder).read_if_present(join(folder, CARD))
    if card is None:
        raise ConfigError(f"{named}: {folder} holds no {CARD}; it must be the folder of a trained router")
    return read_card(card)


def router_fingerprint(path: str) -> str:
    """Fingerprint of the router's card, which lists the SHA-256 of every file of the artefact.

    Raises ``ConfigError`` as :func:`router_card`.
    """
    return router_card(path).fingerprint


def router_recipe(
    path: str, backend: Backend = AUTO, threads: int | None = None, named: str = "router.path"
) -> RouterRecipe:
    """What an executor needs to load the router at ``path`` on ``backend``.

    With ``auto`` the fastest export that lies beside the router goes along, for executors without a GPU.  Raises
    ``ConfigError`` as :func:`router_card`, and for an export that is asked for and not there.
    """
    card = router_card(path, named)
    if backend == AUTO:
        found = (export_of(path, numbers, card) for numbers in TOLERANCES)
        export = next((one for one in found if one is not None), None)
    elif backend.startswith("onnx-"):
        numbers = backend.removeprefix("onnx-")
        if (export := export_of(path, numbers, card)) is None:
            raise ConfigError(not_exported(normalise(path), numbers))
    else:
        export = None
    return RouterRecipe(normalise(path), card.fingerprint, backend, export, threads)


def scorer_entry(recipe: RouterRecipe) -> dict[str, str]:
    """What a plan keeps of ``recipe``; :func:`planned_recipe` is the inverse."""
    export = recipe.export
    return {"backend": recipe.backend, **({"numbers": export.numbers, "sha256": export.sha256} if export else {})}


def planned_recipe(path: str, plan: Plan) -> RouterRecipe:
    """The recipe for the router at ``path``, as the first start of the run found it."""
    scorer = plan.scorer
    export = ExportRef(scorer["numbers"], scorer["sha256"]) if "numbers" in scorer else None
    return RouterRecipe(normalise(path), str(plan.identity["router"]), cast("Backend", scorer["backend"]), export)


def require_planned(folder: Path, recipe: RouterRecipe) -> None:
    """Raise ``ConfigError`` unless card and export in ``folder`` are those that ``recipe`` was made of."""
    card = folder / CARD
    if not card.is_file() or hashlib.sha256(card.read_bytes()).hexdigest() != recipe.fingerprint:
        raise ConfigError(f"router.path: {folder} on {os.uname().nodename} is not the router that this run began with")
    if (export := recipe.export) is None:
        return
    record = folder / FOLDER / export.numbers / RECORD
    if not record.is_file() or hashlib.sha256(record.read_bytes()).hexdigest() != export.sha256:
        raise ConfigError(
            f"router.path: {record} on {os.uname().nodename} is not the export that this run began with; a run of "
            "another name, or with another router.backend, takes the one that is there"
        )


def export_of(path: str, numbers: str, card: RouterCard) -> ExportRef | None:
    """The export in ``numbers`` beside the router at ``path``; None if there is none that was made of this ``card``."""
    url = join(normalise(path), FOLDER, numbers, RECORD)
    content = open_store(url).read_if_present(url)
    try:
        if content is None or read_export(content, url).router != card.fingerprint:
            return None
    except ConfigError:
        return None  # made by another version of this package
    return ExportRef(numbers, hashlib.sha256(content).hexdigest())
