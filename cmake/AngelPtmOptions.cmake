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
  set(CMAKE_C_COMPILER_LAUNCHER ${ANGEL_PTM_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ANGEL_PTM_CCACHE})
endif()

set(ANGEL_PTM_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
if(ANGEL_PTM_SANITIZE)
  add_compile_options(-fsanitize=${ANGEL_PTM_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${ANGEL_PTM_SANITIZE})
endif()

# Every bit of a run is part of law 1: no value-changing contraction unless a kernel asks for it with std::fma.
add_compile_options(-ffp-contract=off)

set(ANGEL_PTM_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers)
if(ANGEL_PTM_WERROR)
  list(APPEND ANGEL_PTM_WARNINGS -Werror)
endif()
