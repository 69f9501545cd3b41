#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Finds a Python that the suite runs on and hands over to prepare.py. Usage: PYTHON=python3 tools/setup/setup.sh
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP _ROS_WHEELS_BOOTSTRAP_COMPLETE

python=${PYTHON:-python3}
fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'

if ! "$python" -I -c "$fits" 2>/dev/null; then
  # A finished .venv carries on with the Python it was made from, whatever python3 means today.
  base=$(.venv/bin/python -I -S -c 'import sys; print(sys._base_executable)' 2>/dev/null)
  if [ -n "$base" ] && "$base" -I -c "$fits" 2>/dev/null; then
    python=$base
  elif ! command -v "$python" >/dev/null; then
    echo "error: '$python' was not found; install Python 3.10-3.13 (Debian: sudo apt install python3 python3-venv python3-dev)" >&2
    exit 1
  else
    other=$(for v in 3.12 3.11 3.13 3.10; do command -v "python$v" >/dev/null && "python$v" -I -c "$fits" 2>/dev/null && echo "python$v" && break; done)
    echo "error: '$python' is $("$python" --version 2>&1 | head -n 1), but Python 3.10-3.13 is needed; run: make setup PYTHON=${other:-/path/to/python3.12}" >&2
    exit 1
  fi
fi
exec "$python" -I tools/setup/prepare.py
