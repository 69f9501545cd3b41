#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in the environment of this checkout: its own ROS 2 (.venv), this machine only, a domain of its own.
#   tools/setup/env.sh .venv/bin/wam doctor
# A sourced ROS distribution or another virtual environment would mix two sets of ROS libraries; both are excluded.
# WAM_DOMAIN_ID chooses the ROS domain (1..101); by default, one per user and checkout. For demos, tests and benches:
# what listens to a robot (`wam doctor --robot`, `wam record`) is called without this script, in the robot's shell.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Library paths of sourced ROS prefixes and of other wheel installations go; the user's own (CUDA, ...) stay.
if [ -n "${LD_LIBRARY_PATH:-}" ]; then
  kept=""
  IFS=: read -r -a parts <<<"$LD_LIBRARY_PATH"
  IFS=: read -r -a prefixes <<<"${AMENT_PREFIX_PATH:-}:${COLCON_PREFIX_PATH:-}:/opt/ros"
  for part in "${parts[@]}"; do
    keep=yes
    case $part in "" | */ros_*.libs) keep=no ;; esac
    for prefix in "${prefixes[@]}"; do
      if [ -n "$prefix" ]; then case $part/ in "$prefix"/*) keep=no ;; esac; fi
    done
    if [ $keep = yes ]; then kept=${kept:+$kept:}$part; fi
  done
  if [ -n "$kept" ]; then export LD_LIBRARY_PATH=$kept; else unset LD_LIBRARY_PATH; fi
fi
# Without compiled modules on disk, each process of a demo or a test compiles the whole suite again.
unset PYTHONDONTWRITEBYTECODE
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV _ROS_WHEELS_BOOTSTRAP_COMPLETE
unset CMAKE_PREFIX_PATH COLCON_PREFIX_PATH COLCON_CURRENT_PREFIX ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION
unset ROS_LOCALHOST_ONLY ROS_STATIC_PEERS ROS_DISCOVERY_SERVER ROS_SECURITY_ENABLE ROS_SECURITY_KEYSTORE
unset FASTRTPS_DEFAULT_PROFILES_FILE CYCLONEDDS_URI

domain=$(($(printf '%s' "$(id -u):$root" | cksum | cut -d ' ' -f 1) % 101 + 1))
export ROS_DOMAIN_ID=${WAM_DOMAIN_ID:-$domain}
export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
export RMW_IMPLEMENTATION=rmw_fastrtps_cpp
export FASTDDS_DEFAULT_PROFILES_FILE=$root/config/dds/fastdds_shm.xml
export AMENT_PREFIX_PATH=$root/.venv
export MUJOCO_GL=${MUJOCO_GL:-egl}
exec "$@"
