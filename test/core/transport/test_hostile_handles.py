# SPDX-License-Identifier: Apache-2.0
"""Handles that no honest planner sent: each is refused before anything is mapped."""

from __future__ import annotations

import ast
import dataclasses
import mmap
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.core.context import ContextHandle, ContextHeader, TensorSpec, Transport
from wam.core.errors import ContextError, HandleRefused
from wam.core.transport import segment
from wam.core.transport.inline import InlinePublisher, InlineReader
from wam.core.transport.layout import check_table
from wam.core.transport.numpy_codec import NumpyCodec
from wam.core.transport.shared_memory import SharedMemoryPublisher, SharedMemoryReader


@pytest.fixture
def publisher(codec, tmp_path):
    made = SharedMemoryPublisher(codec, directory=tmp_path)
    yield made
    made.close()


@pytest.fixture
def reader(codec, tmp_path, monkeypatch):
    """A reader that fails the test when it maps anything."""
    made: SharedMemoryReader[Any] = SharedMemoryReader(codec, directory=tmp_path)
    real = mmap.mmap

    def refuse(fd: int, length: int, *rest: Any, **named: Any) -> mmap.mmap:
        if mmap.PROT_READ in rest:
            raise AssertionError("a hostile handle was mapped")
        return real(fd, length, *rest, **named)

    monkeypatch.setattr(segment.mmap, "mmap", refuse)
    return made


def renamed(handle: ContextHandle, index: int, field: str) -> ContextHandle:
    parts = handle.name.split(".")
    parts[index] = field
    return dataclasses.replace(handle, name=".".join(parts))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../etc/passwd",
        "/etc/passwd",
        "wam_ctx.0.1.1.0123456789abcdef.0/../../../etc/passwd",
        "../wam_ctx.0.1.1.0123456789abcdef.0",
        "wam_ctx.0.1.1.0123456789abcdef.0\0",
        "wam_ctx.0.1.1.0123456789abcdef.0\n",
        "wam_ctx.-1.1.1.0123456789abcdef.0",
        "wam_ctx.0.1.1.0123456789ABCDEF.0",
        "wam_ctx.0.1.1.0123456789abcdef.owner",
        "wam_ctx.0.1.1.0123456789abcdef.١",
        "wam_ctx." + "9" * 4000,
    ],
)
def test_a_name_outside_the_pattern_is_refused(reader: Any, publisher: Any, context: Any, name: Any) -> None:
    handle = dataclasses.replace(publisher.publish(context(1)), name=name)
    with pytest.raises(HandleRefused, match="name"):
        reader.open(context(1).header, handle)


@given(name=st.text(max_size=100))
@settings(max_examples=300)
def test_no_text_opens_a_file(tmp_path_factory: pytest.TempPathFactory, name: Any) -> None:
    reader: SharedMemoryReader[Any] = SharedMemoryReader(
        NumpyCodec(), directory=tmp_path_factory.getbasetemp()
    )
    handle = ContextHandle(Transport.SHARED_MEMORY, name, (TensorSpec("k", "uint8", (1,), 0),), 1)
    with pytest.raises(HandleRefused):
        reader.open(ContextHeader(1, 1, 1, "a" * 64, "", 1, 1), handle)


def test_a_name_of_another_user_is_refused(reader: Any, publisher: Any, context: Any) -> None:
    handle = renamed(publisher.publish(context(1)), 1, str(os.geteuid() + 1))
    with pytest.raises(HandleRefused, match="another user"):
        reader.open(context(1).header, handle)


def test_a_file_of_another_user_is_refused(
    reader: Any, publisher: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = publisher.publish(context(1))
    real = os.fstat

    def of_another(fd: int) -> os.stat_result:
        info = list(real(fd))
        info[4] = os.geteuid() + 1
        return os.stat_result(info)

    monkeypatch.setattr(segment.os, "fstat", of_another)
    with pytest.raises(HandleRefused, match="another owner"):
        reader.open(context(1).header, handle)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606, 0o700])
def test_a_file_that_others_may_touch_is_refused(
    reader: Any, publisher: Any, context: Any, tmp_path: Path, mode: Any
) -> None:
    handle = publisher.publish(context(1))
    (tmp_path / handle.name).chmod(mode)
    with pytest.raises(HandleRefused, match="mode"):
        reader.open(context(1).header, handle)


