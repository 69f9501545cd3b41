# SPDX-License-Identifier: Apache-2.0
"""The real nodes as processes: started, listened to, stopped; demo, live replay, episodes, recording."""
