# SPDX-License-Identifier: Apache-2.0
"""Errors of the link to a device.

LinkError             a transaction with a device failed; whether the device acted is unknown
+-- LinkTimeout       no answer, or an incomplete one, within the time allowed
+-- LinkLost          the port or the connection is gone; it must be opened again
+-- FrameError        the bytes received are not a valid answer: checksum, length, another hand
+-- DeviceRefused     the device understood the request and rejected it
"""

from __future__ import annotations

from wam.core.errors import WamError


class LinkError(WamError):
    """A transaction with a device failed."""


class LinkTimeout(LinkError):
    """The device did not answer, or not completely, within the time allowed."""


class LinkLost(LinkError):
    """The port or the connection is gone, or could not be opened."""


class FrameError(LinkError):
    """The bytes received are not a valid answer."""


class DeviceRefused(LinkError):
    """The device answered that it rejects the request."""
