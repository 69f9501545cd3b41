# SPDX-License-Identifier: Apache-2.0
"""`summary.json` (the same bytes at every repetition) and `timing.json` (host times). See docs/reference/summary.md."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from wam.core.clock import NS_PER_S
from wam.data.bag.content_hash import combined
from wam.evaluation.metrics.figures import Figures
from wam.evaluation.metrics.gate import checks_as_json
from wam.evaluation.replay.answers import answers_as_json
from wam.evaluation.replay.data import ReplayData
from wam.report.machine import machine_info
from wam.report.numbers import distribution, plain_number
from wam.report.statistics import interval_as_json

SUMMARY_SCHEMA = "wam/replay-summary/1"
TIMING_SCHEMA = "wam/replay-timing/1"


def build_summary(data: ReplayData, figures: Figures) -> dict[str, Any]:
    """Return the content of summary.json; it holds no time of the host.

    Args:
        data: the replay.
        figures: its figures.
    """
    options, contract, collector = data.options, data.contract, data.collector
    settings, safety = options.settings, collector.safety
    return {
        "schema": SUMMARY_SCHEMA,
        "verdict": figures.verdict,
        "gate_source": figures.gate_source.value,
        "answers": answers_as_json(figures.answers),
        "recording": {
            "name": options.bag.resolve().name,
            "duration_s": plain_number(data.duration),
            "start_ns": data.first_ns,
            "content_hash": combined(data.content),
            "gaps": [
                {"after_s": plain_number(data.seconds(gap.start_ns)), "length_s": gap.length_ns / NS_PER_S}
                for gap in data.gaps
            ],
            "messages": data.recording.message_count,
            "topics": {
                feed.topic: {
                    "type": feed.msgtype,
                    "role": feed.role.value,
                    "streams": list(feed.streams),
                    "content_hash": data.content[feed.topic],
                }
                for feed in data.binding.feeds.values()
            },
            "losses": [
                {
                    "topic": loss.topic,
                    "messages": loss.messages,
                    "seconds": None if loss.seconds is None else plain_number(loss.seconds),
                    "reason": loss.reason,
                }
                for loss in data.losses
            ],
            "skipped_topics": {topic.name: topic.unreadable for topic in data.recording.skipped},
            "metadata": dict(sorted(data.recording.custom.items())),
        },
        "robot": data.robot.name,
        "policy": {
            "name": options.policy_name,
            "kind": contract.kind,
            "contract_hash": contract.contract_hash,
            "cameras": list(contract.camera_names),
            "action_joints": list(contract.action_joints),
            "row_period_s": contract.control_period_ns / NS_PER_S,
            "chunk_rows": contract.chunk_rows,
            "horizon_rows": contract.horizon_rows,
            "backends": dict(data.backends),
        },
        "settings": {
            "mode": options.mode,
            "instruction": data.instruction,
            "seed": options.seed,
            "planner_latency_s": _seconds(settings.planner_latency_ns),
            "executor_latency_s": _seconds(settings.executor_latency_ns),
            "planner_period_s": settings.planner_period_ns / NS_PER_S,
            "executor_period_s": settings.executor_period_ns / NS_PER_S,
            "max_context_age_s": settings.max_context_age_ns / NS_PER_S,
            "strategy": settings.strategy.value,
            "time": "header stamps" if options.use_stamps else "receive time",
            "clock_corrections": {
                topic: {"offset_s": clock.offset_ns / NS_PER_S, "ppm": clock.ppm, "fit": clock.fit}
                for topic, clock in sorted(data.recording.clocks.items())
            },
            "reference": "recorded action" if data.from_action else "measured state",
            "lenient": options.lenient,
            **({"extra_filters": list(settings.extra_filters)} if settings.extra_filters else {}),
        },
        "metrics": dict(figures.metrics),
        "intervals": {name: interval_as_json(interval) for name, interval in figures.intervals.items()},
        "per_joint": _per_joint(data, figures),
        "per_group": _per_group(data, figures),
        "per_step": _per_step(data),
        "refusals": {
            f"{node}: {reason}": count for (node, reason), count in sorted(collector.refusals.items())
        },
        "safety": {
            "source": safety.source.value,
            "findings": {
                code: {"chunks": count, "example": safety.examples[code]}
                for code, count in sorted(safety.codes.items())
            },
            "ladder": {
                f"{rung.name}: {code}": {"times": count, "example": safety.examples[code]}
                for (rung, code), count in sorted(safety.causes.items())
            },
            "not_checked": safety.unchecked,
        },
        "faults": [f"{event.node}: {event.error}" for event in collector.faults],
        "stamps": {
            report.topic: {key: _plain(value) for key, value in asdict(report).items() if key != "topic"}
            for report in data.stamps
        },
        "clock_resets": collector.clock_resets(),
        "warnings": list(data.warnings),
        "gate": checks_as_json(figures.checks),
    }


def _per_joint(data: ReplayData, figures: Figures) -> dict[str, Any]:
    steps = data.collector.errors.per_joint_step()
    return {
        name: {
            "unit": figures.units[name],
            **{key: plain_number(value) for key, value in asdict(numbers).items()},
            "l1_per_step": [plain_number(value) for value in steps[:, i]],
        }
        for i, (name, numbers) in enumerate(figures.joints.items())
    }


def _per_group(data: ReplayData, figures: Figures) -> dict[str, Any]:
    """Return the means of every joint group; those in units are None where its joints have several."""
    entries: dict[str, Any] = {}
    for group in data.robot.groups:
        if group.name not in figures.groups:
            continue
        units = {figures.units[joint.name] for joint in group.joints if joint.name in figures.units}
        unit = units.pop() if len(units) == 1 else None
        entries[group.name] = {"unit": unit} | {
            key: plain_number(value) if unit is not None or key.endswith("_normalised") else None
            for key, value in asdict(figures.groups[group.name]).items()
        }
    return entries


def _per_step(data: ReplayData) -> dict[str, list[float | None]]:
    errors = data.collector.errors
    tables = zip(
        ("mse", "l1", "mse_normalised", "l1_normalised"),
        (*errors.per_step(), *errors.per_step(normalised=True)),
        strict=True,
    )
    return {name: [plain_number(value) for value in table] for name, table in tables}


def build_timing(data: ReplayData, *, wall: float, processor: float, peak_rss_mb: float) -> dict[str, Any]:
    """Return the content of timing.json: what this host needed.

    Args:
        data: the replay.
        wall: time of the run [s].
        processor: processor time of this process in it, all threads [s].
        peak_rss_mb: largest resident memory of the process [MB].
    """
    collector = data.collector
    results: dict[str, float | None] = {
        "wall_s": round(wall, 3),
        "processor_s": round(processor, 3),
        "realtime_factor": plain_number(data.duration / wall) if wall > 0 else None,
        "peak_rss_mb": round(peak_rss_mb, 1),
    }
    for name, sample in (
        ("l_prefill", collector.prefill_ns),
        ("l_chunk", collector.denoise_ns),
        ("plan_cycle", collector.plan_host_ns),
        ("chunk_cycle", collector.chunk_host_ns),
    ):
        summary = distribution(np.array(sample) * 1e-6)
        for label, value in (
            ("mean", summary.mean),
            ("p50", summary.p50),
            ("p99", summary.p99),
            ("p99_9", summary.p99_9),
            ("max", summary.maximum),
        ):
            results[f"{name}_{label}_ms"] = plain_number(value)
    l_chunk = results["l_chunk_mean_ms"]
    results["control_frequency_hz"] = plain_number(1e3 / l_chunk) if l_chunk else None
    return {"schema": TIMING_SCHEMA, "results": results, "machine": machine_info()}


def _plain(value: Any) -> Any:
    return plain_number(value) if isinstance(value, float) else value


def _seconds(value_ns: int | None) -> float | str:
    return "measured" if value_ns is None else value_ns / NS_PER_S
