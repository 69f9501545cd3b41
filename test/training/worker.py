# SPDX-License-Identifier: Apache-2.0
"""One of several training processes; started by torchrun with a JSON list of runs."""

from __future__ import annotations

import json
import sys

import torch.distributed as dist

from wam.policies.aha_wam.training.config import AhaWamTrainConfig
from wam.policies.aha_wam.training.recipe import DISTILL_RECIPE, RECIPE
from wam.training.config_reading import parse_config
from wam.training.runner import run_recipe

if __name__ == "__main__":
    dist.init_process_group("gloo")
    for run in json.loads(sys.argv[1]):
        recipe = {"train": RECIPE, "distill": DISTILL_RECIPE}[run["kind"]]
        config = parse_config(AhaWamTrainConfig, run["values"])
        run_recipe(recipe, config, resume=run.get("resume", False), until=run.get("until"))
    dist.destroy_process_group()
