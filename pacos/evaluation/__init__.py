"""Base against tuned: metrics, intervals, the comparison and its report. Loads without torch."""

from pacos.evaluation.evaluate import Answerer, evaluate
from pacos.evaluation.metrics import METRICS, Answer, Metric, bleu_signature
from pacos.evaluation.report import html_report, write_report
from pacos.evaluation.results import Evaluation, GroupResult, MetricResult, RowResult
from pacos.evaluation.statistics import Comparison, Interval, compare, verdict
from pacos.evaluation.tables import (
    GROUP_HEADER,
    HEADER,
    comparison_lines,
    markdown_table,
    method_note,
    render_groups,
    render_table,
)

__all__ = [
    "GROUP_HEADER",
    "HEADER",
    "METRICS",
    "Answer",
    "Answerer",
    "Comparison",
    "Evaluation",
    "GroupResult",
    "Interval",
    "Metric",
    "MetricResult",
    "RowResult",
    "bleu_signature",
    "compare",
    "comparison_lines",
    "evaluate",
    "html_report",
    "markdown_table",
    "method_note",
    "render_groups",
    "render_table",
    "verdict",
    "write_report",
]
