"""How a target writes calls and thoughts, told from its template: the family of the parsers.

Pure. The parsers are the agent's (`edge_agent.output_parsing`), which knows the families by these
names. This module must never render a template.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from jinja2 import TemplateError, meta

from shared.protocol.messages import ChatMessage, OutputFormat
from verifier.chat_template.sandbox import template_environment

# The first whose sign a template writes. What shows tools in a way that is not known here is most
# often near to Hermes', and a text that holds no such call stays text.
_TOOL_SIGNS: Mapping[str, tuple[str, ...]] = {
    "harmony": ("<|channel|>",),
    "mistral": ("[TOOL_CALLS]",),
    "gemma": ("<|tool_call>",),
    "hermes": ("<tool_call>",),
    "llama": ("<|python_tag|>", '"parameters": dictionary of argument name'),
}
FALLBACK_FAMILY = "hermes"  # also of what `tool_fallback` asks for
_REASONING_TAGS: Mapping[str, tuple[str, str]] = {
    "mistral": ("[THINK]", "[/THINK]"),
    "gemma": ("<|channel>", "<channel|>"),
    "think": ("<think>", "</think>"),
}
_HARMONY_BODY = "<|message|>"
_TAIL_TOKENS = 24


def knows_tools(template: str) -> bool:
    """Whether a template reads the tools that it is given."""
    return bool({"tools", "xml_tools"} & _variables(template))


def output_format(template: str, token_names: Collection[str]) -> OutputFormat:
    """The families of a target with this template, whose added tokens have these names."""
    tools = FALLBACK_FAMILY
    if knows_tools(template):
        signs = _TOOL_SIGNS.items()
        known = (family for family, of in signs if any(sign in template for sign in of))
        tools = next(known, FALLBACK_FAMILY)
    if tools == "harmony":
        return OutputFormat(tools, "harmony")
    for family, (tag, _) in _REASONING_TAGS.items():
        if tag in template or (tag in token_names and family == "think"):
            return OutputFormat(tools, family)
    return OutputFormat(tools)


def opening_of(
    family: str,
    messages: Sequence[ChatMessage],
    prompt_ids: Sequence[int],
    token_bytes: Sequence[bytes],
    *,
    is_continued: bool,
) -> str:
    """With what of an answer's form a prompt ends: `<think>`, or nothing."""
    if family == "harmony":
        return f"<|channel|>final{_HARMONY_BODY}" if is_continued else ""
    if family not in _REASONING_TAGS:
        return ""
    tag, closing = _REASONING_TAGS[family]
    if is_continued:
        content = messages[-1].content
        return tag if content.rfind(tag) > content.rfind(closing) else ""
    tail = b"".join(token_bytes[i] for i in prompt_ids[-_TAIL_TOKENS:]).rstrip()
    return tag if tail.endswith(tag.encode()) else ""


def _variables(template: str) -> set[str]:
    try:
        return meta.find_undeclared_variables(template_environment().parse(template))
    except (TemplateError, RecursionError):
        return set()  # it is told when the template is used
