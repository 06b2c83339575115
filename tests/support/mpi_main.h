// For tests that run under mpirun: every rank runs all tests together.
#ifndef ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_
#define ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_

#include "comm/mpi.h"

namespace angel_ptm {

// The world of this test program, from before the first test until after the last.
MpiWorld& TestMpiWorld();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_MPI_MAIN_H_
