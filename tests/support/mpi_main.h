// For tests that run under mpirun: every rank runs all tests together.
#ifndef ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_
#define ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_

#include <filesystem>

#include "comm/mpi.h"

namespace angel_ptm {

// The world of this test program; it exists from before the first test until after the last.
MpiWorld& TestMpiWorld();

// Creates a folder that all ranks see, the same on each. A collective call of all ranks. The caller removes the folder.
std::filesystem::path NewSharedFolder(const std::filesystem::path& in = std::filesystem::temp_directory_path());

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_
