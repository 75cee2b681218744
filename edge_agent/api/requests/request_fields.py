"""Every field of OpenAI, Anthropic, vLLM, SGLang, llama-server, Ollama and LM Studio: one table.

A field is honoured by an endpoint, or it stands here: harmless, a wish that is not followed, or
refused unless its value asks for nothing. What stands nowhere is unknown: like a wish it is taken,
and its name goes into the response's header, for silence could be a wrong answer. Which fields an
endpoint honours is for its own module to say.

Read in the projects' sources in November 2026. This module must never read a value as a setting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from edge_agent.api.json_fields import shown
from shared.daemon.peer_text import one_line
from shared.errors import RequestRefused

IGNORED_HEADER = "X-Goodspeed-Ignored"
MAX_IGNORED_NAMES = 16
MAX_NAME_CHARACTERS = 48

# What they say changes no letter of the answer, wherever it is served.
HARMLESS = frozenset(
    {
        # Who asks, for what, and what is to be kept of it: nothing is kept here.
        *("model", "user", "metadata", "store", "safety_identifier", "request_id", "rid"),
        *("session_id", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        *("cache_control", "cache_salt", "cache_prompt", "extra_key", "custom_labels"),
        *("user_profile_id", "workspace_id", "inference_geo", "diagnostics", "moderation"),
        # Where and when it runs.
        *("service_tier", "priority", "id_slot", "slot_id", "keep_alive", "ttl", "draft_model"),
        *("bootstrap_host", "bootstrap_port", "bootstrap_room", "routed_dp_rank"),
        *("disagg_prefill_dp_rank", "data_parallel_rank", "access_programs", "speed"),
        *("background_options", "n_cache_reuse", "ngram_corpus_id"),
        # Hints of what the answer may be: drafts come from elsewhere.
        *("prediction",),
        # About tools, images and beams, of which there are none, or about penalties that are off.
        *("parallel_tool_calls", "max_tool_calls", "parse_tool_calls", "media_io_kwargs"),
        *("mm_processor_kwargs", "images_config", "max_dynamic_patch", "min_dynamic_patch"),
        *("use_audio_in_video", "length_penalty"),
        *("penalize_newline", "penalize_nl", "dry_base", "dry_allowed_length"),
        *("dry_penalty_last_n", "dry_sequence_breakers", "xtc_threshold", "mirostat_tau"),
        *("mirostat_eta", "dynatemp_exponent", "min_keep", "post_sampling_probs"),
        *("return_tokens_as_token_ids", "routed_experts_start_len", "routed_experts_prompt_start"),
        # How a model is loaded: it is, and by the verifier.
        *("numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all"),
        *("vocab_only", "use_mmap", "use_mlock", "embedding_only", "num_thread", "num_keep"),
        *("n_keep",),
        # What a response says beside its text, which holds all of it here, or says it anyway.
        *("timings_per_token", "include_reasoning", "separate_reasoning", "stream_reasoning"),
        *("reasoning_format", "spaces_between_special_tokens", "sse_ping_interval"),
    }
)

# Fields of the known servers that would shape the response, not its text; they are named to the
# client like unknown ones.
NOT_FOLLOWED = frozenset(
    {
        *("verbosity", "truncation", "num_ctx", "t_max_predict_ms", "stream_interval"),
        *("return_progress", "response_fields", "return_cached_tokens_details"),
        *("return_prompt_text", "return_token_offsets", "return_mm_kwargs", "return_meta_info"),
        *("vllm_xargs", "kv_transfer_params", "ec_transfer_params", "custom_params", "steps"),
        *("width", "height", "context_management", "samplers"),
    }
)


class Refused(NamedTuple):
    """A field that would change the answer, unless its value asks for nothing; null always does."""

    neutral: tuple[object, ...] = ()
    advice: str = ""


_ONE = "send 1, and ask again for another answer"
_PENALTY = "send 0, or leave it out"
_OFF = "leave it out"
_TOOLS = "tools are called in chats: send messages, to a chat's endpoint"
_FORMAT = "send response_format"
_LOGPROBS = "send logprobs, of a chat or a completion"
_STATELESS = "nothing is kept here: send the whole conversation"
_TEXT_ONLY = "only text is read and written"
_IDS = "token ids are not told"

REFUSED: Mapping[str, Refused] = {
    "n": Refused((1,), _ONE),
    "n_cmpl": Refused((1,), _ONE),
    "best_of": Refused((1, 0), "chats have n answers; send a completion, or n"),
    "use_beam_search": Refused((False,), _OFF),
    "echo": Refused((False,), "put prompt and answer together yourself"),
    "suffix": Refused(("",), "text between two others cannot be filled in"),
    "tools": Refused(([],), _TOOLS),
    "tool_choice": Refused(("none", "auto", {"type": "none"}, {"type": "auto"}), _TOOLS),
    "functions": Refused(([],), _TOOLS),
    "function_call": Refused(("none", "auto"), _TOOLS),
    "mcp_servers": Refused(([],), _TOOLS),
    "web_search_options": Refused((), "this server looks nothing up"),
    "format": Refused(("",), _FORMAT),
    "output_config": Refused(({},), _FORMAT),
    "logprobs": Refused((False,), _LOGPROBS),
    "top_logprobs": Refused((0,), _LOGPROBS),
    "prompt_logprobs": Refused((), "ask for a chat or a completion"),
    "logprob_token_ids": Refused(([],), _LOGPROBS),
    "n_probs": Refused((0,), _LOGPROBS),
    "dry_multiplier": Refused((0,), _PENALTY),
    "repetition_detection": Refused((), _OFF),
    "bad_words": Refused(([],), _OFF),
    "allowed_token_ids": Refused(([],), _OFF),
    "top_a": Refused((0,), "send 0, or use top_p"),
    "top_n_sigma": Refused((-1, 0), "send -1, or use top_p"),
    "tfs_z": Refused((1,), "send 1, or use top_p"),
    "typical_p": Refused((1,), "send 1, or use top_p"),
    "xtc_probability": Refused((0,), _PENALTY),
    "mirostat": Refused((0,), _PENALTY),
    "dynatemp_range": Refused((0,), "send 0, and a temperature"),
    "adaptive_target": Refused((-1,), _OFF),
    "custom_logit_processor": Refused((), _OFF),
    "watermarking": Refused((False,), _OFF),
    "n_indent": Refused((0,), _PENALTY),
    "stop_regex": Refused(("", []), "send strings as stop"),
    "no_stop_trim": Refused((False,), "the answer ends before its stop string"),
    "include_stop_str_in_output": Refused((False,), "the answer ends before its stop string"),
    "skip_special_tokens": Refused((True,), "special tokens make no text here"),
    "add_special_tokens": Refused((False, True), "the tokenizer and its template decide"),
    "truncate_prompt_tokens": Refused((-1,), "shorten the prompt yourself"),
    "truncation_side": Refused((), "shorten the prompt yourself"),
    "thinking_token_budget": Refused((-1,), "send reasoning_effort"),
    "thinking_budget_tokens": Refused((-1,), "send reasoning_effort"),
    "thinking": Refused(({"type": "disabled"}, False), "send reasoning_effort"),
    "documents": Refused(([],), "put their text into a message"),
    "chat_template": Refused(("",), "only the verifier's operator says which template runs"),
    "template": Refused(("",), "only the verifier's operator says which template runs"),
    "lora": Refused(([],), "one model is served, as it is"),
    "lora_path": Refused(("", []), "one model is served, as it is"),
    "task": Refused((), _OFF),
    "modalities": Refused((["text"],), _TEXT_ONLY),
    "audio": Refused((), _TEXT_ONLY),
    "image": Refused((), _TEXT_ONLY),
    "images": Refused(([],), _TEXT_ONLY),
    "input_ids": Refused(([],), "send messages, or a prompt as text"),
    "context": Refused(([],), _STATELESS),
    "previous_response_id": Refused((), _STATELESS),
    "conversation": Refused((), _STATELESS),
    "container": Refused((), _STATELESS),
    "session_params": Refused(({},), _STATELESS),
    "background": Refused((False,), "stream the answer, or wait for it"),
    "include": Refused(([],), "only text comes back"),
    "return_token_ids": Refused((False,), _IDS),
    "return_tokens": Refused((False,), _IDS),
    "return_prompt_token_ids": Refused((False,), _IDS),
    "return_hidden_states": Refused((False,), "hidden states are not told"),
    "return_routed_experts": Refused((False,), "the verifier keeps them for itself"),
}


def ignored_fields(
    fields: Mapping[str, Any], honoured: Collection[str], *, parent: str = ""
) -> tuple[str, ...]:
    """The names of what is taken and not followed, for a request to an endpoint.

    `parent` goes before every name.

    Raises:
        RequestRefused: a field would change the answer; the sentence says what to do.
    """
    ignored = []
    for name, value in fields.items():
        if name in honoured or name in HARMLESS or value is None:
            continue
        if name not in REFUSED:
            ignored.append(parent + name)
        elif not _asks_for_nothing(value, REFUSED[name].neutral):
            if name not in ("tools", "functions") or not _calls_none(fields):
                sentence = f"{parent}{name} = {shown(value)}: not supported; {REFUSED[name].advice}"
                raise RequestRefused(sentence, parent + name)
            ignored.append(parent + name)
    return tuple(ignored[: MAX_IGNORED_NAMES + 1])


def ignored_header(names: Collection[str]) -> dict[str, str]:
    """The response header that names them: bounded, printable, of ASCII alone; none: no header."""
    if not names:
        return {}
    cleaned = [_cleaned(name) for name in list(names)[:MAX_IGNORED_NAMES]]
    rest = [] if len(names) <= MAX_IGNORED_NAMES else ["..."]
    return {IGNORED_HEADER: ", ".join([*cleaned, *rest])}


def _cleaned(name: str) -> str:
    ascii_only = one_line(name, MAX_NAME_CHARACTERS).encode("ascii", "backslashreplace").decode()
    return ascii_only.replace(",", "\\x2c")[:MAX_NAME_CHARACTERS]


def _asks_for_nothing(value: object, neutral_values: tuple[object, ...]) -> bool:
    return any(
        value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
        for neutral in neutral_values
    )


def _calls_none(fields: Mapping[str, Any]) -> bool:
    """Whether a client that names tools says that none may be called."""
    return fields.get("tool_choice", fields.get("function_call")) in ("none", {"type": "none"})
