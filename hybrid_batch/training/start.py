"""Where a training starts: at a plain encoder, or at an earlier router whose files are checked first."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.head import MixtureHead, load_head
from hybrid_batch.engines.router_card import CARD, FORMAT, RouterCard, read_card
from hybrid_batch.storage import is_remote, join, normalise, open_store
from hybrid_batch.storage.folders import local_copy
from hybrid_batch.training.artefact import check_encoder


@dataclass(frozen=True)
class Start:
    """``encoders`` are folders on this machine; ``heads`` has for each the heads that knew ``tasks``, if any.

    ``parent`` names the router that they come from, as its card does; None for a plain encoder.
    """

    encoders: tuple[Path, ...]
    source: str
    heads: tuple[MixtureHead | None, ...] = (None,)
    tasks: tuple[str, ...] = ()
    parent: dict[str, Any] | None = None

    def head_for(self, number: int, names: Sequence[str], *, surface: bool) -> MixtureHead | None:
        """The head on encoder ``number`` for parts called ``names``; None where no task is known.

        What it reads of the surface is left behind unless ``surface`` is asked for.
        """
        head = self.heads[number]
        return None if head is None else head_for_parts(head, self.tasks, names, surface=surface)


def head_for_parts(
    head: MixtureHead, tasks: Sequence[str], names: Sequence[str], *, surface: bool
) -> MixtureHead | None:
    """``head``, whose parts are ``tasks``, with the parts ``names`` instead; None where no name is the same.

    A part without a counterpart begins with the mean expert, and with a gate that does not prefer it.
    """
    places = {name: place for place, name in enumerate(tasks)}
    if not any(name in places for name in names):
        return None
    known = [places.get(name) for name in names]
    width = head.expert_weight.shape[1] if surface else head.dim
    gate, expert = (weight[:, :width] for weight in (head.gate_weight, head.expert_weight))
    values = (gate, head.gate_bias, expert, head.expert_bias)
    begun = [np.stack([one.mean(axis=0) if place is None else one[place] for place in known]) for one in values]
    return MixtureHead(*begun, scale=head.scale if surface else None)


def plain_start(encoder: str) -> Start:
    """The text encoder in the folder ``encoder``.  Raises ``ConfigError`` naming the file that it lacks."""
    folder = Path(encoder).expanduser()
    check_encoder(folder)
    return Start((folder,), folder.name)


def router_start(url: str) -> Start:
    """The encoders of the router at ``url`` (local or ``s3://``), and its heads.

    Raises ``ConfigError`` for a folder that is no router, or whose files are not those that its card speaks of.
    """
    folder, card = _router(url)
    encoders = tuple(dict.fromkeys(member.encoder for member in card.members))
    heads: dict[str, MixtureHead] = {}
    for member in card.members:
        if member.knows_tasks:
            heads.setdefault(member.encoder, load_head(folder / member.head, card.dim, surface=member.surface))
    return Start(
        tuple(folder / name for name in encoders),
        card.name,
        tuple(heads.get(name) for name in encoders),
        card.tasks,
        {"name": card.name, "fingerprint": card.fingerprint},
    )


def _router(url: str) -> tuple[Path, RouterCard]:
    place = normalise(url)
    if not is_remote(place):
        return Path(place), read_card(Path(place))
    content = open_store(place).read_if_present(join(place, CARD))
    if content is None:
        raise ConfigError(f"init_from: {place} has no {CARD}; expected a router in format {FORMAT}")
    wanted = read_card(content).fingerprint
    folder = local_copy(place, scratch() / f"router-{wanted}")
    card = read_card(folder)
    if card.fingerprint != wanted:
        raise ConfigError(f"init_from: {place} was replaced while it was read; start again")
    return folder, card


def scratch() -> Path:
    """A private folder of this user on this machine."""
    folder = Path(tempfile.gettempdir()) / f"hybrid-batch-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to another user; remove it, or set TMPDIR to a folder of your own")
    return folder
