"""Judgements as lines for a person, drafts beside each other. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_agent.judging.judgement import DRAFT_LENGTHS, Judgement
from edge_agent.judging.overlap import Rule


def judgement_lines(
    judgements: Mapping[str, Judgement], file_bytes: Mapping[str, int]
) -> Iterator[str]:
    """A table of speeds, and one of acceptance by domain for each rule."""
    width = max(len(name) for name in judgements)
    first = next(iter(judgements.values()))
    heads = (("MB", 6), ("tokens/s", 8), ("times", 5), ("drawn/s", 8), ("prompt/s", 8))
    yield "  ".join([f"{'draft':{width}}", *(f"{head:>{size}}" for head, size in heads)])
    for name, found in judgements.items():
        times = found.tokens_per_second / first.tokens_per_second
        yield (
            f"{name:{width}}  {file_bytes[name] / 1e6:6.1f}  {found.tokens_per_second:8.0f}  "
            f"{times:5.2f}  {found.drawn_per_second:8.0f}  {found.prompt_tokens_per_second:8.0f}"
        )
    for rule in Rule:
        if rule in first.accepted:
            yield ""
            yield from _rule_lines(rule, judgements, width)


def _rule_lines(rule: Rule, judgements: Mapping[str, Judgement], width: int) -> Iterator[str]:
    domains = sorted(next(iter(judgements.values())).accepted[rule])
    sizes = [max(6, len(domain)) for domain in domains]
    titles = "  ".join(f"{domain:>{size}}" for domain, size in zip(domains, sizes, strict=True))
    rounds = "  ".join(f"{f'of {length}':>5}" for length in DRAFT_LENGTHS)
    yield f"accepted, {rule}; tokens of a round with drafts of so many; by domain"
    yield f"{'':{width}}  {'mean':>6}  {rounds}  {titles}"
    for name, found in judgements.items():
        mean, by_domain = found.mean(rule), found.accepted[rule]
        tokens = "  ".join(f"{number:5.2f}" for number in mean.round_tokens)
        rates = "  ".join(
            f"{by_domain[domain].rate:{size}.3f}"
            for domain, size in zip(domains, sizes, strict=True)
        )
        yield f"{name:{width}}  {mean.rate:6.3f}  {tokens}  {rates}"
