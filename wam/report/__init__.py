# SPDX-License-Identifier: Apache-2.0
"""Reports: numbers, plots and one self-contained HTML page. No rclpy, no torch."""

from wam.report.demo import build_demo_report
from wam.report.machine import machine_info
from wam.report.recording import ChunkRecord, ContextRecord, DemoRecording, JointSeries, SafetyRecord

__all__ = [
    "ChunkRecord",
    "ContextRecord",
    "DemoRecording",
    "JointSeries",
    "SafetyRecord",
    "build_demo_report",
    "machine_info",
]
