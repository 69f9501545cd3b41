# SPDX-License-Identifier: Apache-2.0
"""The ament_python package `wam_deploy`; tool settings are in pyproject.toml, ROS dependencies in package.xml."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "wam_deploy"
EXECUTABLES = (
    "wam_planner_node",
    "wam_executor_node",
    "wam_safety_node",
    "wam_sim_node",
    "wam_driver_node",
    "wam_bringup",
)
POLICIES = ("aha_wam", "dust", "state", "ud_vla")
"""Folders of wam/policies; policies of other packages register themselves in the same group."""
SHARED = ("launch", "config", "urdf")


def data_files() -> list[tuple[str, list[str]]]:
    """Every file below launch/, config/ and urdf/, each in the same place below share/wam_deploy."""
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
    ]
    for top in SHARED:
        for folder in sorted({path.parent for path in Path(top).rglob("*") if path.is_file()}):
            inside = sorted(
                str(path) for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"
            )
            if inside and folder.name != "__pycache__":
                files.append((f"share/{NAME}/{folder}", inside))
    return files


setup(
    name=NAME,
    version="0.1.0",
    description="World-action-model policies on real robots, through ROS 2",
    license="Apache-2.0",
    maintainer="The wam_deploy maintainers",
    maintainer_email="wam-deploy@example.org",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["wam", "wam.*", *EXECUTABLES, *(f"{name}.*" for name in EXECUTABLES)]),
    package_data={"": ["*.j2", "*.js", "*.json", "*.yaml", "py.typed"], "wam.policies": ["shipped/*/*/*"]},
    data_files=data_files(),
    zip_safe=False,
    extras_require={
        "rerun": ["rerun-sdk==0.41.0"],  # wam replay --rerun
        "ray": ["ray==2.60.0"],  # wam replay scenario --ray
        "gpu": [
            "triton==3.7.1; platform_system == 'Linux'"
        ],  # own kernels; the version that torch 2.13.0 for CUDA brings
    },
    entry_points={
        "console_scripts": [
            "wam = wam.cli.main:main",
            *(f"{name} = {name}.main:main" for name in EXECUTABLES),
            "wam_view = wam_bringup.view:main",
            "wam_gate = wam_bringup.gate:main",
            "wam_estop_button = wam_driver_node.estop_button:main",
        ],
        "wam.policies": [f"{name} = wam.policies.{name}:POLICY_KIND" for name in POLICIES],
    },
)
