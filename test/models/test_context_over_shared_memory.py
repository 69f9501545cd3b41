# SPDX-License-Identifier: Apache-2.0
"""Torch tensors through shared memory: views without a copy, and a slot kept for as long as one lives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wam.core.context import ContextHeader, PlannerContext
from wam.core.errors import ContextReleased
from wam.core.transport.shared_memory import SharedMemoryPublisher, SharedMemoryReader
from wam.models.context_codec import TorchCodec


def test_a_tensor_held_after_release_keeps_its_slot_and_its_values(tmp_path: Path) -> None:
    """torch warned of read-only memory once a process, which the tests take for an error."""
    codec = TorchCodec(dict, dict)
    publisher = SharedMemoryPublisher(codec, max_slots=4, directory=tmp_path)
    reader = SharedMemoryReader(codec, directory=tmp_path)

    def context(version: int) -> PlannerContext:
        header = ContextHeader(version, 1, version, "a" * 64, "", 1, 1)
        return PlannerContext(header, {"k": torch.full((3, 5), version, dtype=torch.bfloat16)})

    lease = reader.open(context(1).header, publisher.publish(context(1)))
    tensor = lease.get().payload["k"]
    assert tensor.dtype is torch.bfloat16
    lease.release()
    with pytest.raises(ContextReleased):
        lease.get()
    for version in range(2, 9):
        publisher.publish(context(version))
    assert tensor.unique().tolist() == [1.0]
    assert publisher.leases() == 1
    del tensor
    assert publisher.leases() == 0
    publisher.close()
