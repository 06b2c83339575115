#include "angel_ptm/train/inference.h"

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/exec/backend_facts.h"
#include "angel_ptm/plan/planner.h"
#include "angel_ptm/train/run.h"
#include "angel_ptm/train/train_state.h"
#include "comm/local.h"
#include "kernels/cpu/cpu_isa.h"
#include "kernels/cpu/matrix_library.h"

namespace angel_ptm {
namespace {

using FillViews = std::function<absl::Status(const std::vector<StateView>& views)>;

class OneRank final : public Inference {
 public:
  explicit OneRank(Graph graph) : graph_(std::move(graph)), world_(1), communicator_(world_.Create(0)) {}

  absl::Status Load(const FillViews& fill, const InferenceOptions& options, const std::string& what);

  const Graph& graph() const override { return graph_; }
  Executor& executor() override { return *executor_; }
  int64_t memory_bytes() const override { return device_->bytes() + host_->bytes(); }

 private:
  const Graph graph_;
  LocalWorld world_;
  std::unique_ptr<Communicator> communicator_;
  Plan plan_;
  std::unique_ptr<Tier> device_, host_;
  std::unique_ptr<FileTier> file_;  // null: no weights are kept in a file
  Lanes lanes_;
  std::unique_ptr<Executor> executor_;
};

absl::Status OneRank::Load(const FillViews& fill, const InferenceOptions& options, const std::string& what) {
  ASSIGN_OR_RETURN(const KernelTable* const kernels, options.kernels_for(graph_.table->compute_type()));
  ASSIGN_OR_RETURN(const BackendFacts backend, FactsOf(graph_, *kernels, {.threads = options.threads}, 1));
  ASSIGN_OR_RETURN(plan_, MakePlan(graph_, backend,
                                   {.device_bytes = options.device_bytes,
                                    .host_bytes = options.host_bytes,
                                    .file_bytes = FileBudget(options.nvme)}));
  const auto arena_bytes = [&](TierKind tier) { return plan_.arena_bytes[static_cast<int>(tier)]; };
  const int64_t bytes = arena_bytes(TierKind::kDevice) + arena_bytes(TierKind::kHost);
  if (options.memory_bytes_max > 0 && bytes > options.memory_bytes_max) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "generating needs ", FormatBytes(bytes), " for ", what, ", this machine has ",
        FormatBytes(options.memory_bytes_max), " for it: ", FormatBytes(bytes - options.memory_bytes_max), " more"));
  }
  ASSIGN_OR_RETURN(device_, MakeHostArena(TierKind::kDevice, arena_bytes(TierKind::kDevice), options.threads));
  ASSIGN_OR_RETURN(host_, MakeHostArena(TierKind::kHost, arena_bytes(TierKind::kHost), options.threads));
  std::string notes;
  ASSIGN_OR_RETURN(file_, OpenFileTier(options.nvme, 0, arena_bytes(TierKind::kFile), *host_, &notes));
  Machine machine{device_.get(), host_.get(), communicator_.get(), communicator_.get(),
                  kernels,       &lanes_,     options.threads};
  machine.file = file_.get();
  ASSIGN_OR_RETURN(executor_, Executor::Create(graph_, plan_, machine, {}));
  return fill(StateViews(plan_.layout, machine));
}

absl::StatusOr<std::unique_ptr<Inference>> Load(Graph graph, const FillViews& fill, const InferenceOptions& options,
                                                const std::string& what) {
  auto inference = std::make_unique<OneRank>(std::move(graph));
  RETURN_IF_ERROR(inference->Load(fill, options, what));
  return std::unique_ptr<Inference>(std::move(inference));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Inference>> Inference::Create(Graph graph, CheckpointReader& checkpoint,
                                                             const InferenceOptions& options, const std::string& what) {
  RETURN_IF_ERROR(checkpoint.Fit(*graph.table));
  ASSIGN_OR_RETURN(const std::string state, WeightsToRead(checkpoint, options.weights));
  const auto fill = [&](const std::vector<StateView>& views) { return LoadWeights(checkpoint, state, views); };
  return Load(std::move(graph), fill, options, what);
}

absl::StatusOr<std::unique_ptr<Inference>> Inference::Create(Graph graph, const ReadParameters& read,
                                                             const InferenceOptions& options, const std::string& what) {
  const auto fill = [&](const std::vector<StateView>& views) -> absl::Status {
    for (const StateView& view : views) RETURN_IF_ERROR(ReadInto(view, read));
    return absl::OkStatus();
  };
  return Load(std::move(graph), fill, options, what);
}

absl::StatusOr<uint64_t> DigestOf(const Graph& graph, const WeightsReader& weights, const InferenceOptions& options) {
  ASSIGN_OR_RETURN(const KernelTable* const kernels, options.kernels_for(graph.table->compute_type()));
  Hasher hasher;
  hasher.Mix(Hash(graph)).Mix(MatrixLibrary()).Mix(static_cast<uint64_t>(options.threads));
  // The kernel tables of all levels have the same name, so the level is mixed in.
  for (const CpuIsa* isa : RunnableCpuIsas()) {
    if (&isa->kernels() == kernels) hasher.Mix(std::string_view(isa->name));
  }
  RETURN_IF_ERROR(weights.ReadAll([&](UnitId unit, int64_t begin, std::span<const float> values) {
    hasher.Mix(static_cast<uint64_t>(unit)).Mix(static_cast<uint64_t>(begin)).Mix(Xxh3(std::as_bytes(values)));
    return absl::OkStatus();
  }));
  return hasher.Digest();
}

}  // namespace angel_ptm
