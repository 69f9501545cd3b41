# SPDX-License-Identifier: Apache-2.0
"""The ament_python package `wam_deploy`; tool settings are in pyproject.toml, ROS dependencies in package.xml.

This file holds no version: that of the package is read from wam/__init__.py, those of others from requirements/.
A wheel asks for ranges made of these pins: from the oldest release that is tested up to, not including, the next
incompatible one after the newest.
"""

import re
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

BARE = ("base",)
"""What `pip install` brings without an extra: files of requirements/."""
EXTRAS = {
    "replay": ("model",),  # to run policies on recordings
    "sim": ("model", "sim"),
    "train": ("model", "train"),
    "drivers": ("robots",),  # drivers of hands
    "security": ("security",),  # wam secure
    "export": ("model", "export"),  # wam export
    "gpu": ("gpu",),  # own kernels
    "tensorrt": ("model", "export", "tensorrt"),  # wam build-engine
    "rerun": ("rerun",),  # wam replay --rerun, wam demo --rerun
    "ray": ("ray",),  # --ray
}
"""Extra -> the files of requirements/ that it adds to the bare installation."""
NEED_A_GPU = ("gpu", "tensorrt")
EXTRAS["all"] = tuple(
    sorted({stem for name, stems in EXTRAS.items() if name not in NEED_A_GPU for stem in stems})
)
PIN = re.compile(r"(?P<name>[\w.-]+)(?P<parts>\[\w+\])?==(?P<version>[\d.]+)(; *(?P<mark>.+))?")


def package_version() -> str:
    """`__version__` of the package, read without importing it."""
    found = re.search(r'^__version__ = "(.+)"$', Path("wam/__init__.py").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def next_incompatible(version: str) -> str:
    """2.4.6 -> 3, 0.29.2 -> 0.30: the first release that may break what works with `version`."""
    first, second = (int(part) for part in version.split(".")[:2])
    return str(first + 1) if first else f"0.{second + 1}"


def ranges(*stems: str) -> list[str]:
    """The pins of files in requirements/ as ranges; pins that differ by Python are one range."""
    pins: dict[tuple[str, str], list[str]] = {}
    for stem in stems:
        for line in Path("requirements", f"{stem}.txt").read_text().splitlines():
            match = PIN.fullmatch(line.partition("#")[0].strip())
            if match is not None:
                mark = match["mark"] or ""
                key = (match["name"] + (match["parts"] or ""), "" if "python_version" in mark else mark)
                pins.setdefault(key, []).append(match["version"])
    found = []
    for (name, mark), versions in pins.items():
        versions.sort(key=lambda version: [int(part) for part in version.split(".")])
        text = f"{name}>={versions[0]},<{next_incompatible(versions[-1])}"
        found.append(f"{text}; {mark}" if mark else text)
    return found


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
    version=package_version(),
    description="World-action-model policies on real robots, through ROS 2",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="The wam_deploy maintainers",
    maintainer_email="wam-deploy@example.org",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["wam", "wam.*", *EXECUTABLES, *(f"{name}.*" for name in EXECUTABLES)]),
    package_data={"": ["*.j2", "*.js", "*.json", "*.yaml", "py.typed"], "wam.policies": ["shipped/*/*/*"]},
    data_files=data_files(),
    zip_safe=False,
    install_requires=ranges(*BARE),
    extras_require={name: ranges(*stems) for name, stems in EXTRAS.items()},
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
