# SPDX-License-Identifier: Apache-2.0
"""Which ROS domain a process talks on."""

from __future__ import annotations

import pytest

from wam.core.errors import ConfigError
from wam.ros.environment import confine, isolate


@pytest.mark.parametrize("domain", [str(number) for number in range(102)])
def test_a_demo_never_uses_the_domain_of_the_shell_it_was_typed_in(domain: str) -> None:
    """A simulated arm publishes commands under the names of the real one, which would follow them."""
    environment = {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    own = isolate(environment, dds_profile=None)
    assert str(own) != domain
    assert 1 <= own <= 101
    assert environment["ROS_DOMAIN_ID"] == str(own)
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_other_tools_keep_what_the_user_set() -> None:
    environment = {"ROS_DOMAIN_ID": "7"}
    confine(environment, dds_profile=None)
    assert environment["ROS_DOMAIN_ID"] == "7"


@pytest.mark.parametrize("domain", ["102", "-1", "seven"])
def test_a_domain_that_cannot_be_used_is_refused(domain: str) -> None:
    with pytest.raises(ConfigError, match="ROS_DOMAIN_ID"):
        confine({"ROS_DOMAIN_ID": domain}, dds_profile=None)
