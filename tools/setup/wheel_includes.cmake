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

# The C++ sources of a message are short and include the same large headers: together they compile
# faster. (Those of the introspection and those in C define names that clash in one file.)
function(wam_join_cpp_sources)
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    if(target MATCHES "__rosidl_typesupport_(cpp|fastrtps_c|fastrtps_cpp)$")
      set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    endif()
  endforeach()
endfunction()

cmake_language(DEFER CALL wam_join_cpp_sources)
