# SPDX-License-Identifier: Apache-2.0
"""Where a policy computes: the device that was asked for, or the best one that there is."""

from __future__ import annotations

import pytest

from wam.core.errors import BundleError
from wam.devices.loader import load_robot
from wam.policies.loading import load_policy
from wam.runtime.policy import PolicyRequest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("cuda", "device"), [(True, "cuda:0"), (False, "cpu")])
def test_auto_takes_a_cuda_device_where_there_is_one(
    cuda: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wam.policies.bundles import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert choose_device("auto") == device
    assert choose_device("cuda:3") == "cuda:3", "what was asked for is never replaced"


def test_a_policy_tells_where_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = load_robot("piper")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loaded = load_policy(PolicyRequest("aha_wam/random", True, True, device="auto"), robot=robot)
    assert loaded.device == "cpu"
    with pytest.raises(BundleError, match="the device is absent"):
        load_policy(PolicyRequest("aha_wam/random", True, True, device="cuda:0"), robot=robot)


def test_a_cpu_computes_in_float32_whatever_the_weights_are_stored_in() -> None:
    """Half precision is emulated on a CPU: the DUST policy that ships took twice the time for a chunk, and five times
    that for a prefill."""
    from wam.policies.bundles import default_precision

    assert default_precision("bfloat16", "cpu") is torch.float32
    assert default_precision("float16", torch.device("cpu")) is torch.float32
    assert default_precision("float32", "cpu") is None
    assert default_precision("bfloat16", "cuda:0") is None
