# Compiles for 64-bit Arm on another Debian 12 machine, against the libraries that tests/aarch64/run unpacks, and runs tests
# by user-mode emulation.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc-12)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++-12)
set(ANGEL_PTM_JOINING_LINKER aarch64-linux-gnu-ld.bfd)

cmake_path(ABSOLUTE_PATH CMAKE_CURRENT_LIST_DIR OUTPUT_VARIABLE here)
cmake_path(SET CMAKE_SYSROOT NORMALIZE "${here}/../../build/aarch64/sysroot")
set(libraries usr/lib/aarch64-linux-gnu)

# Programs are this machine's (protoc has the same version), all else is from there.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# OpenBLAS's own folder, as no alternative of it was installed.
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${CMAKE_SYSROOT}")
set(ENV{PKG_CONFIG_LIBDIR} "${CMAKE_SYSROOT}/${libraries}/pkgconfig:${CMAKE_SYSROOT}/usr/share/pkgconfig:${CMAKE_SYSROOT}/${libraries}/openblas-openmp/pkgconfig")

set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L "${CMAKE_SYSROOT}" -E "LD_LIBRARY_PATH=/${libraries}/openblas-openmp")
