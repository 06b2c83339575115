# All packages come from the distribution; ARCHITECTURE.md says why each was chosen.
find_package(Threads REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(Protobuf REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(nlohmann_json REQUIRED)
pkg_check_modules(OpenBLAS REQUIRED IMPORTED_TARGET openblas)

# The plots of `angel-ptm report`; its files go into the program.
find_path(ANGEL_PTM_DYGRAPHS dygraph.min.js PATHS /usr/share/javascript/dygraphs NO_DEFAULT_PATH NO_CMAKE_FIND_ROOT_PATH
          DOC "Folder of dygraph.min.js and dygraph.min.css")
foreach(file dygraph.min.js dygraph.min.css)
  if(NOT EXISTS ${ANGEL_PTM_DYGRAPHS}/${file})
    message(FATAL_ERROR "dygraphs was not found: install libjs-dygraphs, or set ANGEL_PTM_DYGRAPHS to the folder of "
                        "${file}")
  endif()
endforeach()

# angel_ptm_feature(NAME FOUND): resolves AUTO/ON/OFF into ANGEL_PTM_WITH_<NAME>.
function(angel_ptm_feature name found)
  if(ANGEL_PTM_${name} STREQUAL "ON" AND NOT found)
    message(FATAL_ERROR "ANGEL_PTM_${name}=ON, but ${name} was not found")
  endif()
  if(ANGEL_PTM_${name} STREQUAL "OFF" OR NOT found)
    set(with OFF)
  else()
    set(with ON)
  endif()
  set(ANGEL_PTM_WITH_${name} ${with} PARENT_SCOPE)
  message(STATUS "angel-ptm: ${name} ${with}")
endfunction()

if(NOT ANGEL_PTM_MPI STREQUAL "OFF")
  find_package(MPI COMPONENTS C)
endif()
angel_ptm_feature(MPI "${MPI_C_FOUND}")

if(NOT ANGEL_PTM_URING STREQUAL "OFF")
  pkg_check_modules(LIBURING IMPORTED_TARGET liburing>=2.2)
endif()
angel_ptm_feature(URING "${LIBURING_FOUND}")

# Images are decoded, written and drawn with all of these or not at all.
if(NOT ANGEL_PTM_IMAGES STREQUAL "OFF")
  pkg_check_modules(IMAGE_LIBRARIES IMPORTED_TARGET libpng16 libjpeg freetype2 harfbuzz zlib)
endif()
angel_ptm_feature(IMAGES "${IMAGE_LIBRARIES_FOUND}")

# Tokenizers of imported models.
if(NOT ANGEL_PTM_TOKENIZERS STREQUAL "OFF")
  pkg_check_modules(TOKENIZER_LIBRARIES IMPORTED_TARGET libutf8proc libpcre2-8)
endif()
angel_ptm_feature(TOKENIZERS "${TOKENIZER_LIBRARIES_FOUND}")

set(ANGEL_PTM_WITH_CUDA OFF)  # AngelPtmCuda.cmake finds it, and NCCL
