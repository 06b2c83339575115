// The functions that g++ calls at every load and store of a file compiled with -fsanitize=thread and, with
// -fsanitize=alignment, where an address is not aligned as its type requires, which a GPU does not allow. The kernels
// are compiled so, and the sanitizers' libraries are not linked: these functions replace them.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/cuda_emulation/memory.h"

using angel_ptm::emulated::Access;
using angel_ptm::emulated::OnAccess;
using angel_ptm::emulated::OnMisaligned;

namespace {

// As g++ lays them out.
struct TypeMismatch {
  struct {
    const char* file;
    std::uint32_t line, column;
  } place;
  const void* type;
  unsigned char log2_alignment, kind;
};

}  // namespace

extern "C" {

#define APTM_HOOK(name, bytes, access)                                                         \
  void __tsan_##name##bytes(void* p) {                                                         \
    OnAccess(reinterpret_cast<std::uintptr_t>(p), bytes, access, __builtin_return_address(0)); \
  }
#define APTM_HOOKS(bytes)                         \
  APTM_HOOK(read, bytes, Access::kRead)           \
  APTM_HOOK(write, bytes, Access::kWrite)         \
  APTM_HOOK(unaligned_read, bytes, Access::kRead) \
  APTM_HOOK(unaligned_write, bytes, Access::kWrite)

APTM_HOOKS(1)
APTM_HOOKS(2)
APTM_HOOKS(4)
APTM_HOOKS(8)
APTM_HOOKS(16)

void __tsan_read_range(void* p, std::size_t bytes) {
  OnAccess(reinterpret_cast<std::uintptr_t>(p), bytes, Access::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* p, std::size_t bytes) {
  OnAccess(reinterpret_cast<std::uintptr_t>(p), bytes, Access::kWrite, __builtin_return_address(0));
}
void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, void* p) {
  OnMisaligned(reinterpret_cast<std::uintptr_t>(p), std::size_t{1} << data->log2_alignment,
               __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

}  // extern "C"
