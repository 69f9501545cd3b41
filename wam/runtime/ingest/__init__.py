# SPDX-License-Identifier: Apache-2.0
"""Driver messages become samples on the joints and cameras of a robot file, live and offline alike."""
