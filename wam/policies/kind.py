# SPDX-License-Identifier: Apache-2.0
"""What a policy must declare: one `PolicyKind` row, whose parts are imported only when they are used.

The row lives in the policy's package and is registered as an entry point of the group `wam.policies`:

    aha_wam = wam.policies.aha_wam:POLICY_KIND

Importing it must be cheap: everything heavy is named by a reference "package.module" or "package.module:attribute".
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from wam.core.errors import BundleError
from wam.core.policy import LoadedPolicy

if TYPE_CHECKING:
    import torch

    from wam.models.backends.plan import BackendPlan
    from wam.models.bundle import Bundle
    from wam.models.robot_layout import RobotLayout
    from wam.training.recipe import Recipe

RANDOM = "random"
"""Every kind has a built-in bundle "KIND/random" with random weights."""

TINY = "tiny"
"""Earlier name of `RANDOM`, which is still understood."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a policy is loaded.

    Attributes:
        planner: load the planner.
        executor: load the executor.
        device: where the weights go.
        dtype: precision of the weights; None keeps the stored one.
        steps: overrides the integration steps of the bundle's sampler.
        seed: overrides the seed of the bundle's sampler.
        plan: what runs the stages of inference, of the policy's `BACKENDS`; None runs them as they are written.
    """

    planner: bool = True
    executor: bool = True
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None
    steps: int | None = None
    seed: int | None = None
    plan: BackendPlan | None = None


class PolicyModule(Protocol):
    """The module `policy.py` of a policy: opens its bundles and writes tiny ones.

    Attributes:
        BACKENDS: names of the backends that `load` accepts; "eager" at least.
    """

    BACKENDS: tuple[str, ...]
    __file__: str | None

    def check(self, bundle: Bundle) -> object:
        """Check everything about a bundle that can be read from the headers of its files; allocate nothing.

        Raises:
            BundleError: sizes, names, shapes, precision or the sampler do not fit.
        """
        ...

    def load(self, bundle: Bundle, options: LoadOptions) -> LoadedPolicy:
        """Load the requested halves.

        Raises:
            BundleError: the bundle does not fit; nothing was allocated on the device.
        """
        ...

    def make_tiny(
        self,
        directory: Path,
        *,
        robot: RobotLayout,
        seed: int,
        overrides: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Write a small bundle with random weights for `robot`, without downloads.

        Args:
            directory: new or empty.
            robot: cameras, joints and rates.
            seed: of the weights and of the start noise.
            overrides: sizes of the network to replace.
        """
        ...


class NetworkConfig(Protocol):
    """Sizes of a network."""

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain values."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingCommand:
    """A recipe with its line of help.

    Attributes:
        recipe: reference to the `wam.training.recipe.Recipe`, e.g. "my_policy.training.recipe:RECIPE".
        help: help text of the command, shown without importing the recipe.
    """

    recipe: str
    help: str

    def load(self) -> Recipe[Any, Any, Any]:
        """Import the recipe."""
        recipe: Recipe[Any, Any, Any] = resolve(self.recipe)
        return recipe


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """One kind of policy, as the registry lists it.

    Attributes:
        name: as in `kind` of policy.yaml; a Python identifier.
        title: for people.
        policy: reference to the `PolicyModule`.
        presets: reference to a mapping of preset name to a function that returns a `NetworkConfig`.
        parameter_counts: reference to a function that counts the parameters of a `NetworkConfig` by part.
        convert: reference to a mapping of command name to function, added to `wam convert`; "" for none.
        init: reference to a mapping of command name to function, added to `wam init`; "" for none.
        train: what `wam train` runs; None: it cannot be trained.
        distill: what `wam distill` runs; None: it cannot be distilled.
    """

    name: str
    title: str
    policy: str
    presets: str
    parameter_counts: str
    convert: str = ""
    init: str = ""
    train: TrainingCommand | None = None
    distill: TrainingCommand | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a policy kind is a Python identifier, not {self.name!r}")

    @property
    def command(self) -> str:
        """Return the name on the command line: "ud_vla" is "ud-vla"."""
        return self.name.replace("_", "-")

    def load_policy_module(self) -> PolicyModule:
        """Import what opens the bundles of this kind.

        Raises:
            BundleError: the module is not part of this installation.
        """
        try:
            module: PolicyModule = resolve(self.policy)
        except ModuleNotFoundError as error:
            if error.name is None or not self.policy.startswith(error.name):
                raise
            raise BundleError(f"policies of kind {self.name!r} are not part of this installation") from error
        return module

    def load_presets(self) -> Mapping[str, Callable[[], NetworkConfig]]:
        """Import the presets."""
        presets: Mapping[str, Callable[[], NetworkConfig]] = resolve(self.presets)
        return presets

    def count_parameters(self, config: NetworkConfig) -> dict[str, int]:
        """Return part -> number of parameters, and "total"; no weights are allocated."""
        counts: dict[str, int] = resolve(self.parameter_counts)(config)
        return counts

    def load_converters(self) -> Mapping[str, Callable[..., Any]]:
        """Import the commands of `wam convert`; {} for none."""
        return resolve(self.convert) if self.convert else {}

    def load_initialisers(self) -> Mapping[str, Callable[..., Any]]:
        """Import the commands of `wam init`; {} for none."""
        return resolve(self.init) if self.init else {}


def resolve(reference: str) -> Any:
    """Import what a reference names.

    Args:
        reference: "package.module" or "package.module:attribute".

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such attribute.
    """
    return pkgutil.resolve_name(reference)
