#include "angel_ptm/train/initialise.h"

#include <algorithm>

#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/random.h"

namespace angel_ptm {
namespace {

// Fills the part of one parameter that lies in stored elements [begin, begin + values.size()) of its unit.
void InitialiseParameter(const Tensor& tensor, float stddev, uint64_t seed, int64_t begin, std::span<float> values) {
  const uint32_t stream = static_cast<uint32_t>(Hasher().Mix(tensor.name).Digest());
  const int64_t first = std::max(begin, tensor.unit_offset);
  const int64_t last =
      std::min(begin + static_cast<int64_t>(values.size()), tensor.unit_offset + tensor.shape.elements());
  for (int64_t i = first; i < last; ++i) {
    const uint64_t index = static_cast<uint64_t>(i - tensor.unit_offset);
    values[i - begin] = stddev == 0 ? 1.0f : stddev * RandomNormal(seed, RandomPurpose::kInitialisation, stream, index);
  }
}

}  // namespace

void InitialiseState(const Graph& graph, uint64_t seed, std::span<const StateView> views) {
  for (const StateView& view : views) {
    std::fill(view.stored.begin(), view.stored.end(), 0.0f);
    if (view.state != kParameterState) continue;
    const int64_t begin = view.stored.size() == view.own_slice.size() ? view.begin : 0;
    for (int32_t p : graph.units[view.unit].parameters) {
      const Parameter& parameter = graph.parameters[p];
      InitialiseParameter(graph.tensors[parameter.tensor], parameter.init_stddev, seed, begin, view.stored);
    }
  }
}

}  // namespace angel_ptm
