#include "tests/tree/layers.h"

#include <algorithm>

#include "tests/tree/source_tree.h"

namespace angel_ptm::tree {
namespace {

// Bottom up; a folder inside another layer's comes before it.
const std::vector<Layer>& Layers() {
  static const std::vector<Layer> layers = {
      {"angel_ptm/base", {}},
      {"angel_ptm/config", {"angel_ptm/base"}},
      // Of the kernels, only what an op is: its kind, its arguments and their call; no backend.
      {"angel_ptm/model",
       {"angel_ptm/base", "angel_ptm/config", "kernels/ops", "kernels/ops.def", "kernels/op_kind.h",
        "kernels/operand.h", "kernels/kernel_call.h", "kernels/step_block.h"}},
      {"angel_ptm/memory", {"angel_ptm/base"}},
      // The device's kernels know what an op is, and do not know the host backend.
      {"kernels/cuda",
       {"angel_ptm/base", "kernels/ops", "kernels/ops.def", "kernels/operand.h", "kernels/kernels.h",
        "kernels/op_kind.h", "kernels/ordered_sum.h", "kernels/step_block.h"}},
      {"kernels", {"angel_ptm/base"}},
      {"comm", {"angel_ptm/base"}},
      {"optim", {"angel_ptm/base", "angel_ptm/model"}},
      {"angel_ptm/plan", {"angel_ptm/base", "angel_ptm/config", "angel_ptm/model"}},
      {"angel_ptm/exec",
       {"angel_ptm/base", "angel_ptm/model", "angel_ptm/plan", "angel_ptm/memory", "kernels", "comm"}},
      {"angel_ptm/data", {"angel_ptm/base", "angel_ptm/config"}},
      {"angel_ptm/checkpoint",
       {"angel_ptm/base", "angel_ptm/model", "angel_ptm/memory", "comm", "angel_ptm/plan/shard.h"}},
      // Pure functions; neither data nor graphs.
      {"angel_ptm/train/diffusion", {"angel_ptm/base"}},
      {"angel_ptm/train/tasks",
       {"angel_ptm/base", "angel_ptm/config", "angel_ptm/model", "angel_ptm/exec", "angel_ptm/data",
        "angel_ptm/checkpoint", "angel_ptm/train/diffusion", "angel_ptm/train/inference.h", "angel_ptm/train/task.h",
        "angel_ptm/train/train_state.h"}},
      // Knows no model family and no kind of data: those belong to the tasks.
      {"angel_ptm/train",
       {"angel_ptm/base", "angel_ptm/config", "angel_ptm/model/parameter_table.h", "angel_ptm/model/graph.h",
        "angel_ptm/model/cost.h", "angel_ptm/model/lock_free.h", "angel_ptm/memory", "angel_ptm/plan", "angel_ptm/exec",
        "angel_ptm/data/loader.h", "angel_ptm/data/tokenizer.h", "angel_ptm/checkpoint", "kernels", "comm", "optim"}},
      // The references define what an op means without the kernels' help.
      {"tests/reference", {"angel_ptm/base"}},
      {"launch", {}, /*may_include_anything=*/true},
      {"benchmarks", {}, /*may_include_anything=*/true},
      {"tests", {}, /*may_include_anything=*/true},
  };
  return layers;
}

}  // namespace

const Layer* LayerOf(const std::string& path) {
  for (const Layer& layer : Layers()) {
    if (StartsWithFolder(path, layer.folder)) return &layer;
  }
  return nullptr;
}

bool IsOurs(const std::string& path) {
  return std::any_of(Layers().begin(), Layers().end(), [&](const Layer& layer) {
    return StartsWithFolder(path, layer.folder.substr(0, layer.folder.find('/')));
  });
}

}  // namespace angel_ptm::tree
