// The table that all graphs of a run share: the sharding units, their parameters and the states that persist for each
// unit.
//
// A table is made once, by the first graph that is built without one (GraphBuilder) or by the model family's own
// function, and is const from then on. Graphs hold a shared_ptr to const, and graphs built later must declare what the
// table contains. Each graph has its own mapping from parameters to tensors (Graph::parameter_tensors).
//
// Parameters belong to sharding units (Zhao et al. 2023, FSDP, section 3.2): a unit's parameters lie in one flat
// vector, in order, each starting at a multiple of kParameterAlignment elements. This does not depend on the type, so a
// checkpoint of a bf16 run is also one of an fp32 run.
#ifndef ANGEL_PTM_MODEL_PARAMETER_TABLE_H_
#define ANGEL_PTM_MODEL_PARAMETER_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/shape.h"
#include "angel_ptm/model/state.h"

namespace angel_ptm {

using UnitId = int32_t;
using ParameterId = int32_t;
inline constexpr int32_t kNone = -1;

// 64 bytes of fp32, the alignment that kernels require of operands; 32 bytes of bf16.
inline constexpr int64_t kParameterAlignment = 16;

// A contiguous part of a parameter that is a tensor with its own name in exported files (transformers, diffusers).
struct ExportedName {
  std::string name;
  int64_t offset = 0;  // elements from the parameter's start
  Shape shape;

  friend bool operator==(const ExportedName&, const ExportedName&) = default;
};

// The values of a parameter's elements before the first step.
struct InitialValues {
  static InitialValues Ones() { return {.ones = true}; }
  static InitialValues Normal(float stddev) { return {.stddev = stddev}; }

  bool ones = false;  // norms; a flag, so that no standard deviation, however small, has this meaning
  float stddev = 0;   // else N(0, stddev)

  friend bool operator==(const InitialValues&, const InitialValues&) = default;
};

struct Parameter {
  std::string name;
  Shape shape;
  UnitId unit = kNone;
  int64_t unit_offset = 0;   // elements from the start of the unit's flat vector
  bool weight_decay = true;  // false for norms and biases
  InitialValues initial;
  std::vector<ExportedName> exported;

  friend bool operator==(const Parameter&, const Parameter&) = default;
};

struct Unit {
  std::string name;
  std::vector<ParameterId> parameters;
  int64_t elements = 0;   // of the flat vector, before the padding that sharding adds
  bool trainable = true;  // false: frozen, i.e. no state other than parameters, and no gradient is computed
  // The unit consists of split experts, one after another. A rank holds one part of them (WorldShape::expert_degree),
  // and the operands of ops are that part.
  bool is_experts = false;
};

// The name that patterns are matched against. If experts have one unit per weight ("layers.3.experts.down"), this is
// the common name ("layers.3.experts"), so that a pattern means the same whether experts are split or not.
std::string_view PatternName(const Unit& unit);
// Whether a pattern (base/text.h, MatchesPattern) matches the unit.
bool IsMeant(const Unit& unit, std::string_view pattern);

struct ParameterTable {
  std::vector<Unit> units;
  std::vector<Parameter> parameters;
  std::vector<StateSpec> states = {ParameterState()};  // of every trainable unit; frozen units have only the first

  bool HasState(UnitId unit, StateId state) const { return state == kParameterState || units[unit].trainable; }
  // The type that ops compute in: that of activations, and of parameters as ops read them.
  DType compute_type() const { return states[kParameterState].dtype; }
  // Total number of parameter elements, without padding.
  int64_t ParameterCount() const;

  UnitId AddUnit(Unit unit);
  // Adds the parameter at the end of its unit's flat vector, which determines its unit_offset.
  ParameterId AddParameter(Parameter parameter);

  // Returns the first unit or parameter of that name whose index is at least `from`. CHECK-fails if there is none, or
  // if its properties differ from the caller's description; the unit_offset of a parameter, and the parameters and
  // elements of a unit, are not compared.
  UnitId MatchUnit(const Unit& unit, UnitId from) const;
  ParameterId MatchParameter(Parameter parameter, ParameterId from) const;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_PARAMETER_TABLE_H_
