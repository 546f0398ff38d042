"""Values of the cost report."""

from leptond.core.accounting.ledger import AttemptSpan
from leptond.core.accounting.report_types import AttemptRecord, LedgerHistory


def test_the_spans_of_a_history_are_those_of_its_attempts_in_order():
    spans = [AttemptSpan(id=name, job=1, gpus=[], claimed=0) for name in ("b", "a")]
    records = [
        AttemptRecord(
            span=span, number=1, name="x", user="ana", project=None, queue=None, run_s=0.0,
            retries_saved=0, uses=(), progress_known=False,
        )
        for span in spans
    ]  # fmt: skip
    history = LedgerHistory(service=(), queue=(), prices=(), attempts=records)
    assert history.spans == spans
    assert (history.daily_totals, history.detail_since) == ((), None)
