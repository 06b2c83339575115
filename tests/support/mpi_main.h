// For tests that run under mpirun: every rank runs all tests together.
#ifndef ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_
#define ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_

#include <filesystem>

#include "comm/mpi.h"

namespace angel_ptm {

// The world of this test program, from before the first test until after the last.
MpiWorld& TestMpiWorld();

// A new folder that all ranks see, the same on each; all ranks call it together. Whoever calls it removes it.
std::filesystem::path NewSharedFolder(const std::filesystem::path& in = std::filesystem::temp_directory_path());

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_
