# SPDX-License-Identifier: Apache-2.0
"""`wam doctor` on time: the kernel's clock, chrony, PTP, and real-time priorities."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from wam.cli.machine_check import Check, Outcome
from wam.cli.timing_checks import (
    KernelClock,
    ask,
    chrony_offset_s,
    clock_check,
    kernel_clock,
    ptp_offset_s,
    realtime_check,
)

CHRONY = (
    "0A4D0001,10.77.0.1,11,1795968000.123456789,-0.000000213,0.000000125,0.000001470,-12.345,0.001,0.120,"
    "0.000043210,0.000012345,64.2,Normal\n"
)
CHRONY_ALONE = "7F7F0101,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised\n"
PTP = """sending: GET TIME_STATUS_NP
	0242ac.fffe.110002-0 seq 0 RESPONSE MANAGEMENT TIME_STATUS_NP
		master_offset              -1250
		ingress_time               1795968000123456789
		gmPresent                  true
		gmIdentity                 0242ac.fffe.110001
"""
GOOD, BAD = KernelClock(True, 0.0021), KernelClock(False, 16.0)


def clock(kernel: KernelClock, **answers: str) -> Check:
    def asking(command: Sequence[str]) -> str:
        return answers.get(command[0], "")

    return clock_check(kernel, asking=asking)


def test_a_clock_that_nothing_disciplines_is_a_warning_with_what_to_install() -> None:
    found = clock(BAD)
    assert (found.outcome, found.found) == (Outcome.WARN, "not synchronised (kernel)")
    assert "apt install chrony" in found.remedy


def test_the_kernel_alone_says_that_a_clock_is_synchronised() -> None:
    """systemd-timesyncd answers nobody; the kernel knows."""
    found = clock(GOOD)
    assert (found.outcome, found.found) == (Outcome.OK, "synchronised (kernel: at most 2.1 ms off)")


def test_a_daemon_that_is_there_measures_the_offset() -> None:
    assert clock(GOOD, chronyc=CHRONY).found.endswith("chrony: 0.000 ms off")
    # A PTP daemon that steers the network card's clock leaves the kernel's status alone.
    assert clock(BAD, pmc=PTP).outcome is Outcome.OK
    assert clock(BAD, pmc=PTP).found.endswith("PTP: 0.001 ms off")


def test_a_clock_that_has_not_settled_is_a_warning() -> None:
    found = clock(GOOD, chronyc=CHRONY.replace("-0.000000213", "0.350000000"))
    assert found.outcome is Outcome.WARN
    assert "350.000 ms off" in found.found


@pytest.mark.parametrize(
    "answer", ["", "506 Cannot talk to daemon\n", CHRONY_ALONE, CHRONY.replace("-0.000000213", "x")]
)
def test_chrony_without_a_source_has_no_offset(answer: str) -> None:
    assert chrony_offset_s(answer) is None
    assert chrony_offset_s(CHRONY) == pytest.approx(213e-9)


@pytest.mark.parametrize("answer", ["", "sending: GET TIME_STATUS_NP\n", PTP.replace("true", "false")])
def test_ptp_without_a_master_has_no_offset(answer: str) -> None:
    assert ptp_offset_s(answer) is None
    assert ptp_offset_s(PTP) == pytest.approx(1.25e-6)


def test_the_kernel_of_this_machine_answers() -> None:
    found = kernel_clock()
    assert found is not None
    assert found.max_error_s >= 0


def test_a_tool_that_is_not_there_or_fails_has_no_answer() -> None:
    assert ask(["no-such-tool"]) == ""
    assert ask(["false"]) == ""


@pytest.mark.parametrize(
    ("allowed", "version", "outcome", "words"),
    [
        (True, "#1 SMP PREEMPT_RT", Outcome.OK, ""),
        (True, "#1 SMP PREEMPT_DYNAMIC", Outcome.INFO, "realtime-kernel"),
        (False, "#1 SMP PREEMPT_RT", Outcome.WARN, "limits.d/realtime.conf"),
    ],
)
def test_priority_and_kernel_have_their_remedies(
    allowed: bool, version: str, outcome: Outcome, words: str
) -> None:
    found = realtime_check(allowed=lambda: allowed, version=version)
    assert found.outcome is outcome
    assert words in found.remedy
    assert bool(found.remedy) == bool(words)
