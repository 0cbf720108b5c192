"""Heads and members on vectors whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hybrid_batch.config.training import load_train_config
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.head import MixtureHead, load_head, save_head, sigmoid
from hybrid_batch.engines.surface import WIDTH, fit_scale, surface_features
from hybrid_batch.training.fit import CLUSTERS, ONE, TASKS, Recipe, fit_members, held_out
from hybrid_batch.training.mixture import Strength, choose_strength, fit_experts, fit_gate, log_loss, task_parts
from tests.support.heads import linear_head

ROWS, DIM = 600, 6
TASK_NAMES = ("up", "down", "flat")


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Three tasks that lie apart; the same direction helps in one, harms in another and says nothing in the third."""
    random = np.random.default_rng(0)
    parts = random.integers(0, 3, ROWS)
    vectors = random.normal(size=(ROWS, DIM)) * 0.7
    vectors[np.arange(ROWS), parts] += 3.0
    slopes = np.array([3.0, -3.0, 0.0])[parts]
    labels = (random.random(ROWS) < sigmoid(slopes * vectors[:, 5])).astype(float)
    return vectors, labels, [TASK_NAMES[part] for part in parts], [f"query {row}" for row in range(ROWS)]


def test_a_gate_is_the_multinomial_regression_of_scikit_learn(world: tuple) -> None:
    vectors, _, tasks, _ = world
    parts, names = task_parts(tasks)  # type: ignore[misc]
    weight, bias = fit_gate(vectors, parts, 3)
    theirs = LogisticRegression(C=1 / 0.3, max_iter=2000, tol=1e-8).fit(vectors, parts)
    ours = MixtureHead(weight, bias, weight, bias).gate(vectors)
    assert ours == pytest.approx(theirs.predict_proba(vectors), abs=1e-3)
    assert names == ("down", "flat", "up")


def test_one_expert_is_the_logistic_regression_of_scikit_learn(world: tuple) -> None:
    vectors, labels, _, _ = world
    # What is its own costs so much that only the shared weights are left.
    weight, _ = fit_experts(vectors, labels, np.zeros(ROWS, dtype=int), 1, Strength(1e9, 2.0))
    theirs = LogisticRegression(C=1 / 2.0, max_iter=2000, tol=1e-8).fit(vectors, labels)
    assert weight[0] == pytest.approx(theirs.coef_[0], abs=1e-2)


def test_experts_of_known_tasks_see_what_one_line_cannot(world: tuple) -> None:
    vectors, labels, tasks, prompts = world
    train = ~held_out(prompts, 0.3)
    chosen = [index for index in range(ROWS) if train[index]]

    def loss(members: tuple[str, ...], told: bool) -> float:
        recipe = Recipe(members, clusters=3, surface=False)
        fitted = fit_members(
            vectors[train], labels[train], [tasks[i] for i in chosen], [prompts[i] for i in chosen], recipe
        )
        others = [tasks[i] for i in range(ROWS) if not train[i]]
        return log_loss(fitted.score(vectors[~train], others if told else None), labels[~train])

    line = loss((ONE,), told=False)
    assert line > 0.6
    assert loss((TASKS,), told=False) < line - 0.08
    assert loss((TASKS,), told=True) <= loss((TASKS,), told=False) + 0.01
    assert loss((CLUSTERS,), told=False) < line - 0.08


def test_a_score_does_not_depend_on_the_rows_beside_it_and_an_unknown_task_is_guessed(world: tuple) -> None:
    vectors, labels, tasks, prompts = world
    fitted = fit_members(vectors, labels, tasks, prompts, Recipe((TASKS,), surface=False))
    whole = fitted.score(vectors)
    assert fitted.score(vectors[3:4])[0] == pytest.approx(whole[3], abs=1e-12)
    assert fitted.score(vectors, ["never seen"] * ROWS) == pytest.approx(whole)
    assert fitted.score(vectors, [None] * ROWS) == pytest.approx(whole)
    assert not np.allclose(fitted.score(vectors, ["up"] * ROWS), whole)


def test_the_same_seed_gives_the_same_members(world: tuple) -> None:
    first, second = (fit_members(*world, Recipe((CLUSTERS,), clusters=4, seed=3)) for _ in range(2))
    assert np.array_equal(first.members[0].head.gate_weight, second.members[0].head.gate_weight)


def test_more_noise_asks_for_more_strength(world: tuple) -> None:
    vectors = world[0]
    random = np.random.default_rng(1)
    folds, one = np.arange(ROWS) % 5, np.zeros(ROWS, dtype=int)
    noise = choose_strength(vectors, (random.random(ROWS) < 0.5).astype(float), one, folds)
    signal = choose_strength(vectors, (vectors[:, 0] > 0.5).astype(float), one, folds)
    assert noise.shared > signal.shared