def test_a_link_is_refused(reader: Any, publisher: Any, context: Any, tmp_path: Path) -> None:
    handle = publisher.publish(context(1))
    link = renamed(handle, 5, "77")
    (tmp_path / link.name).symlink_to(tmp_path / handle.name)
    with pytest.raises(HandleRefused, match="cannot be opened"):
        reader.open(context(1).header, link)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_not_waited_for(
    reader: Any, publisher: Any, context: Any, tmp_path: Path, make: Any
) -> None:
    """Opening a FIFO for reading blocks until somebody writes to it."""
    handle = renamed(publisher.publish(context(1)), 5, "77")
    make(tmp_path / handle.name, 0o600)
    with pytest.raises(HandleRefused, match="not a regular file"):
        reader.open(context(1).header, handle)


def test_a_copy_of_a_segment_under_another_name_is_refused(
    reader: Any, publisher: Any, context: Any, tmp_path: Path
) -> None:
    handle = publisher.publish(context(1))
    copy = renamed(handle, 5, "77")
    target = tmp_path / copy.name
    target.write_bytes((tmp_path / handle.name).read_bytes())
    target.chmod(0o600)
    with pytest.raises(HandleRefused, match="does not hold"):
        reader.open(context(1).header, copy)


def test_a_file_shorter_than_its_payload_is_refused(
    reader: Any, publisher: Any, context: Any, tmp_path: Path
) -> None:
    """A mapping past the end of its file kills the reader with SIGBUS."""
    handle = publisher.publish(context(1))
    os.truncate(tmp_path / handle.name, segment.PAYLOAD_OFFSET + handle.total_bytes - 1)
    with pytest.raises(HandleRefused, match="too short"):
        reader.open(context(1).header, handle)


@pytest.mark.parametrize("byte", [0, 8, 12, 16, 40, 64, 68, 136])
def test_a_damaged_header_is_refused(
    reader: Any, publisher: Any, context: Any, tmp_path: Path, byte: Any
) -> None:
    handle = publisher.publish(context(1))
    with (tmp_path / handle.name).open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 0xFF]))
    with pytest.raises(HandleRefused, match="does not hold"):
        reader.open(context(1).header, handle)


def test_a_payload_of_another_size_than_written_is_refused(reader: Any, publisher: Any, context: Any) -> None:
    handle = publisher.publish(context(1))
    k = dataclasses.replace(handle.specs[0], shape=(1,))
    with pytest.raises(HandleRefused, match="tensor table"):
        reader.open(context(1).header, dataclasses.replace(handle, specs=(k,), total_bytes=64))


def test_a_handle_of_another_transport_is_refused(reader: Any, publisher: Any, context: Any) -> None:
    handle = dataclasses.replace(publisher.publish(context(1)), transport=Transport.CUDA_IPC)
    with pytest.raises(HandleRefused):
        reader.open(context(1).header, handle)


K = TensorSpec("k", "float32", (4, 4), 0)


@pytest.mark.parametrize(
    ("specs", "total", "text"),
    [
        ((), 64, "number of tensors"),
        (tuple(TensorSpec(f"t{i}", "uint8", (1,), 64 * i) for i in range(25)), 1600, "number of tensors"),
        ((K,), 0, "total_bytes"),
        ((K,), -1, "total_bytes"),
        ((K,), 2**63, "total_bytes"),
        ((K,), 63, "ends at byte 64"),
        ((K, K), 128, "twice"),
        ((K, TensorSpec("v", "float32", (1,), 0)), 64, "overlap"),
        ((K, TensorSpec("v", "uint8", (65,), 64), TensorSpec("w", "uint8", (1,), 128)), 192, "overlap"),
        ((TensorSpec("k", "float32", (2**40, 2**40), 0),), 2**33, "shape"),
        ((TensorSpec("k", "float32", (2**31, 2**2), 0),), 2**33, "shape"),
        ((TensorSpec("k", "float32", (0, 2**40), 0),), 64, "shape"),
        ((TensorSpec("k", "float32", (2**20,), 0),), 64, "ends at byte"),
        ((TensorSpec("k", "float32", (-1, -16), 0),), 64, "shape"),
        ((TensorSpec("k", "float32", (1,) * 9, 0),), 64, "axes"),
        ((TensorSpec("k", "float32", (1,), -64),), 64, "byte_offset"),
        ((TensorSpec("k", "float32", (1,), 4),), 64, "byte_offset"),
        ((TensorSpec("k", "float32", (1,), 2**62),), 64, "ends at byte"),
        ((TensorSpec("k", "object", (1,), 0),), 64, "dtype"),
        ((TensorSpec("k", "O", (1,), 0),), 64, "dtype"),
        ((TensorSpec("", "uint8", (1,), 0),), 64, "name"),
        ((TensorSpec("x" * 64, "uint8", (1,), 0),), 64, "name"),
        ((TensorSpec("a\nb", "uint8", (1,), 0),), 64, "name"),
    ],
)
def test_an_absurd_table_is_refused(
    reader: Any, publisher: Any, context: Any, specs: Any, total: Any, text: Any
) -> None:
    handle = dataclasses.replace(publisher.publish(context(1)), specs=specs, total_bytes=total)
    with pytest.raises(HandleRefused, match=text):
        reader.open(context(1).header, handle)


