# SPDX-License-Identifier: Apache-2.0
"""The fake TensorRT and the official bindings agree on names and signatures.

The bindings are wheels of 1.3 MB on PyPI, which no GPU is needed for:

    pip install --no-deps --target DIR10 tensorrt-cu12-bindings==10.16.1.11
    pip install --no-deps --target DIR11 tensorrt-cu13-bindings==11.4.0.106
    WAM_TENSORRT_BINDINGS=DIR10:DIR11 pytest test/models/backends/test_tensorrt_bindings.py
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from host_gpu import forget_tensorrt, install_fake_tensorrt

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements/model.txt)")
pytest.importorskip("onnx", reason="onnx is not installed (requirements/export.txt)")

HERE = Path(__file__).parent
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
ENTRIES = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""What the bindings link to; none of it is called."""

GONE_IN_11 = {
    "NetworkDefinitionCreationFlag": {"EXPLICIT_BATCH"},
    "BuilderFlag": {"FP16", "BF16"},
}
NAMELESS = {"__init__"}
"""Constructors that only the library calls."""


def places() -> list[Path]:
    if named := os.environ.get("WAM_TENSORRT_BINDINGS"):
        return [Path(one) for one in named.split(":")]
    found = importlib.util.find_spec("tensorrt_bindings")
    return [Path(str(found.origin)).parent.parent] if found and found.origin else []


def official(place: Path, scratch: Path) -> dict[str, Any]:
    """Return version, names and signatures of the bindings in a folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the empty libraries that the bindings link to")
    source = scratch / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRIES))
    for library in LIBRARIES:
        for major in (10, 11):
            name = f"lib{library}.so.{major}"
            command = [compiler, "-shared", "-fPIC", "-o", str(scratch / name), f"-Wl,-soname,{name}"]
            subprocess.run([*command, str(source)], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(scratch), "PYTHONPATH": str(place)}
    done = subprocess.run(
        [sys.executable, str(HERE / "tensorrt_surface.py")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(params=range(2))
def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The official surface, and the fake of the same version."""
    found = places()
    if request.param >= len(found):
        pytest.skip("no official TensorRT bindings here: WAM_TENSORRT_BINDINGS, see the top of this file")
    surface = official(found[request.param], tmp_path)
    install_fake_tensorrt(monkeypatch, version=surface["version"])
    import tensorrt

    yield surface, tensorrt
    forget_tensorrt()


def public(kind: type) -> dict[str, Any]:
    """Return what a class of the fake shows."""
    if hasattr(kind, "__members__"):
        return dict.fromkeys(kind.__members__)
    shown = {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}
    for name in dir(bytearray) if issubclass(kind, bytearray) else ():
        shown.pop(name, None)
    if "__init__" in vars(kind) and kind.__init__ is not object.__init__:  # type: ignore[misc]
        shown["__init__"] = vars(kind)["__init__"]
    return shown


def test_every_name_and_signature_of_the_fake_is_official(pair: Any) -> None:
    surface, fake = pair
    official_names, compared = surface["surface"], 0
    for name in fake.__all__:
        kind = getattr(fake, name)
        if not isinstance(kind, type):
            continue
        assert name in official_names, name
        for attribute, value in public(kind).items():
            assert attribute in official_names[name] or attribute in NAMELESS, f"{name}.{attribute}"
            overloads = official_names[name].get(attribute) or []
            if not inspect.isfunction(value) or not overloads:
                continue
            mine = [one for one in inspect.signature(value).parameters if one != "self"]
            assert any(mine == one[: len(mine)] for one in overloads), (
                f"{name}.{attribute}{mine}: {overloads}"
            )
            compared += 1
    assert compared >= 30


def test_names_that_version_11_has_removed_are_gone_there_and_only_there(pair: Any) -> None:
    surface, fake = pair
    old = surface["version"].startswith("10.")
    for name, gone in GONE_IN_11.items():
        for attribute in gone:
            assert (attribute in surface["surface"][name]) == old
            assert (attribute in getattr(fake, name).__members__) == old
