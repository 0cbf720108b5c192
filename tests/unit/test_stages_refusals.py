"""A night of refusals is no finished night."""

from __future__ import annotations

import pytest

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.engines.base import INVALID_REQUEST, ChatAnswer
from hybrid_batch.stages.generate import SYSTEMATIC_ROWS, require_some_accepted

REFUSED = ChatAnswer(error_kind=INVALID_REQUEST, error_message="no chat template")


def test_a_shard_that_is_refused_whole_is_the_engines_failure():
    with pytest.raises(EndpointError, match="tier large: every request of a shard was refused: no chat template"):
        require_some_accepted([REFUSED] * SYSTEMATIC_ROWS, "large")


@pytest.mark.parametrize("answers", [[], [REFUSED] * (SYSTEMATIC_ROWS - 1), [*[REFUSED] * 50, ChatAnswer(text="")]])
def test_a_few_refused_rows_are_the_rows_own_failure(answers: list[ChatAnswer]):
    require_some_accepted(answers, "large")