@given(
    specs=st.lists(
        st.builds(
            TensorSpec,
            name=st.sampled_from(["k", "v", "text", ""]),
            dtype=st.sampled_from(["uint8", "float32", "bfloat16", "object"]),
            shape=st.lists(st.integers(-1, 2**33), max_size=9).map(tuple),
            byte_offset=st.integers(-64, 2**40),
        ),
        max_size=4,
    ),
    total=st.integers(-1, 2**34),
    data=st.integers(0, 300),
)
@settings(max_examples=500)
def test_a_table_that_passes_can_be_read_without_leaving_the_payload(
    specs: Any, total: Any, data: Any
) -> None:
    """Either the table is refused, or numpy views of a payload of that size exist for all of it."""
    size = min(data, max(total, 0))
    try:
        check_table(tuple(specs), min(total, size))
    except HandleRefused:
        return
    payload = NumpyCodec().read(tuple(specs), memoryview(bytes(size)))
    assert {name: array.shape for name, array in payload.items()} == {s.name: s.shape for s in specs}


def test_a_message_with_fewer_bytes_than_it_says_is_refused(codec: Any, context: Any) -> None:
    handle = InlinePublisher(codec).publish(context(1))
    reader: InlineReader[Any] = InlineReader(codec)
    for data in (b"", handle.data[:-1], handle.data + b"\0"):
        with pytest.raises(HandleRefused, match="bytes in the message"):
            reader.open(context(1).header, dataclasses.replace(handle, data=data))


def test_a_message_larger_than_the_reader_accepts_is_refused(codec: Any, context: Any) -> None:
    handle = InlinePublisher(codec).publish(context(1))
    with pytest.raises(HandleRefused, match="total_bytes"):
        InlineReader(codec, limit_bytes=10).open(context(1).header, handle)


def test_nothing_in_the_transports_can_unpickle() -> None:
    """Handles come from the network: a reader that unpickles runs whatever they say."""
    root = Path(segment.__file__).parent
    models = root.parents[1] / "models"
    sources = [*root.glob("*.py"), models / "cuda_ipc.py", models / "cuda_driver.py"]
    assert len(sources) > 8
    words = ("import pickle", "pickle.load", "marshal", "multiprocessing", "eval(", "exec(")
    found = [(path.name, word) for path in sources for word in words if word in _code(path)]
    assert found == []


def _code(path: Path) -> str:
    """Return the source without its docstrings and comments."""
    return ast.unparse(_without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))


def _without_docstrings(tree: Any) -> Any:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def test_a_refused_handle_holds_no_slot(publisher: Any, codec: Any, context: Any, tmp_path: Path) -> None:
    handle = publisher.publish(context(1))
    reader: SharedMemoryReader[Any] = SharedMemoryReader(codec, directory=tmp_path)
    wrong = dataclasses.replace(
        handle, specs=(dataclasses.replace(handle.specs[0], dtype="int32"), handle.specs[1])
    )
    with pytest.raises(ContextError) as caught:
        reader.open(context(1).header, wrong)
    assert caught.value is not None
    assert publisher.leases() == 0
