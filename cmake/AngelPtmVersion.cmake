# angel_ptm_version: the library behind launch/version_info.h. What configuring knows goes into version_info.cc; the
# commit is looked up in every build and rewritten only when it changed, so one small file is recompiled.
set(version_folder ${CMAKE_BINARY_DIR}/generated/version)

set(isa_names)
foreach(isa IN LISTS ANGEL_PTM_CPU_ISAS)
  angel_ptm_cpu_isa_name(${isa} name)
  list(APPEND isa_names ${name})
endforeach()
list(JOIN isa_names ", " ANGEL_PTM_CPU_ISAS_TEXT)
set(ANGEL_PTM_OPTIONS_TEXT "")
foreach(feature CUDA IMAGES NCCL MPI TOKENIZERS URING)
  if(ANGEL_PTM_WITH_${feature})
    string(APPEND ANGEL_PTM_OPTIONS_TEXT " ${feature}=ON")
  else()
    string(APPEND ANGEL_PTM_OPTIONS_TEXT " ${feature}=OFF")
  endif()
endforeach()
string(STRIP "${ANGEL_PTM_OPTIONS_TEXT}" ANGEL_PTM_OPTIONS_TEXT)
configure_file(${CMAKE_SOURCE_DIR}/cmake/version_info.cc.in ${version_folder}/version_info.cc @ONLY)

add_custom_target(angel_ptm_version_commit
  COMMAND ${CMAKE_COMMAND} -D SOURCE_DIR=${CMAKE_SOURCE_DIR} -D OUTPUT=${version_folder}/version_commit.inc
          -P ${CMAKE_SOURCE_DIR}/cmake/WriteVersionCommit.cmake
  BYPRODUCTS ${version_folder}/version_commit.inc
  COMMENT "Looking up the commit")

angel_ptm_library(angel_ptm_version SOURCES ${version_folder}/version_info.cc)
target_include_directories(angel_ptm_version PRIVATE ${version_folder})
add_dependencies(angel_ptm_version angel_ptm_version_commit)
