"""The methods that ``benchmarks.routing`` compares: training and test rows in, scores of the test rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.routing_sets import RoutingSet
from hybrid_batch.core.labels import Qualities, det_labels, gain_labels
from hybrid_batch.engines.surface import surface_features
from hybrid_batch.training.fit import Recipe, fit_members

NEIGHBOURS = 100


@dataclass(frozen=True)
class Rows:
    """Training or test rows as every method gets them; ``vectors`` float64 ``[n, dim]`` are the frozen encoder's."""

    prompts: list[str]
    tasks: list[str | None]
    vectors: np.ndarray
    q: Qualities


Scores = Mapping[str, np.ndarray]
Method = Callable[[Rows, Rows, Scores], np.ndarray]
"""Training and test rows, scores of the methods before it -> scores of the test rows, float64 ``[n]``.

The tasks of the test rows are told to none.
"""


def rows_of(found: RoutingSet, vectors: np.ndarray, chosen: np.ndarray) -> Rows:
    """The ``chosen`` (bool ``[n]``) rows of a set."""
    part = found.labels.take(chosen)
    return Rows(part.prompts, part.tasks, vectors[chosen], part.qualities)


def by_random(_: Rows, test: Rows, __: Scores) -> np.ndarray:
    """All alike: on average what a random order gives."""
    return np.zeros(len(test.prompts))


def by_oracle(_: Rows, test: Rows, __: Scores) -> np.ndarray:
    """The best order there is, from the answers themselves."""
    return test.q.gap


def by_tfidf(train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """The floor: TF-IDF and logistic regression on det labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    model = LogisticRegression(max_iter=1000).fit(words.fit_transform(train.prompts), det_labels(train.q))
    return model.predict_proba(words.transform(test.prompts))[:, 1]


def by_neighbours(train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """The mean gap of the nearest training queries."""
    count = min(NEIGHBOURS, len(train.prompts))
    likeness = test.vectors @ train.vectors.T
    nearest = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
    return train.q.gap[nearest].mean(axis=1)


def by_line(train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """The paper's det router on a frozen encoder: one linear head."""
    recipe = Recipe(("one",), surface=False)
    return fit_members(train.vectors, det_labels(train.q), train.tasks, train.prompts, recipe).score(test.vectors)


def by_mixtures(train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """The default recipe without the surface of the queries: what the vector alone is good for."""
    recipe = Recipe(surface=False)
    return fit_members(train.vectors, gain_labels(train.q), train.tasks, train.prompts, recipe).score(test.vectors)


def by_default(train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """The default recipe of ``hybrid-batch train``."""
    fitted = fit_members(train.vectors, gain_labels(train.q), train.tasks, train.prompts, Recipe())
    return fitted.score(test.vectors, surface=surface_features(test.prompts))


FROZEN: dict[str, Method] = {
    "random": by_random,
    "oracle": by_oracle,
    "floor": by_tfidf,
    "knn": by_neighbours,
    "linear": by_line,
    "vectors": by_mixtures,
    "ours": by_default,
}
"""On the encoder as it is."""
