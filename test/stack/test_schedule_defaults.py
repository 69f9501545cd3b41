# SPDX-License-Identifier: Apache-2.0
"""A policy runs on one schedule by default, whichever command starts it."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from wam.core.chunk.splice import Strategy
from wam.core.clock import seconds_to_ns
from wam.evaluation.replay.engine import ReplaySettings
from wam.evaluation.replay.scenario import DEFAULTS
from wam.runtime.schedule import SCHEDULE
from wam.stack.node_specs import StackOptions


def defaults_of(command: Any) -> dict[str, Any]:
    """Return option -> default of a command."""
    return {name: one.default for name, one in inspect.signature(command).parameters.items()}


def test_replay_scenario_eval_and_demo_have_the_same_defaults() -> None:
    """The planner's period was 0 in a replay and 0.25 s in a demo: a replay judged another schedule than ran."""
    from wam.cli import eval as eval_command
    from wam.cli import replay as replay_command

    replay, evaluation = defaults_of(replay_command.run), defaults_of(eval_command.evaluate)
    for name in ("planner_latency", "executor_latency", "planner_period", "executor_period"):
        value = getattr(SCHEDULE, name)
        assert float(replay[name]) == float(evaluation[name]) == DEFAULTS[name] == value, name
    assert replay["max_context_age"] == DEFAULTS["max_context_age"] == SCHEDULE.max_context_age
    assert replay["strategy"] == DEFAULTS["strategy"] == SCHEDULE.strategy.value
    stack = StackOptions("piper", "fake")
    assert (stack.plan_period, stack.chunk_period) == (SCHEDULE.planner_period, SCHEDULE.executor_period)


def test_a_replay_without_settings_of_its_own_takes_the_defaults() -> None:
    settings = ReplaySettings(planner_latency_ns=None, executor_latency_ns=None)
    assert settings.planner_period_ns == seconds_to_ns(SCHEDULE.planner_period)
    assert settings.executor_period_ns == seconds_to_ns(SCHEDULE.executor_period)
    assert settings.max_context_age_ns == seconds_to_ns(SCHEDULE.max_context_age)
    assert settings.strategy is SCHEDULE.strategy is Strategy.BLEND


def test_the_defaults_are_all_positive() -> None:
    values = [getattr(SCHEDULE, field.name) for field in fields(SCHEDULE)]
    assert all(value > 0 for value in values if isinstance(value, float))
