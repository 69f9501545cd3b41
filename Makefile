# SPDX-License-Identifier: Apache-2.0
# make demo   a simulated robot does a task, moved by planner and executor over real ROS 2; writes a report with the video
# make test   all tests          make lint    style, types, import rules
# make bench  the benchmarks     make clean   remove .venv and caches
# make faults  inject every named fault into the simulated arms; writes docs/reference/faults.md
# make device-events  stop, jog and return every simulated arm; writes docs/reference/device-events.md
# make policies  play shipped policies and controls on the same seeds; writes docs/reference/policies.md
# make claims    play what the papers claim, as far as shipped bundles can; writes docs/explanation/results.md
# make docs   the documentation as a site in build/docs, in an environment of its own; needs no set-up
# make setup  only the set-up that all other targets run first: .venv, pinned requirements, ROS 2 wheels, wam_msgs
#
# PYTHON=python3.12   the Python used to create .venv (3.10-3.13)
# WAM_INSTALLER=pip   install with pip instead of uv
# ARGS=...            additional arguments: make test ARGS="test/core -x"; make demo ARGS="--seconds 10"
# WAM_DOMAIN_ID=7     the ROS domain (1..101) of demos, tests and benches; by default one of their own

PYTHON ?= python3
ARGS ?=
BENCHES ?= context chunk
RUN := ./tools/setup/env.sh
export PYTHON

.PHONY: help setup demo test lint bench faults device-events policies claims docs clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup:
	@./tools/setup/setup.sh

demo: setup
	@$(RUN) .venv/bin/wam demo piper $(ARGS)

test: setup
	@$(RUN) tools/test.sh $(ARGS)

lint: setup
	@$(RUN) .venv/bin/ruff check .
	@$(RUN) .venv/bin/ruff format --check .
	@$(RUN) .venv/bin/mypy
	@$(RUN) .venv/bin/lint-imports

bench: setup
	@status=0; for name in $(BENCHES); do $(RUN) .venv/bin/wam bench $$name $(ARGS) || status=1; done; exit $$status

faults: setup
	@WAM_FAULT_TABLE=docs/reference/faults.md $(RUN) .venv/bin/python -m pytest test/faults/test_fault_table*.py $(ARGS)

device-events: setup
	@WAM_DEVICE_TABLE=docs/reference/device-events.md $(RUN) .venv/bin/python -m pytest test/runtime/safety/test_device_events.py $(ARGS)

policies: setup
	@$(RUN) .venv/bin/wam eval compare config/evaluation/policies.yaml --out build/policies --page docs/reference/policies.md $(ARGS)

claims: setup
	@$(RUN) .venv/bin/wam eval compare config/evaluation/claims.yaml --out build/claims --page docs/explanation/results.md $(ARGS)

docs:
	@./tools/docs/build.sh $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build wam_deploy.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