def test_labels_without_tasks_and_rare_tasks_make_no_part() -> None:
    assert task_parts([None] * 50) is None
    assert task_parts(["a"] * 50) is None
    found = task_parts(["a"] * 30 + ["b"] * 30 + ["rare"] * 3 + [None] * 2)
    assert found is not None
    assert found[1] == ("a", "b", "")
    assert found[0][-5:].tolist() == [2] * 5


def test_without_tasks_the_members_of_tasks_are_left_out(world: tuple) -> None:
    vectors, labels, _, prompts = world
    fitted = fit_members(vectors, labels, [None] * ROWS, prompts, Recipe((TASKS, ONE)))
    assert [member.parts for member in fitted.members] == [ONE]
    assert fitted.tasks == ()


def test_a_head_is_read_as_it_was_written_and_another_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    head = MixtureHead(random.random((3, 4)), random.random(3), random.random((3, 4)), random.random(3))
    save_head(tmp_path / "h.safetensors", head)
    vectors = random.random((5, 4))
    assert load_head(tmp_path / "h.safetensors", 4).score(vectors) == pytest.approx(head.score(vectors), abs=1e-6)
    with pytest.raises(ConfigError, match=r"h\.safetensors: tensors are .*expected .*parts"):
        load_head(tmp_path / "h.safetensors", 5)
    save_head(tmp_path / "n.safetensors", linear_head(np.array([np.nan, 1.0]), 0.0))
    with pytest.raises(ConfigError, match="not finite"):
        load_head(tmp_path / "n.safetensors", 2)


def test_a_head_of_the_surface_is_read_as_it_was_written_and_taken_for_no_other(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    surface = surface_features(["What is 3 plus 4?", "def f(x):\n    return x", "", "Name a town."])
    weights = random.normal(size=(2, 2, 4 + WIDTH))
    head = MixtureHead(weights[0], random.random(2), weights[1], random.random(2), scale=fit_scale(surface))
    save_head(tmp_path / "h.safetensors", head)
    read = load_head(tmp_path / "h.safetensors", 4, surface=True)
    vectors = random.random((4, 4))
    assert read.dim == head.dim == 4
    assert read.score(vectors, surface=surface) == pytest.approx(head.score(vectors, surface=surface), abs=1e-6)
    assert not np.allclose(read.score(vectors, surface=surface[::-1]), head.score(vectors, surface=surface))
    with pytest.raises(ValueError, match="give the numbers of surface_features too"):
        head.score(vectors)
    with pytest.raises(ConfigError, match=r"h\.safetensors: tensors are .*surface\.mean.*expected"):
        load_head(tmp_path / "h.safetensors", 4)
    save_head(tmp_path / "plain.safetensors", linear_head(random.random(4), 0.0))
    with pytest.raises(ConfigError, match=r"plain\.safetensors: tensors are .*expected .*surface\.scale"):
        load_head(tmp_path / "plain.safetensors", 4, surface=True)


def test_members_learn_from_form_what_the_vector_does_not_hold() -> None:
    random = np.random.default_rng(1)
    long = random.random(ROWS) < 0.5
    prompts = [f"Query {row}: " + "and then more of it " * (10 if one else 1) for row, one in enumerate(long)]
    vectors, labels = random.normal(size=(ROWS, DIM)), long.astype(float)
    train = ~held_out(prompts, 0.3)
    seen, others = (
        [prompt for prompt, one in zip(prompts, train, strict=True) if one == kept] for kept in (True, False)
    )

    def loss(surface: bool) -> float:
        recipe = Recipe((ONE, CLUSTERS), clusters=3, surface=surface)
        fitted = fit_members(vectors[train], labels[train], [None] * len(seen), seen, recipe)
        return log_loss(fitted.score(vectors[~train], surface=surface_features(others)), labels[~train])

    assert loss(surface=False) > 0.65
    assert loss(surface=True) < 0.2


def test_a_linear_head_is_a_logistic_regression() -> None:
    vectors = np.array([[1.0, 2.0], [-50.0, 900.0]])
    assert linear_head(np.array([0.5, -0.25]), 0.1).score(vectors) == pytest.approx([1 / (1 + np.exp(-0.1)), 0.0])


def test_every_problem_of_a_training_configuration_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "router: {name: r, output: out}\nlabels: {path: l.parquet, kind: best, validaton: 0.2}\n"
        "encoder: {model: m}\nhead: {members: [forest], clusters: 0}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_train_config(path)
    told = str(refused.value)
    assert "problems in the configuration" in told
    assert "labels.kind: 'best' is not allowed; allowed is det, prob, trans or gain" in told
    assert "labels.validaton: unknown key; did you mean validation?" in told
    assert "head.members" in told
    assert "head.clusters: 0 is not allowed; allowed is a whole number of at least 1" in told
