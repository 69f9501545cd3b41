#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, in three runs: those without ROS on two workers; then those over real DDS, a file at a time on two workers,
# each in ROS domains of its own; then, one by one, the few of them that need the machine for themselves.
#   tools/test.sh --shard 1/3         the first of three parts of them, for three machines (docs/how-to/ci.md)
#   tools/test.sh test/core -x        one run of pytest with these arguments
# Called by `make test`.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# The tests start hundreds of Python processes: without bytecode each would compile its modules anew.
unset PYTHONDONTWRITEBYTECODE
pytest=(.venv/bin/python -m pytest)
NO_TESTS=5  # pytest's exit code where nothing was collected, as in a shard without a test of the last run

if [ $# -eq 1 ] && [[ $1 == --shard=* ]]; then set -- --shard "${1#--shard=}"; fi
if [ $# -eq 2 ] && [ "$1" = --shard ]; then
  pytest+=(--shard "$2")
elif [ $# -gt 0 ]; then
  exec "${pytest[@]}" "$@"
fi

status=0
"${pytest[@]}" -m "not ros" --numprocesses 2 --dist worksteal || status=$?
"${pytest[@]}" -m "ros and not alone" --numprocesses 2 --dist loadfile --no-loadscope-reorder || status=$?
"${pytest[@]}" -m "ros and alone"
alone=$?
if [ $alone -ne 0 ] && [ $alone -ne $NO_TESTS ]; then status=$alone; fi
exit $status
