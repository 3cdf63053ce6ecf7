"""Looking a dataset over and putting it right: rules, findings, fixes, duplicates, leaks, diversity; merge, sample, convert."""

from pacos.data.curation.curate import Curation, Options, curate
from pacos.data.curation.reshape import LAYOUTS, convert, merge, sample
from pacos.data.curation.rule import SEVERITIES, Finding, Rule
from pacos.data.curation.rules import RULES, choose_rules

__all__ = [
    "LAYOUTS",
    "RULES",
    "SEVERITIES",
    "Curation",
    "Finding",
    "Options",
    "Rule",
    "choose_rules",
    "convert",
    "curate",
    "merge",
    "sample",
]
