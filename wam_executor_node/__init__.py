# SPDX-License-Identifier: Apache-2.0
"""The executor node: context, newest image and joint state in, action chunk out."""
