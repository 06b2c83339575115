# kernels/cuda by nvcc, where there is one: ANGEL_PTM_NVCC is empty otherwise. Proved by tests/cuda_emulation and
# tests/cuda_resources; what the program does without a GPU, by tests/memory, tests/exec and tests/laws.
#
# Not as CMake's language CUDA: 3.25 does not know its C++20, and what ptxas says of registers has to be kept.
set(ANGEL_PTM_NVCC "")
if(NOT ANGEL_PTM_CUDA STREQUAL "OFF" AND NOT ANGEL_PTM_SANITIZE)
  find_program(ANGEL_PTM_NVCC_PROGRAM nvcc HINTS /usr/local/cuda/bin)
  mark_as_advanced(ANGEL_PTM_NVCC_PROGRAM)
  if(ANGEL_PTM_NVCC_PROGRAM)
    set(ANGEL_PTM_NVCC ${ANGEL_PTM_NVCC_PROGRAM})
  endif()
endif()
if(ANGEL_PTM_CUDA STREQUAL "ON" AND NOT ANGEL_PTM_NVCC)
  message(FATAL_ERROR "ANGEL_PTM_CUDA=ON needs nvcc of CUDA 12.8 or later on the path or in /usr/local/cuda/bin, and no "
                      "sanitizers: it was not found")
endif()
if(ANGEL_PTM_NVCC)
  set(ANGEL_PTM_WITH_CUDA ON)
  message(STATUS "angel-ptm: CUDA kernels by ${ANGEL_PTM_NVCC}")
  # Linked into the program, so that it starts where there is no driver.
  cmake_path(GET ANGEL_PTM_NVCC PARENT_PATH folder)
  find_library(ANGEL_PTM_CUDART cudart_static HINTS ${folder}/../lib64 ${folder}/../lib REQUIRED)
  mark_as_advanced(ANGEL_PTM_CUDART)
  set(ANGEL_PTM_CUDA_INCLUDE ${folder}/../include)
else()
  message(STATUS "angel-ptm: CUDA kernels OFF")
endif()

# NCCL's header, which is of use with CUDA alone; the library is opened at run time.
if(ANGEL_PTM_NVCC AND NOT ANGEL_PTM_NCCL STREQUAL "OFF")
  find_path(ANGEL_PTM_NCCL_INCLUDE nccl.h HINTS ${ANGEL_PTM_CUDA_INCLUDE} DOC "Folder of nccl.h")
  mark_as_advanced(ANGEL_PTM_NCCL_INCLUDE)
endif()
angel_ptm_feature(NCCL "${ANGEL_PTM_NCCL_INCLUDE}")

# No contraction and IEEE division and roots, as on the host: bits are promised. compute_90a has wgmma, TMA and setmaxnreg.
set(ANGEL_PTM_NVCC_FLAGS -std=c++20 -O3 -DNDEBUG -fmad=false -prec-div=true -prec-sqrt=true -ftz=false
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a
    -Werror all-warnings -Xcompiler=-Wall,-Wextra,-Werror,-ffp-contract=off -Xptxas=-v)

# Sources that are not joined with others: they take long of themselves, and tests/cuda_resources asks for some by name.
set(ANGEL_PTM_CUDA_ALONE "/(attention|attention_grad|attention_grad_fma|grouped_matmul|matmul|.*_sm90a)\\.cu$")

# angel_ptm_cuda_library(<name> ALONE <source>... JOINED <source>...): beside every object <source>.o lies <source>.ptxas, what
# ptxas said. Those JOINED are compiled several in one where ANGEL_PTM_JOIN_SOURCES says so for the product: nvcc reads
# CUDA's headers twice for each architecture, which is most of what a small source costs.
function(angel_ptm_cuda_library name)
  cmake_parse_arguments(ARG "" "" "ALONE;JOINED" ${ARGN})
  if(ANGEL_PTM_JOIN_SOURCES STREQUAL "ON")
    set(in_one 10)
  else()
    set(in_one 1)
  endif()
  set(batch 0)
  while(ARG_JOINED)
    list(SUBLIST ARG_JOINED 0 ${in_one} sources)
    list(REMOVE_ITEM ARG_JOINED ${sources})
    if(in_one EQUAL 1)
      list(APPEND ARG_ALONE ${sources})
    else()
      list(TRANSFORM sources REPLACE "(.+)" "#include \"\\1\"\n")
      string(JOIN "" text ${sources})
      set(joined ${CMAKE_CURRENT_BINARY_DIR}/joined/joined_${batch}.cu)
      file(CONFIGURE OUTPUT ${joined} CONTENT "${text}" @ONLY)
      list(APPEND ARG_ALONE ${joined})
      math(EXPR batch "${batch} + 1")
    endif()
  endwhile()
  set(objects)
  foreach(source IN LISTS ARG_ALONE)
    cmake_path(GET source FILENAME file)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${file}.o)
    set(log ${CMAKE_CURRENT_BINARY_DIR}/${file}.ptxas)
    add_custom_command(
      OUTPUT ${object} ${log}
      COMMAND ${CMAKE_SOURCE_DIR}/cmake/compile_cuda.sh ${log} ${ANGEL_PTM_CCACHE} ${ANGEL_PTM_NVCC}
              ${ANGEL_PTM_NVCC_FLAGS} -I${CMAKE_SOURCE_DIR} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
      DEPENDS ${source} ${CMAKE_SOURCE_DIR}/cmake/compile_cuda.sh
      DEPFILE ${object}.d
      COMMENT "Building CUDA object ${file}.o" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  add_library(${name} STATIC ${objects})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(${name} PUBLIC angel_ptm_base ${ANGEL_PTM_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
endfunction()
