"""Text becomes token ids here alone: templates, rendering with loss masks, the contract that keeps both."""

from pacos.prompts.contract import chat_template_jinja, check_contract, make_contract, renderer_from_contract
from pacos.prompts.probes import PROBES
from pacos.prompts.render import Rendered, Renderer
from pacos.prompts.stream import StreamDecoder
from pacos.prompts.templates import NAMES, TEMPLATES, Template, find_template

__all__ = [
    "NAMES",
    "PROBES",
    "TEMPLATES",
    "Rendered",
    "Renderer",
    "StreamDecoder",
    "Template",
    "chat_template_jinja",
    "check_contract",
    "find_template",
    "make_contract",
    "renderer_from_contract",
]
