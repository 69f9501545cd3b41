#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All tests, in three runs: those without ROS on two workers; then those over real DDS, a file at a time on two workers,
# each in ROS domains of its own; then, one by one, the few of them that need the machine for themselves. What failed in
# any of them is listed at the end.
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

reports=build/tests
rm -rf $reports
status=0
run() {  # run REPORT ARGUMENTS...
  local report=$reports/$1.xml; shift
  "${pytest[@]}" --junit-xml="$report" "$@"
  local outcome=$?
  if [ $outcome -ne 0 ] && ! { [ "${report##*/}" = alone.xml ] && [ $outcome -eq $NO_TESTS ]; }; then status=$outcome; fi
}
run plain -m "not ros" --numprocesses 2 --dist worksteal
run ros -m "ros and not alone" --numprocesses 2 --dist loadfile --no-loadscope-reorder
run alone -m "ros and alone"
if [ $status -ne 0 ]; then .venv/bin/python tools/failures.py $reports/*.xml; fi
exit $status
