#include "comm/nccl/nccl_library.h"

#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

static_assert(kNcclSuccess == ncclSuccess && kNcclInvalidUsage == ncclInvalidUsage &&
              kNcclRemoteError == ncclRemoteError && kNcclInProgress == ncclInProgress);
static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

// The oldest version that is accepted; all calls below are older.
constexpr int kOldest = 21900;

#define APTM_NCCL_CALLS(CALL) \
  CALL(GetVersion);           \
  CALL(GetErrorString);       \
  CALL(GetLastError);         \
  CALL(GetUniqueId);          \
  CALL(CommInitRankConfig);   \
  CALL(CommGetAsyncError);    \
  CALL(CommFinalize);         \
  CALL(CommDestroy);          \
  CALL(CommAbort);            \
  CALL(GroupStart);           \
  CALL(GroupEnd);             \
  CALL(AllGather);            \
  CALL(Send);                 \
  CALL(Recv);                 \
  CALL(Reduce)

struct Calls {
#define APTM_CALL(name) decltype(&nccl##name) name = nullptr
  APTM_NCCL_CALLS(APTM_CALL);
#undef APTM_CALL
};

// 22809 is "2.28.9".
std::string VersionText(int code) { return absl::StrCat(code / 10000, ".", code / 100 % 100, ".", code % 100); }

ncclComm_t Comm(void* comm) { return static_cast<ncclComm_t>(comm); }
cudaStream_t Stream(void* stream) { return static_cast<cudaStream_t>(stream); }

class NcclLibrary final : public NcclApi {
 public:
  NcclLibrary(const Calls& calls, int version) : calls_(calls), version_(version) {}

  std::string Version() override { return VersionText(version_); }
  std::string ErrorText(NcclCode code) override { return calls_.GetErrorString(static_cast<ncclResult_t>(code)); }
  std::string LastError() override {
    const char* const text = calls_.GetLastError(nullptr);
    return text == nullptr ? "" : text;
  }

  NcclCode GetUniqueId(NcclId* id) override {
    ncclUniqueId unique;
    const ncclResult_t code = calls_.GetUniqueId(&unique);
    std::memcpy(id->bytes.data(), unique.internal, sizeof(unique));
    return code;
  }
  NcclCode CommInit(void** comm, int ranks, const NcclId& id, int rank) override {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclUniqueId unique;
    std::memcpy(unique.internal, id.bytes.data(), sizeof(unique));
    return calls_.CommInitRankConfig(reinterpret_cast<ncclComm_t*>(comm), ranks, unique, rank, &config);
  }
  NcclCode AsyncError(void* comm, NcclCode* state) override {
    ncclResult_t result = ncclSuccess;
    const ncclResult_t code = calls_.CommGetAsyncError(Comm(comm), &result);
    *state = result;
    return code;
  }
  NcclCode CommFinalize(void* comm) override { return calls_.CommFinalize(Comm(comm)); }
  NcclCode CommDestroy(void* comm) override { return calls_.CommDestroy(Comm(comm)); }
  NcclCode CommAbort(void* comm) override { return calls_.CommAbort(Comm(comm)); }

  NcclCode GroupStart() override { return calls_.GroupStart(); }
  NcclCode GroupEnd() override { return calls_.GroupEnd(); }
  NcclCode AllGather(const void* src, void* dst, int64_t bytes, void* comm, void* stream) override {
    return calls_.AllGather(src, dst, static_cast<size_t>(bytes), ncclUint8, Comm(comm), Stream(stream));
  }
  NcclCode Send(const void* src, int64_t bytes, int peer, void* comm, void* stream) override {
    return calls_.Send(src, static_cast<size_t>(bytes), ncclUint8, peer, Comm(comm), Stream(stream));
  }
  NcclCode Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) override {
    return calls_.Recv(dst, static_cast<size_t>(bytes), ncclUint8, peer, Comm(comm), Stream(stream));
  }
  NcclCode Reduce(const void* src, void* dst, int64_t count, DType type, int root, void* comm, void* stream) override {
    const ncclDataType_t of = type == DType::kBFloat16 ? ncclBfloat16 : ncclFloat32;
    return calls_.Reduce(src, dst, static_cast<size_t>(count), of, ncclSum, root, Comm(comm), Stream(stream));
  }

 private:
  const Calls calls_;
  const int version_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<NcclApi>> LoadNcclFrom(const char* file) {
  void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();
    return absl::FailedPreconditionError(
        absl::StrCat("NCCL was not found, wanted version ", VersionText(kOldest), " or later (", reason, ")"));
  }
  Calls calls;
#define APTM_CALL(name)                                                                                \
  calls.name = reinterpret_cast<decltype(&nccl##name)>(dlsym(library, "nccl" #name));                  \
  if (calls.name == nullptr) {                                                                         \
    return absl::FailedPreconditionError(                                                              \
        absl::StrCat(file, " has no nccl" #name ", wanted NCCL ", VersionText(kOldest), " or later")); \
  }
  APTM_NCCL_CALLS(APTM_CALL);
#undef APTM_CALL
  int version = 0;
  if (calls.GetVersion(&version) != ncclSuccess || version < kOldest) {
    return absl::FailedPreconditionError(
        absl::StrCat(file, " is NCCL ", VersionText(version), ", wanted ", VersionText(kOldest), " or later"));
  }
  return std::make_shared<NcclLibrary>(calls, version);
}

absl::StatusOr<std::shared_ptr<NcclApi>> LoadNccl() { return LoadNcclFrom("libnccl.so.2"); }

}  // namespace angel_ptm
