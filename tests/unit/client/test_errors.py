"""What a failure says, and how leptonctl leaves with it."""

from __future__ import annotations

import pytest

from leptond.client.errors import ApiError, ClientError, own_problem


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 5), (403, 5), (404, 3), (409, 4), (412, 4), (422, 1), (503, 69)]
)
def test_each_status_has_its_exit_code(status: int, code: int) -> None:
    error = ApiError({"status": status, "detail": "why", "hint": "what now"})
    assert (error.status, error.exit_code, str(error), error.hint) == (status, code, "why", "what now")


def test_an_error_says_the_best_that_is_known() -> None:
    assert str(ClientError({"title": "Gone"}, exit_code=1)) == "Gone"
    nothing = ClientError({}, exit_code=1)
    assert (str(nothing), nothing.status, nothing.hint) == ("the request failed", 0, None)


def test_a_problem_of_the_clients_own_is_shaped_as_the_daemons() -> None:
    assert own_problem("x", "X", "it is x", None) == {
        "type": "/problems/x",
        "title": "X",
        "status": 0,
        "detail": "it is x",
    }
