# Language standard, warnings, sanitizers, build type.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(ANGEL_PTM_CCACHE ccache)
if(ANGEL_PTM_CCACHE)
  # What it asks for before it caches sources that start from precompiled headers: we use no __TIME__, and the macros of a
  # header are those of its command.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${ANGEL_PTM_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

# What nobody ships is linked by gold where there is one, in half the time.
find_program(ANGEL_PTM_FAST_LINKER ld.gold)
mark_as_advanced(ANGEL_PTM_FAST_LINKER)
set(ANGEL_PTM_FAST_LINK "")
if(ANGEL_PTM_FAST_LINKER AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(ANGEL_PTM_FAST_LINK -fuse-ld=gold)
endif()

set(ANGEL_PTM_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
if(ANGEL_PTM_SANITIZE)
  # A finding ends the program, as the options below would have it anyway; code that never goes on compiles in a sixth less.
  add_compile_options(-fsanitize=${ANGEL_PTM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  # g++ 12 sees uninitialized reads in abseil's inlined vectors once sanitizers keep it from inlining.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  # Of the undefined behaviour what others here see too is left out, as it doubled what a source costs: null pointers are
  # signals that AddressSanitizer reports, accesses past an object its red zones. Alignment is checked where bytes become
  # numbers: angel_ptm_check_alignment.
  if(ANGEL_PTM_SANITIZE MATCHES "address.*undefined" AND NOT ANGEL_PTM_FUZZ)
    add_compile_options(-fno-sanitize=null,object-size,alignment)
  endif()
  add_link_options(-fsanitize=${ANGEL_PTM_SANITIZE} ${ANGEL_PTM_FAST_LINK})
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()
# For the sources of the calling folder. Precompiled headers are of one set of options.
macro(angel_ptm_check_alignment)
  if(ANGEL_PTM_SANITIZE MATCHES "undefined")
    add_compile_options(-fsanitize=alignment)
    set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
  endif()
endmacro()
# Tests' own sources take a third less to compile so, and wait for the libraries' work.
set(ANGEL_PTM_TEST_OPTIMISATION "")
if(NOT ANGEL_PTM_SANITIZE)  # whose presets say -Og for all
  set(ANGEL_PTM_TEST_OPTIMISATION $<$<AND:$<CONFIG:Release,RelWithDebInfo>,$<CXX_COMPILER_ID:GNU>>:-Og>)
endif()
if(ANGEL_PTM_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "ANGEL_PTM_FUZZ needs clang, got ${CMAKE_CXX_COMPILER}: use the preset fuzz")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
# The environment of every test in a sanitizer build: each finding fails the test; libraries' own are suppressed. Tests
# that start MPI have their own: its libraries come without frame pointers, and only the slow unwinder, which costs plan_test
# eight times its time, finds the names in them that the leak suppressions look for.
# As the program sets it for itself: beside other tests a team that spins starves them, and itself.
set(ANGEL_PTM_TEST_ENVIRONMENT "GOMP_SPINCOUNT=1000")
set(suppressions ${CMAKE_SOURCE_DIR}/tests/support)
if(ANGEL_PTM_SANITIZE MATCHES "address")
  list(APPEND ANGEL_PTM_TEST_ENVIRONMENT "ASAN_OPTIONS=strict_string_checks=1"
       "LSAN_OPTIONS=suppressions=${suppressions}/lsan.supp:print_suppressions=0")
endif()
if(ANGEL_PTM_SANITIZE MATCHES "undefined")
  list(APPEND ANGEL_PTM_TEST_ENVIRONMENT "UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1")
endif()
if(ANGEL_PTM_SANITIZE MATCHES "thread")
  # Uninstrumented libraries (libgomp above all) synchronise in ways the tool cannot see.
  list(APPEND ANGEL_PTM_TEST_ENVIRONMENT
       "TSAN_OPTIONS=suppressions=${suppressions}/tsan.supp:ignore_noninstrumented_modules=1:halt_on_error=1")
endif()

string(REPLACE "ASAN_OPTIONS=" "ASAN_OPTIONS=fast_unwind_on_malloc=0:" ANGEL_PTM_MPI_TEST_ENVIRONMENT
       "${ANGEL_PTM_TEST_ENVIRONMENT}")

# Every bit of a run is part of law 1: no value-changing contraction unless a kernel asks for it with std::fma.
add_compile_options(-ffp-contract=off)

set(ANGEL_PTM_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers)
if(ANGEL_PTM_WERROR)
  list(APPEND ANGEL_PTM_WARNINGS -Werror)
endif()
