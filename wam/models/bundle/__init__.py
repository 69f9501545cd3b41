# SPDX-License-Identifier: Apache-2.0
"""Policy bundles: a directory with `policy.yaml`, `stats.json` and safetensors weights."""

from wam.models.bundle.bundle import Bundle, contract_hash, open_bundle, state_training, write_bundle
from wam.models.bundle.header import TensorInfo
from wam.models.bundle.manifest import BundleCamera, Manifest
from wam.models.bundle.weights import (
    WeightsIndex,
    load_into,
    open_weights,
    read_tensors,
    save_weights,
)

__all__ = [
    "Bundle",
    "BundleCamera",
    "Manifest",
    "TensorInfo",
    "WeightsIndex",
    "contract_hash",
    "load_into",
    "open_bundle",
    "open_weights",
    "read_tensors",
    "save_weights",
    "state_training",
    "write_bundle",
]
