#include "angel_ptm/exec/unit_spans.h"

namespace angel_ptm {

std::vector<ElementSpan> WithoutDecay(const Graph& graph, UnitId unit) {
  std::vector<ElementSpan> spans;
  for (ParameterId p : graph.units()[unit].parameters) {
    const Parameter& parameter = graph.parameters()[p];
    if (parameter.weight_decay) continue;
    spans.push_back({parameter.unit_offset, parameter.unit_offset + parameter.shape.elements()});
  }
  return spans;
}

std::vector<ElementSpan> GapsOf(const Graph& graph, const Layout& layout, UnitId unit) {
  std::vector<ElementSpan> gaps;
  int64_t end = 0;
  for (ParameterId p : graph.units()[unit].parameters) {
    const Parameter& parameter = graph.parameters()[p];
    if (parameter.unit_offset > end) gaps.push_back({end, parameter.unit_offset});
    end = parameter.unit_offset + parameter.shape.elements();
  }
  const int64_t whole = layout.slices[unit].slice_elements * layout.world_size;
  if (whole > end) gaps.push_back({end, whole});
  return gaps;
}

}  // namespace angel_ptm
