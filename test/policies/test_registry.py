# SPDX-License-Identifier: Apache-2.0
"""The table of policy kinds: folders of the suite, entry points of other packages, and what goes wrong with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from wam.core.errors import BundleError
from wam.policies import registry as table
from wam.policies.bundles import load_policy, open_policy
from wam.policies.dust import POLICY_KIND as DUST
from wam.policies.kind import PolicyKind
from wam.policies.registry import policy_kind, registry
from wam.training.options import TrainConfig

ROOT = Path(__file__).resolve().parents[2]

OTHER = PolicyKind(
    name="other", title="Other", policy="math", presets="math:pi", parameter_counts="math:sqrt"
)
OTHER_DUST = PolicyKind(
    name="dust", title="DUST", policy="math", presets="math:pi", parameter_counts="math:sqrt"
)

FOLDERS = {path.parent.name for path in (ROOT / "wam" / "policies").glob("*/policy.py")}

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return what replaces the entry points of this installation by name=value."""

    def put(**values: str) -> None:
        points = [EntryPoint(name, value, table.GROUP) for name, value in values.items()]
        monkeypatch.setattr(table, "entry_points", lambda group: points)
        registry.cache_clear()

    yield put
    registry.cache_clear()


def test_every_policy_folder_is_listed_and_declared_in_the_metadata() -> None:
    assert {"aha_wam", "dust", "ud_vla"} <= FOLDERS
    assert set(registry().kinds) >= FOLDERS
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert "POLICIES = (" + ", ".join(f'"{name}"' for name in sorted(FOLDERS)) + ")" in setup
    assert f'"{table.GROUP}": [f"{{name}} = wam.policies.{{name}}:{table.ATTRIBUTE}"' in setup


@pytest.mark.parametrize("kind", registry().kinds.values(), ids=lambda kind: kind.name)
def test_everything_a_row_refers_to_is_there(kind: PolicyKind) -> None:
    module = kind.load_policy_module()
    assert "eager" in module.BACKENDS
    presets = kind.load_presets()
    assert "tiny" in presets
    assert kind.count_parameters(presets["tiny"]())["total"] > 0
    assert all(callable(function) for function in kind.load_converters().values())
    assert all(callable(function) for function in kind.load_initialisers().values())
    for command in (kind.train, kind.distill):
        if command is not None:
            recipe = command.load()
            assert recipe.title.startswith(kind.title)
            assert issubclass(recipe.config_type, TrainConfig)


def test_built_in_policies_are_listed_without_any_metadata(install: Install) -> None:
    """A checkout on the import path, or one whose metadata is older than its source."""
    install()
    assert set(registry().kinds) == FOLDERS
    assert policy_kind("dust") is DUST


def test_a_policy_of_another_package_is_listed_beside_the_built_in_ones(install: Install) -> None:
    sys.modules["other_policy"] = other = type(sys)("other_policy")
    other.POLICY_KIND = OTHER  # type: ignore[attr-defined]
    try:
        install(other="other_policy:POLICY_KIND", dust="wam.policies.dust:POLICY_KIND")
        assert registry().kinds["other"] is OTHER
        assert not registry().faults
    finally:
        del sys.modules["other_policy"]


def test_a_faulty_entry_point_is_named_with_its_reason_and_hides_nothing_else(install: Install) -> None:
    install(
        gone="no_such_module:POLICY_KIND",
        number="math:pi",
        renamed="wam.policies.dust:POLICY_KIND",
    )
    found = registry()
    assert set(found.kinds) == FOLDERS
    assert "No module named 'no_such_module'" in found.faults["gone"]
    assert "not a PolicyKind" in found.faults["number"]
    assert "its kind 'dust'" in found.faults["renamed"]
    with pytest.raises(BundleError, match=r"'gone' cannot be used: .*no_such_module"):
        policy_kind("gone")
    with pytest.raises(BundleError, match="'gone' cannot be used"):
        open_policy("gone/random")


def test_another_package_cannot_take_the_name_of_a_policy(install: Install) -> None:
    sys.modules["other_policy"] = other = type(sys)("other_policy")
    other.POLICY_KIND = OTHER_DUST  # type: ignore[attr-defined]
    try:
        install(dust="other_policy:POLICY_KIND")
        assert registry().kinds["dust"] is DUST
        assert "already provides" in registry().faults["dust"]
    finally:
        del sys.modules["other_policy"]


def test_a_name_that_is_not_there_is_refused_with_the_list_of_kinds() -> None:
    with pytest.raises(BundleError, match=r"(?s)nothing/random.*aha_wam/random.*dust/random.*ud_vla/random"):
        load_policy("nothing/random")
    with pytest.raises(BundleError, match=r"(?s)nothing.*aha_wam.*dust.*ud_vla"):
        policy_kind("nothing")


@pytest.mark.parametrize("name", ["", "with-hyphen", "two words"])
def test_a_kind_is_named_by_an_identifier(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        PolicyKind(name=name, title="", policy="math", presets="math", parameter_counts="math")


def test_listing_the_kinds_and_their_commands_does_not_import_torch() -> None:
    code = """
import sys
import wam.cli.convert, wam.cli.info, wam.cli.init
wam.cli.info.catalogue()
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
