"""The errors of a request to the daemon, and the exit codes of leptonctl that belong to them."""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any


EXIT_REFUSED, EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_FORBIDDEN, EXIT_UNREACHABLE = 1, 3, 4, 5, 69
_EXIT_CODES = {401: EXIT_FORBIDDEN, 403: EXIT_FORBIDDEN, 404: EXIT_NOT_FOUND, 409: EXIT_CONFLICT}
_EXIT_CODES |= {412: EXIT_CONFLICT, 503: EXIT_UNREACHABLE}


class ClientError(Exception):
    """A request that failed, as a problem body (RFC 9457: type, title, status, detail, hint, errors).

    `status` is the HTTP status, 0 when no answer came; `exit_code` is what the command line leaves with.
    """

    def __init__(self, problem: dict[str, Any], *, exit_code: int) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "the request failed"))
        self.problem = problem
        self.status = int(problem.get("status") or 0)
        self.exit_code = exit_code

    @property
    def hint(self) -> str | None:
        """The next step to take; None where there is no advice."""
        hint = self.problem.get("hint")
        return str(hint) if hint else None


class ApiError(ClientError):
    """The daemon refused the request."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem, exit_code=_EXIT_CODES.get(int(problem.get("status") or 0), EXIT_REFUSED))


def own_problem(slug: str, title: str, detail: str, hint: str | None) -> dict[str, Any]:
    """A problem body for what the client itself found; without a hint where that is None."""
    problem = {"type": f"/problems/{slug}", "title": title, "status": 0, "detail": detail, "hint": hint}
    return {key: value for key, value in problem.items() if value is not None}
