# SPDX-License-Identifier: Apache-2.0
"""One of several training processes; started by torchrun with a JSON list of runs."""

from __future__ import annotations

import json
import sys

import torch.distributed as dist

from wam.policies.aha_wam.training.config import parse_config
from wam.policies.aha_wam.training.recipe import distill, train

if __name__ == "__main__":
    dist.init_process_group("gloo")
    for run in json.loads(sys.argv[1]):
        function = {"train": train, "distill": distill}[run["kind"]]
        function(parse_config(run["values"]), resume=run.get("resume", False), until=run.get("until"))
    dist.destroy_process_group()
