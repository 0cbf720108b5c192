"""Which router a job or a user names, and in which form executors load it: all that is known without loading it."""

from __future__ import annotations

import hashlib

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.base import Backend, ExportRef, RouterRecipe
from hybrid_batch.engines.exports import FOLDER, RECORD, TOLERANCES, not_exported, read_export
from hybrid_batch.engines.router_card import CARD, RouterCard, read_card
from hybrid_batch.storage import join, normalise, open_store


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
    path: str, backend: Backend = "auto", threads: int | None = None, named: str = "router.path"
) -> RouterRecipe:
    """What an executor needs to load the router at ``path`` on ``backend``.

    With ``auto`` the fastest export that lies beside the router goes along, for executors without a GPU; one that was
    made of another version of the router does not.  Raises ``ConfigError`` as :func:`router_card`, and for an export
    that is asked for and not there.
    """
    card = router_card(path, named)
    wanted = tuple(TOLERANCES) if backend == "auto" else (backend.removeprefix("onnx-"),)
    exports = [found for numbers in wanted if (found := _export(path, numbers, card)) is not None]
    if backend.startswith("onnx-") and not exports:
        raise ConfigError(not_exported(normalise(path), wanted[0]))
    return RouterRecipe(normalise(path), card.fingerprint, backend, exports[0] if exports else None, threads)


def _export(path: str, numbers: str, card: RouterCard) -> ExportRef | None:
    if numbers not in TOLERANCES:
        return None
    url = join(normalise(path), FOLDER, numbers, RECORD)
    content = open_store(url).read_if_present(url)
    if content is None or read_export(content, url).router != card.fingerprint:
        return None
    return ExportRef(numbers, hashlib.sha256(content).hexdigest())
