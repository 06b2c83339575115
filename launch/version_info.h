// What this program was built from and how, as printed by `angel-ptm --version`. Link angel_ptm_version
// (cmake/AngelPtmVersion.cmake generates the source file).
#ifndef ANGEL_PTM_LAUNCH_VERSION_INFO_H_
#define ANGEL_PTM_LAUNCH_VERSION_INFO_H_

#include <string>
#include <string_view>

namespace angel_ptm {

struct VersionInfo {
  std::string_view version;     // "0.1.0"
  std::string_view commit;      // "1a2b3c4d5e6f", "...-dirty" with local changes, or "unknown" outside a checkout
  std::string_view build_type;  // "RelWithDebInfo"
  std::string_view compiler;    // "GNU 12.2.0"
  std::string_view cpu_isas;    // levels of the CPU kernels (kernels/cpu/cpu_isa.h), "portable, x86-64-v3"
  std::string_view sanitizers;  // "address,undefined"; empty in ordinary builds
  std::string_view options;     // "CUDA=OFF IMAGES=ON NCCL=OFF MPI=ON URING=OFF"
};

const VersionInfo& BuildVersionInfo();

// Three lines for people, each ending in a newline.
std::string VersionText();

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_VERSION_INFO_H_
