# SPDX-License-Identifier: Apache-2.0
"""JUnit XML, which CI servers show as test results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from wam.core.errors import ConfigError

_ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


@dataclass(frozen=True, slots=True)
class JunitCase:
    """One test case; at most one of `failure`, `error` and `skipped` is set.

    Attributes:
        name: of the case.
        group: class name, by which servers group.
        failure: why it failed: a value and what is allowed; "" where it did not.
        error: why it could not be run; "" where it could.
        skipped: why nothing was judged; "" where something was.
        output: for people.
    """

    name: str
    group: str
    failure: str = ""
    error: str = ""
    skipped: str = ""
    output: str = ""


def junit_xml(suite: str, cases: Sequence[JunitCase]) -> bytes:
    """Return one suite as a JUnit XML document.

    Args:
        suite: its name.
        cases: in order.
    """
    counts = {
        "tests": len(cases),
        "failures": sum(bool(case.failure) for case in cases),
        "errors": sum(bool(case.error) for case in cases),
        "skipped": sum(bool(case.skipped) for case in cases),
    }
    attributes = {"name": _legal(suite), **{name: str(count) for name, count in counts.items()}}
    root = ElementTree.Element("testsuites", attributes)
    group = ElementTree.SubElement(root, "testsuite", attributes)
    for case in cases:
        element = ElementTree.SubElement(
            group, "testcase", {"classname": _legal(case.group), "name": _legal(case.name), "time": "0"}
        )
        for tag, text in (("failure", case.failure), ("error", case.error), ("skipped", case.skipped)):
            if text:
                told = ElementTree.SubElement(element, tag, {"message": _legal(text.splitlines()[0])})
                told.text = _legal(text)
        if case.output:
            ElementTree.SubElement(element, "system-out").text = _legal(case.output)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def write_junit(path: Path, suite: str, cases: Sequence[JunitCase]) -> None:
    """Write a JUnit XML file.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.write_bytes(junit_xml(suite, cases))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error})", where="--junit") from error


def _legal(text: str) -> str:
    return _ILLEGAL.sub("?", text)
