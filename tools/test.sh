#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, in two runs: those without ROS on two workers; then those over real DDS, one after another, since each starts
# several processes. With arguments: one run of pytest with them. Called by `make test`.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
pytest=(.venv/bin/python -m pytest)
if [ $# -gt 0 ]; then exec "${pytest[@]}" "$@"; fi

status=0
"${pytest[@]}" -m "not ros" --numprocesses 2 --dist worksteal || status=$?
"${pytest[@]}" -m ros || status=$?
exit $status
