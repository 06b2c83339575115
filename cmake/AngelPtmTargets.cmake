# angel_ptm_join_sources(<target> [<source>...]): as ANGEL_PTM_JOIN_SOURCES says for tests and others, the target's sources
# are compiled several in one, but for those named and for generated ones. They must not define a name twice, in unnamed
# namespaces either.
function(angel_ptm_join_sources target)
  if(ANGEL_PTM_JOIN_SOURCES STREQUAL "TESTS")
    string(FIND ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/tests/ found)
    if(NOT found EQUAL 0)
      return()
    endif()
  endif()
  if(ANGEL_PTM_JOIN_SOURCES)
    get_target_property(sources ${target} SOURCES)
    list(FILTER sources INCLUDE REGEX "^${CMAKE_BINARY_DIR}/")
    set_source_files_properties(${sources} ${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  endif()
endfunction()

# angel_ptm_library(<name> SOURCES ... [DEPS ...] [HEADERS product|config]): one static library per folder of the design.
# HEADERS: which are precompiled.
function(angel_ptm_library name)
  cmake_parse_arguments(ARG "" "HEADERS" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_HEADERS)
    set(ARG_HEADERS product)
  endif()
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${ANGEL_PTM_WARNINGS})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  angel_ptm_precompile(${name} ${ARG_HEADERS})
endfunction()

# angel_ptm_embed(<input> <output> <name>): a rule for the source <output> that holds the bytes of <input> as <name>.
function(angel_ptm_embed input output name)
  set(script ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -D INPUT=${input} -D OUTPUT=${output} -D NAME=${name} -P ${script}
    DEPENDS ${input} ${script} VERBATIM)
endfunction()

# angel_ptm_test_needs(LABELS <label>... TARGETS <target>...): what a test with these labels runs, so that it is built by
# `angel_ptm_tests` (what all tests need, without benchmarks and tools) and, with the label `threads`, by
# `angel_ptm_thread_tests`.
add_custom_target(angel_ptm_tests)
add_custom_target(angel_ptm_thread_tests)
function(angel_ptm_test_needs)
  cmake_parse_arguments(ARG "" "" "LABELS;TARGETS" ${ARGN})
  add_dependencies(angel_ptm_tests ${ARG_TARGETS})
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(angel_ptm_thread_tests ${ARG_TARGETS})
  endif()
endfunction()

# angel_ptm_test_load(LOAD <waits|core|team|timed> TESTS <test>...): how many tests run side by side. tests/run gives ctest
# three places for each core. A test that waits more than it computes takes one; one thread that computes takes two; several,
# which often wait for each other, three; a test whose blows must fall in time, or that measures, four.
function(angel_ptm_test_load)
  cmake_parse_arguments(ARG "" "LOAD" "TESTS" ${ARGN})
  set(places_waits 1)
  set(places_core 2)
  set(places_team 3)
  set(places_timed 4)
  if(NOT DEFINED places_${ARG_LOAD})
    message(FATAL_ERROR "LOAD of ${ARG_TESTS}: wanted waits, core, team or timed, got '${ARG_LOAD}'")
  endif()
  set_tests_properties(${ARG_TESTS} PROPERTIES PROCESSORS ${places_${ARG_LOAD}})
endfunction()

# angel_ptm_test_target(<name> <dep>...): how sources of tests are compiled, and what they are linked with.
function(angel_ptm_test_target name)
  target_compile_options(${name} PRIVATE ${ANGEL_PTM_WARNINGS} ${ANGEL_PTM_TEST_OPTIMISATION})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARGN} GTest::gmock GTest::gtest)
  angel_ptm_precompile(${name} test)
endfunction()

# angel_ptm_test_cases(<name> SOURCES ... DEPS ...): cases that several programs run, compiled once:
# $<TARGET_OBJECTS:<name>> is among those programs' sources.
function(angel_ptm_test_cases name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} OBJECT ${ARG_SOURCES})
  angel_ptm_test_target(${name} ${ARG_DEPS})
endfunction()

# angel_ptm_test(<name> SOURCES ... DEPS ... [RANKS n...] [TIMEOUT seconds] [LABELS ...] [LOAD waits|core|team|timed]): a
# GoogleTest program. With RANKS the program runs under mpirun (tests that link tests/support's MPI main); without MPI it is
# not built. LOAD: `core`, and `team` for several ranks. Label `threads`: its threads share data, so it runs under
# ThreadSanitizer.
function(angel_ptm_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;LOAD" "SOURCES;DEPS;RANKS;LABELS" ${ARGN})
  if(ARG_RANKS AND NOT ANGEL_PTM_WITH_MPI)
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  angel_ptm_test_target(${name} ${ARG_DEPS})
  target_link_options(${name} PRIVATE ${ANGEL_PTM_FAST_LINK})
  set(registered)
  set(environment ${ANGEL_PTM_TEST_ENVIRONMENT})
  if(ARG_RANKS)
    set(environment ${ANGEL_PTM_MPI_TEST_ENVIRONMENT})
    foreach(n IN LISTS ARG_RANKS)
      # mpirun is a terminal to GoogleTest, but nobody sees its colours in a log.
      add_test(NAME ${name}_np${n} COMMAND ${ANGEL_PTM_MPIRUN} -np ${n} --oversubscribe --bind-to none
               $<TARGET_FILE:${name}> --gtest_color=no)
      list(APPEND registered ${name}_np${n})
    endforeach()
  else()
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
    add_test(NAME ${name} COMMAND ${name})
    set(registered ${name})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  # What was given more time takes longer and starts first: the others find room beside it.
  set_tests_properties(${registered} PROPERTIES COST ${ARG_TIMEOUT})
  if(ANGEL_PTM_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 3")
  endif()
  if(CMAKE_CROSSCOMPILING_EMULATOR)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 20")
  endif()
  set_tests_properties(${registered} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
                       ENVIRONMENT "${environment}")
  angel_ptm_test_needs(LABELS ${ARG_LABELS} TARGETS ${name})
  if(NOT ARG_LOAD AND ARG_RANKS)
    set(ARG_LOAD team)
  elseif(NOT ARG_LOAD)
    set(ARG_LOAD core)
  endif()
  angel_ptm_test_load(LOAD ${ARG_LOAD} TESTS ${registered})
endfunction()
