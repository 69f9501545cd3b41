# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets v2.1 and v3.0: layout, reader, video, writer."""
