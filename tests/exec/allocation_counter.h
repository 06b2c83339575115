// Counts this process's allocator and mmap calls by replacing malloc and related functions in a program.
#ifndef ANGEL_PTM_TESTS_EXEC_ALLOCATION_COUNTER_H_
#define ANGEL_PTM_TESTS_EXEC_ALLOCATION_COUNTER_H_

#include <cstdint>

namespace angel_ptm {

// Calls so far, by all threads and shared libraries: malloc, calloc, realloc, aligned allocation, operator new, mmap,
// mremap.
int64_t AllocationCalls();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_EXEC_ALLOCATION_COUNTER_H_
