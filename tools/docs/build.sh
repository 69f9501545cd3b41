#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the documentation as a site in build/docs, in an environment of its own (build/docs-venv, Python 3.11 or newer).
#   tools/docs/build.sh            the site; any warning is an error
#   tools/docs/build.sh --serve    the site on http://127.0.0.1:8000, built anew when a page changes
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export NO_MKDOCS_2_WARNING=1

venv=build/docs-venv
fits='import sys; sys.exit(sys.version_info < (3, 11))'
wanted=$(cat requirements/docs.txt requirements/base.txt requirements/constraints.txt | cksum)
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ] || ! "$venv/bin/python" -c "$fits" 2>/dev/null; then
  python=""
  for one in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$one" -c "$fits" 2>/dev/null; then python=$one; break; fi
  done
  if [ -z "$python" ]; then
    echo "error: the documentation needs Python 3.11 or newer; run: make docs PYTHON=/path/to/python3.12" >&2
    exit 1
  fi
  echo "[1/2] MkDocs in $venv"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt -c requirements/base.txt
  echo "$wanted" >"$venv/wanted"
fi
if [ "${1:-}" = --serve ]; then
  exec "$venv/bin/mkdocs" serve
fi
echo "[2/2] the site"
"$venv/bin/mkdocs" build --strict --quiet
"$venv/bin/python" tools/docs/check_site.py build/docs
