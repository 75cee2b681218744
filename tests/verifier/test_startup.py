"""A verifier measures its target when it starts, unless a saved curve belongs to just that one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from shared.errors import ConfigError, RequestRefused
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.model_defaults import PLAIN_DEFAULTS, ModelDefaults
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.loopback import FLAT_CURVE
from tests.support.ends.planning import make_planner
from tests.support.ends.scripted import TARGET, VOCAB_SIZE
from tests.support.programs.command import run
from verifier import startup
from verifier.config import LimitsSection, StateSection, TargetSection, VerifierConfig
from verifier.configured_rounds import configured_policy, round_settings
from verifier.cost_curve.curve import CurveSubject
from verifier.policies import AwcPolicy, BudgetLimits, FixedPolicy, GreedyPolicy, RatePolicy
from verifier.policies.awc_weights import SHIPPED
from verifier.rounds.planner import RoundSettings
from verifier.rounds.settings import RoundsSection
from verifier.scheduling.schedule_settings import ScheduleSettings
from verifier.server.configured_limits import device_limits
from verifier.server.device_limits import DeviceLimits
from verifier.startup import LoadedTarget, load_service, make_service, replace_policy, save_curve
from verifier.streams.stream_request import ServiceLimits
from verifier.target.precision import GenerationDefaults
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer

SUBJECT = CurveSubject(model="scripted", device="CPU", dtype="float32", quantisation="none")
MEASURING = (
    "measuring 12 rounds of the target; `goodspeed-verifier profile` measures more of them, once"
)


class Starts:
    """Starts of one verifier over a scripted target; says what each of them told."""

    def __init__(self, config: VerifierConfig, patch: pytest.MonkeyPatch) -> None:
        self._config = config
        self._patch = patch

    def start(self, subject: CurveSubject = SUBJECT) -> list[str]:
        target = ScriptedTarget(ScriptedModel(8, seed=1), num_blocks=4)
        loaded = LoadedTarget(target, ScriptedTokenizer(8), subject, False)
        self._patch.setattr(startup, "load_configured_target", lambda *_: loaded)
        told: list[str] = []
        service = load_service(self._config, told.append)
        assert subject == service.planner.curve.subject
        save_curve(self._config, service)
        return told


def starts(directory: Path | None, patch: pytest.MonkeyPatch) -> Starts:
    rounds = RoundsSection(max_round_tokens=4, prefill_chunk_tokens=4)
    return Starts(VerifierConfig(rounds=rounds, state=StateSection(directory)), patch)


def test_the_second_start_takes_the_curve_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = starts(tmp_path, monkeypatch)
    assert [MEASURING] == verifier.start()
    assert [] == verifier.start()


def test_a_curve_that_cannot_be_written_is_a_warning_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes, *, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(startup, "replace_file", full)
    assert [MEASURING] == starts(tmp_path, monkeypatch).start()
    said = "the target's speed is not kept, so the next start measures it: "
    assert said in caplog.text
    assert "No space left on device" in caplog.text


def test_without_a_directory_every_start_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = starts(None, monkeypatch)
    assert [MEASURING] == verifier.start()
    assert [MEASURING] == verifier.start()


def test_another_device_measures_again_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = starts(tmp_path, monkeypatch)
    verifier.start()
    assert [MEASURING] == verifier.start(msgspec.structs.replace(SUBJECT, device="NVIDIA H100"))
    assert "a cost curve of device CPU instead of NVIDIA H100; measuring again" in caplog.text


@pytest.mark.parametrize("generation_defaults", ["model", "none"])
def test_the_models_own_sampling_is_told_unless_it_is_set_aside(
    generation_defaults: GenerationDefaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ModelDefaults(
        SamplingParameters(temperature=0.6, top_k=20, top_p=0.95),
        LogitProcessors(repetition_penalty=1.05),
    )
    config = VerifierConfig(
        target=TargetSection(generation_defaults=generation_defaults),
        rounds=RoundsSection(max_round_tokens=4, prefill_chunk_tokens=4),
    )
    target = ScriptedTarget(ScriptedModel(8, seed=1), num_blocks=4)
    loaded = LoadedTarget(target, ScriptedTokenizer(8), SUBJECT, False, own)
    monkeypatch.setattr(startup, "load_configured_target", lambda *_: loaded)
    told: list[str] = []
    service = load_service(config, told.append)
    if generation_defaults == "none":
        assert ([MEASURING], PLAIN_DEFAULTS) == (told, service.model_defaults)
        return
    sentence = (
        "where a request is silent, the model's own sampling holds: temperature 0.6, top_k 20, "
        "top_p 0.95, repetition_penalty 1.05"
    )
    assert ([MEASURING, sentence], own) == (told, service.model_defaults)


def test_what_is_set_about_prompts_and_the_cache_reaches_the_planner() -> None:
    rounds = RoundsSection(
        prefill_chunk_tokens=7,
        prefill_slowdown_limit=0.3,
        device_prefill_slowdown_limit=0.2,
        reserved_output_tokens=9,
        prefix_sharing="all",
    )
    settings = round_settings(rounds)
    assert 7 == settings.prefill_chunk_tokens
    assert 0.3 == settings.prefill_slowdown_limit
    assert 0.2 == settings.device_prefill_slowdown_limit
    assert 9 == settings.reserved_output_tokens
    assert "all" == settings.prefix_sharing


def test_what_a_device_may_consume_comes_from_the_limits() -> None:
    section = LimitsSection(
        max_streams_per_device=3,
        max_context_tokens_per_device=5000,
        max_messages_per_second=100,
        max_bytes_per_second=2000,
    )
    expected = DeviceLimits(
        messages_per_second=100,
        bytes_per_second=2000,
        context_tokens=5000,
        max_streams=3,
        prompt_bytes=4 << 20,
    )
    assert expected == device_limits(section, stream_tokens=32_768)


def test_a_device_may_by_default_have_what_its_streams_come_to() -> None:
    expected = DeviceLimits(
        messages_per_second=20_000,
        bytes_per_second=16 << 20,
        context_tokens=None,
        max_streams=8,
        prompt_bytes=256 << 10,
    )
    assert expected == device_limits(LimitsSection(), stream_tokens=2048)


@pytest.mark.parametrize(("max_prompt_tokens", "expected"), [("auto", 99_999), (4096, 4096)])
def test_no_default_refuses_a_prompt_that_the_context_holds(
    max_prompt_tokens: int | Literal["auto"], expected: int
) -> None:
    config = VerifierConfig(
        target=TargetSection(context_tokens=100_000),
        limits=LimitsSection(max_prompt_tokens=max_prompt_tokens),
    )
    target = ScriptedTarget(TARGET, num_blocks=8192, context_tokens=1 << 17)
    service = make_service(config, target, ScriptedTokenizer(VOCAB_SIZE), FLAT_CURVE)
    service.limits.check_prompt(expected, "prompt")
    with pytest.raises(RequestRefused, match=f"prompt of {expected + 1} tokens exceeds {expected}"):
        service.limits.check_prompt(expected + 1, "prompt")


@pytest.mark.parametrize(
    "limits", [BudgetLimits, DeviceLimits, RoundSettings, ScheduleSettings, ServiceLimits]
)
def test_only_the_settings_have_defaults(limits: type[msgspec.Struct]) -> None:
    assert [] == [field.name for field in msgspec.structs.fields(limits) if not field.required]


# --- what is said at a start ----------------------------------------------------------------------


def test_libraries_warn_of_nothing_that_this_program_does_not_use(tmp_path: Path) -> None:
    script = (
        "from shared.daemon.command_line import set_up_logging\n"
        "from verifier.config import TargetSection, VerifierConfig\n"
        "from verifier.startup import load_configured_target\n"
        "set_up_logging('info')\n"
        f"config = VerifierConfig(target=TargetSection(model={str(tmp_path)!r}))\n"
        "load_configured_target(config, lambda sentence: None)\n"
    )
    _, said, errors = run(["-c", script])
    assert "" == said
    before_the_error, _, _ = errors.partition("Traceback")
    assert "ModelError" in errors
    assert "" == before_the_error


def test_a_running_planner_takes_over_another_policy_and_what_goes_with_it() -> None:
    planner = make_planner(policy=FixedPolicy(4), max_round_tokens=256, max_draft_length=8)
    rounds = RoundsSection(
        policy="greedy",
        slowdown_limit=0.2,
        guard=False,
        max_draft_length=3,
        max_round_tokens=99,
        prefill_chunk_tokens=9,
    )
    replace_policy(planner, rounds)
    schedule = planner.settings.schedule
    assert isinstance(planner.policy, GreedyPolicy)
    assert (0.2, 256) == (schedule.limits.slowdown_limit, schedule.limits.max_round_tokens)
    assert not schedule.uses_guard
    assert 8 == schedule.max_draft_length, "a round was made for that"


def test_a_policy_that_is_in_force_goes_on() -> None:
    planner = make_planner(policy=GreedyPolicy())
    policy = planner.policy
    replace_policy(planner, RoundsSection(policy="greedy", slowdown_limit=1.0))
    assert planner.policy is policy


def test_weights_of_ones_own_are_taken_over_by_a_running_planner(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    content = msgspec.json.decode(SHIPPED.read_bytes())
    own.write_bytes(msgspec.json.encode({**content, "out_bias": 99.0}))
    planner = make_planner(policy=configured_policy(RoundsSection(policy="awc")))
    before = planner.policy
    replace_policy(planner, RoundsSection(policy="awc", awc_weights=own))
    assert isinstance(planner.policy, AwcPolicy)
    assert planner.policy is not before


def test_weights_that_are_wrong_are_told_all_at_once_with_their_settings(tmp_path: Path) -> None:
    broken, old = tmp_path / "broken.json", tmp_path / "old.json"
    broken.write_text("{}")
    content = msgspec.json.decode(SHIPPED.read_bytes())
    old.write_bytes(msgspec.json.encode({**content, "version": 0}))
    rounds = RoundsSection(policy="awc", awc_weights=broken, awc_waiting_weights=old)
    with pytest.raises(ConfigError) as caught:
        configured_policy(rounds)
    first, second = caught.value.problems
    assert first.startswith(f"rounds.awc_weights: {broken}:1: is no file of AWC's weights")
    assert second.startswith(f"rounds.awc_waiting_weights: {old}:1: version = 0: must be 1")
    # Of another policy they are not read.
    others = RoundsSection(policy="rate", awc_weights=broken)
    assert isinstance(configured_policy(others), RatePolicy)
