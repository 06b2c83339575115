# Headers that nearly every source starts with, compiled once: half of what a small source costs is reading them. A source
# that lacks one of these includes compiles all the same. So the product's own are precompiled for sanitizers and emulators
# alone, whose builds nobody ships: every other one finds what is missing. CPU kernels never are: g++ 12 then takes the
# contraction of floating-point expressions from the headers' command, whatever the source's options say.
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

# angel_ptm_precompile(<target> <product|test>)
function(angel_ptm_precompile target kind)
  if(NOT TARGET angel_ptm_${kind}_headers)
    return()
  endif()
  # Of a std::string that is made of a literal and moved g++ 12 warns falsely where it comes from precompiled headers, as
  # it no longer knows that the place is in a system header.
  target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-stringop-overflow -Wno-restrict)
  target_precompile_headers(${target} REUSE_FROM angel_ptm_${kind}_headers)
  target_compile_options(${target} PRIVATE -fpch-preprocess)  # shows ccache what was read
endfunction()

if(ANGEL_PTM_PRECOMPILE)
  set(source ${CMAKE_BINARY_DIR}/generated/headers.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "// A target must have a source.\n")
  if(ANGEL_PTM_SANITIZE OR CMAKE_CROSSCOMPILING_EMULATOR)
    add_library(angel_ptm_product_headers OBJECT ${source})
    target_precompile_headers(angel_ptm_product_headers PRIVATE ${ANGEL_PTM_COMMON_HEADERS})
  endif()
  find_package(GTest QUIET)
  if(GTest_FOUND)
    add_library(angel_ptm_test_headers OBJECT ${source})
    target_precompile_headers(angel_ptm_test_headers PRIVATE ${ANGEL_PTM_COMMON_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)
    target_compile_options(angel_ptm_test_headers PRIVATE ${ANGEL_PTM_TEST_OPTIMISATION})
    target_link_libraries(angel_ptm_test_headers PRIVATE GTest::gmock GTest::gtest)
  endif()
endif()
