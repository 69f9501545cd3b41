# SPDX-License-Identifier: Apache-2.0
"""Artefacts in two places: which of them is taken, and which one is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from wam.models.backends import artefacts
from wam.models.backends.artefacts import ArtefactStore, weights_digest
from wam.models.backends.backend import StageUnavailable

NAME = "denoise.0"
CONTRACT = "a" * 64
VERSIONS = {"opset": "23", "torch": "2.0.0"}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The place that is looked into last, with a good artefact."""
    place = tmp_path / "bundle"
    store(place).write(NAME, network(), graph=b"of the bundle", weights={})
    return place


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def store(
    *places: Path, contract: str = CONTRACT, torch_version: str = "2.0.0", runtime: str = "1.32.0"
) -> ArtefactStore:
    versions = {**VERSIONS, "torch": torch_version}
    return ArtefactStore(contract, places, versions=versions, runtime=runtime)


def test_of_two_good_artefacts_the_last_place_s_is_taken(bundle: Path, cache: Path) -> None:
    both = store(bundle, cache)
    both.write(NAME, network(), graph=b"exported here", weights={})
    assert both.read(NAME, network()).graph == b"exported here"
    assert store(cache, bundle).read(NAME, network()).graph == b"of the bundle"


def test_where_the_last_place_has_none_the_one_before_is_taken(bundle: Path, cache: Path) -> None:
    assert store(bundle, cache).read(NAME, network()).graph == b"of the bundle"


def test_an_artefact_of_another_torch_in_the_last_place_leaves_the_one_before(
    bundle: Path, cache: Path
) -> None:
    store(cache, torch_version="1.0.0").write(NAME, network(), graph=b"old", weights={})
    assert store(bundle, cache).read(NAME, network()).graph == b"of the bundle"


def test_an_artefact_in_quarantine_in_the_last_place_leaves_the_one_before(bundle: Path, cache: Path) -> None:
    both = store(bundle, cache)
    both.write(NAME, network(), graph=b"wrong", weights={})
    both.refuse(both.read(NAME, network()), "computes something else")
    assert both.read(NAME, network()).graph == b"of the bundle"


def test_where_no_place_has_a_good_one_the_reason_is_the_last_place_s(bundle: Path, cache: Path) -> None:
    both = store(bundle, cache)
    both.refuse(both.read(NAME, network()), "computes something else")
    with pytest.raises(StageUnavailable, match=r"was refused before \(computes something else\)"):
        both.read(NAME, network())
    store(cache, torch_version="1.0.0").write(NAME, network(), graph=b"old", weights={})
    with pytest.raises(StageUnavailable, match=r"cache.*torch 1\.0\.0, this is opset 23, torch 2\.0\.0"):
        both.read(NAME, network())


def test_what_was_refused_is_judged_anew_with_other_weights_or_by_another_runtime(
    cache: Path, tmp_path: Path
) -> None:
    """Quarantine went by the graph alone, which has no weights: of two policies that share a cache, one refused the
    other's, and a newer ONNX Runtime was never tried."""
    for seed, name in ((1, "one"), (2, "other")):
        store(tmp_path / name).write(NAME, network(seed), graph=b"graph", weights={})
    one, other = store(tmp_path / "one", cache), store(tmp_path / "other", cache)
    one.refuse(one.read(NAME, network(1)), "computes something else")
    with pytest.raises(StageUnavailable, match="was refused before"):
        one.read(NAME, network(1))
    assert other.read(NAME, network(2)).graph == b"graph"
    assert store(tmp_path / "one", cache, runtime="1.33.0").read(NAME, network(1)).graph == b"graph"


def test_what_was_refused_stays_so_until_it_is_exported_again(cache: Path) -> None:
    here = store(cache)
    here.write(NAME, network(), graph=b"graph", weights={})
    here.refuse(here.read(NAME, network()), "computes something else")
    with pytest.raises(StageUnavailable, match="was refused before"):
        store(cache).read(NAME, network())
    here.write(NAME, network(), graph=b"graph", weights={})
    assert store(cache).read(NAME, network()).graph == b"graph"


def test_weights_are_hashed_once_for_a_read_and_not_where_anything_else_differs(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes of weights were hashed for every place, before the contract was compared."""
    hashed: list[nn.Module] = []

    def digest(module: nn.Module) -> str:
        hashed.append(module)
        return weights_digest(module)

    store(cache).write(NAME, network(7), graph=b"of other weights", weights={})
    monkeypatch.setattr(artefacts, "weights_digest", digest)
    module = network()
    assert store(bundle, cache).read(NAME, module).graph == b"of the bundle"
    assert hashed == [module]
    for other in (
        store(bundle, cache, contract="b" * 64),
        store(bundle, cache, torch_version="1.0.0"),
        store(cache.parent / "nothing"),
    ):
        with pytest.raises(StageUnavailable):
            other.read(NAME, module)
    assert hashed == [module]
