# The levels for which kernels/cpu is compiled, all in one program (kernels/cpu/cpu_isa.h), lowest first. A level's flags
# are one of these lists; what they mean to a processor is in kernels/cpu/cpu_isa.cc, in step with them.
#
# The width of what the compiler vectorises is part of the bits, so it is named: sums by `omp simd` have a chain per lane.
set(isa_flags_portable "")
set(isa_flags_x86_64_v3 -march=x86-64-v3)
set(isa_flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
set(isa_flags_avx512_bf16 ${isa_flags_avx512} -mavx512bf16)
set(isa_flags_amx ${isa_flags_avx512_bf16} -mamx-tile -mamx-bf16)
# The level whose objects serve where a source does not look for more than it has; without a line, the level's own.
set(isa_common_avx512_bf16 avx512)
set(isa_common_amx avx512)

# What joins a level's objects: with clang CMake's own linker may be lld, which does not dissolve groups.
find_program(ANGEL_PTM_JOINING_LINKER NAMES ld.bfd ${CMAKE_LINKER} REQUIRED)
mark_as_advanced(ANGEL_PTM_JOINING_LINKER)

set(isas portable)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  # Instrumented kernels are slow to build and alike: two levels have every line between them but AMX's, and how threads
  # share the work is the same in all. The upper one is for a processor that runs it: elsewhere its tests are skipped.
  if(ANGEL_PTM_SANITIZE)
    set(features "")
    if(EXISTS /proc/cpuinfo)
      file(STRINGS /proc/cpuinfo features REGEX "^flags.* avx512_bf16( |$)" LIMIT_COUNT 1)
    endif()
    if(features AND NOT ANGEL_PTM_SANITIZE MATCHES "thread")
      list(APPEND isas avx512_bf16)
    endif()
  else()
    list(APPEND isas x86_64_v3 avx512 avx512_bf16 amx)
  endif()
endif()
list(JOIN isas ", " isas_text)
message(STATUS "angel-ptm: CPU levels ${isas_text}")
set(ANGEL_PTM_CPU_ISAS ${isas})

# angel_ptm_cpu_isa_name(<isa> <variable>): how the program spells a level.
function(angel_ptm_cpu_isa_name isa variable)
  string(REPLACE "_" "-" name ${isa})
  set(${variable} ${name} PARENT_SCOPE)
endfunction()

# angel_ptm_cpu_isa_sources(<target> <isa> SOURCES <source>... OPTIONS ... DEPS ...): the sources' objects for a level.
function(angel_ptm_cpu_isa_sources target isa)
  cmake_parse_arguments(ARG "" "" "SOURCES;OPTIONS;DEPS" ${ARGN})
  add_library(${target} OBJECT ${ARG_SOURCES})
  target_compile_options(${target} PRIVATE ${ANGEL_PTM_WARNINGS} ${isa_flags_${isa}} ${ARG_OPTIONS}
                         $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)  # objcopy leaves unique symbols visible
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE ${ARG_DEPS})
endfunction()

# angel_ptm_cpu_isa_object(<isa> <variable> OWN <source>... COMMON <source>... OPTIONS ... DEPS ...): compiles the sources
# for a level, those under COMMON once for all levels that share them, as the library angel_ptm_cpu_<isa>, and sets
# <variable> to one object file that shows the linker a single symbol, the function angel_ptm_cpu_kernels_<isa>. Every inline
# function of the standard library and abseil that the kernels use is compiled here too, under the name it has everywhere:
# left visible, the linker could choose this copy for the whole program, which would then end with an illegal instruction on
# an older machine. Groups of such functions become ordinary sections first, or the linker would merge them by name although
# it is local.
function(angel_ptm_cpu_isa_object isa variable)
  cmake_parse_arguments(ARG "" "" "OWN;COMMON;OPTIONS;DEPS" ${ARGN})
  set(common_isa ${isa})
  if(DEFINED isa_common_${isa})
    set(common_isa ${isa_common_${isa}})
  endif()
  set(common angel_ptm_cpu_${common_isa}_common)
  set(own angel_ptm_cpu_${isa}_own)
  if(NOT TARGET ${common})
    angel_ptm_cpu_isa_sources(${common} ${common_isa} SOURCES ${ARG_COMMON} OPTIONS ${ARG_OPTIONS} DEPS ${ARG_DEPS})
    angel_ptm_precompile(${common} own)
    if(ANGEL_PTM_SANITIZE)  # else each is compiled alone: what the compiler inlines depends on what it sees at once
      angel_ptm_join_sources(${common})
    endif()
  endif()
  angel_ptm_cpu_isa_sources(${own} ${isa} SOURCES ${ARG_OWN} OPTIONS ${ARG_OPTIONS} DEPS ${ARG_DEPS})
  set(entry angel_ptm_cpu_kernels_${isa})
  target_compile_definitions(${own} PRIVATE ANGEL_PTM_CPU_KERNELS=${entry})
  if(common_isa STREQUAL isa)
    angel_ptm_precompile(${own} ${common})
  else()
    angel_ptm_precompile(${own} own)
  endif()
  set(objects $<TARGET_OBJECTS:${own}> $<TARGET_OBJECTS:${common}>)
  add_library(angel_ptm_cpu_${isa} INTERFACE)
  target_sources(angel_ptm_cpu_${isa} INTERFACE ${objects})

  string(LENGTH ${entry} length)  # names of C++ begin with theirs
  set(merged ${CMAKE_CURRENT_BINARY_DIR}/cpu_${isa}_merged.o)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/cpu_${isa}.o)
  set(script ${CMAKE_SOURCE_DIR}/cmake/cpu_isa_sections.ld)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${ANGEL_PTM_JOINING_LINKER} -r --force-group-allocation -T ${script} -o ${merged} ${objects}
    COMMAND ${CMAKE_OBJCOPY} --keep-global-symbol=_ZN9angel_ptm${length}${entry}Ev ${merged} ${output}
    COMMAND ${CMAKE_COMMAND} -E rm ${merged}
    DEPENDS ${own} ${common} ${objects} ${script}
    COMMAND_EXPAND_LISTS VERBATIM
    COMMENT "Joining the CPU kernels for ${isa}")
  set(${variable} ${output} PARENT_SCOPE)
endfunction()
