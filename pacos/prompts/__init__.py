"""Text becomes token ids here alone: templates, rendering with loss masks, the contract that keeps both."""

from pacos.prompts.contract import (
    chat_template_jinja,
    check_contract,
    largest_id,
    make_contract,
    renderer_from_contract,
)
from pacos.prompts.probes import PROBES
from pacos.prompts.render import Renderer
from pacos.prompts.stream import StreamDecoder
from pacos.prompts.table import Rendered, RowTable, lengths_of, table_of
from pacos.prompts.templates import NAMES, TEMPLATES, Template, find_template

__all__ = [
    "NAMES",
    "PROBES",
    "TEMPLATES",
    "Rendered",
    "Renderer",
    "RowTable",
    "StreamDecoder",
    "Template",
    "chat_template_jinja",
    "check_contract",
    "find_template",
    "largest_id",
    "lengths_of",
    "make_contract",
    "renderer_from_contract",
    "table_of",
]
