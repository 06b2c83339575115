# Headers that nearly every source starts with, compiled once: half of what a small source costs is reading them. A source
# that lacks one of these includes compiles all the same; what finds it is tests/tree (name_rules.cc).
#
# g++ alone: clang wants the same options to the letter, and only fuzzing is built by it.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(precompile_default ON)
else()
  set(precompile_default OFF)
endif()
option(ANGEL_PTM_PRECOMPILE "Compile the most common headers once" ${precompile_default})

set(ANGEL_PTM_COMMON_HEADERS
  <algorithm> <array> <cmath> <cstdint> <cstring> <functional> <map> <memory> <optional> <span> <string> <string_view>
  <utility> <vector> <absl/status/status.h> <absl/status/statusor.h> <absl/strings/str_cat.h>)

# angel_ptm_precompile(<target> <product|config|test|own|TARGET>): `own` for a target with options of its own, whose headers are
# compiled with them; TARGET, such a one, for another with its options. Sources with further options must skip them
# (SKIP_PRECOMPILE_HEADERS): g++ 12 takes the contraction of floating-point expressions from the headers' command, whatever
# the source's says, and crashes where -O differs.
function(angel_ptm_precompile target kind)
  set(headers angel_ptm_${kind}_headers)
  if(kind STREQUAL "own" AND ANGEL_PTM_PRECOMPILE)
    # A target of their own: beside the target's sources they would be among its objects.
    set(headers ${target}_headers)
    angel_ptm_headers(${headers})
    foreach(property COMPILE_DEFINITIONS COMPILE_OPTIONS INCLUDE_DIRECTORIES LINK_LIBRARIES)
      get_target_property(value ${target} ${property})
      if(value)
        set_target_properties(${headers} PROPERTIES ${property} "${value}")
      endif()
    endforeach()
    set_target_properties(${headers} ${target} PROPERTIES DISABLE_PRECOMPILE_HEADERS OFF)
  elseif(TARGET ${kind}_headers)
    set(headers ${kind}_headers)
    set_target_properties(${target} PROPERTIES DISABLE_PRECOMPILE_HEADERS OFF)
  endif()
  if(NOT TARGET ${headers})
    return()
  endif()
  # Of a std::string that is made of a literal and moved g++ 12 warns falsely where it comes from precompiled headers, as
  # it no longer knows that the place is in a system header.
  target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict)
  target_precompile_headers(${target} REUSE_FROM ${headers})
  target_compile_options(${target} PRIVATE -fpch-preprocess)  # shows ccache what was read
endfunction()

# angel_ptm_headers(<name> [<header>...]): a target that compiles the common headers and those.
function(angel_ptm_headers name)
  set(source ${CMAKE_BINARY_DIR}/generated/headers.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "// A target must have a source.\n")
  add_library(${name} OBJECT ${source})
  target_precompile_headers(${name} PRIVATE ${ANGEL_PTM_COMMON_HEADERS} ${ARGN})
endfunction()

if(ANGEL_PTM_PRECOMPILE)
  angel_ptm_headers(angel_ptm_product_headers)
  find_package(GTest QUIET)
  if(GTest_FOUND)
    angel_ptm_headers(angel_ptm_test_headers <gmock/gmock.h> <gtest/gtest.h>)
    target_compile_options(angel_ptm_test_headers PRIVATE ${ANGEL_PTM_TEST_OPTIMISATION})
    target_link_libraries(angel_ptm_test_headers PRIVATE GTest::gmock GTest::gtest)
  endif()
endif()
