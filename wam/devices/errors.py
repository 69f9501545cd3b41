# SPDX-License-Identifier: Apache-2.0
"""Errors on the way to a device.

LinkError             a transaction with a device failed; nothing is known of what the device did
+-- LinkTimeout       no answer, or not a whole one, within the time allowed
+-- LinkLost          the port or the connection is gone; it must be opened again
+-- FrameError        bytes came that are no answer to the question: checksum, length, another hand
+-- DeviceRefused     the device understood and declined
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
    """Bytes came that are no valid answer to the question."""


class DeviceRefused(LinkError):
    """The device answered that it does not do this."""
