# SPDX-License-Identifier: Apache-2.0
# Passed as CMAKE_PROJECT_INCLUDE when wam_msgs is built against the ROS 2 wheels.
#
# The targets that the wheels export name an include directory of the machine the wheels were built on
# (/opt/python/cp3XX-cp3XX/include/...). CMake refuses a path that does not exist when it generates, so such paths are
# dropped here, in memory; the installed wheels stay as they are.
function(wam_drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(includes ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT includes)
      continue()
    endif()
    set(kept "")
    foreach(path IN LISTS includes)
      if(path MATCHES "^\\$<" OR EXISTS "${path}")
        list(APPEND kept "${path}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER CALL wam_drop_missing_includes)
