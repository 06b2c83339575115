// What all graphs of a run share: the sharding units, their parameters and the states that persist for each.
//
// A table is made once, by the first graph built against none (GraphBuilder) or by the model family's own function, and
// is const from then on: graphs hold a shared_ptr to const, and those built later must declare what it has. Which
// tensor stands for a parameter is each graph's own (Graph::parameter_tensors).
//
// Parameters belong to sharding units (Zhao et al. 2023, FSDP, section 3.2): a unit's parameters lie in one flat
// vector, in order, each starting at a multiple of kParameterAlignment elements, whatever the type: so a checkpoint of
// a bf16 run is one of an fp32 run.
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

// 64 bytes of fp32, what the kernels ask of an operand; 32 of bf16.
inline constexpr int64_t kParameterAlignment = 16;

// A stretch of a parameter that has a name of its own in the Hugging Face checkpoint.
struct ExportedName {
  std::string name;
  int64_t offset = 0;  // elements from the parameter's start
  Shape shape;

  friend bool operator==(const ExportedName&, const ExportedName&) = default;
};

// What a parameter's elements are before the first step.
struct InitialValues {
  static InitialValues Ones() { return {.ones = true}; }
  static InitialValues Normal(float stddev) { return {.stddev = stddev}; }

  bool ones = false;  // norms; a flag, so that no deviation, however small, means it
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
  bool trainable = true;  // false: frozen; it has parameters and no other state, and no gradient is computed
  // Its elements are those of experts, one after another, of which a rank has a part where they are split
  // (WorldShape::expert_degree): ops' operands are that part.
  bool is_experts = false;
};

// The name by which patterns mean the unit. Where experts have a unit for each of their weights
// ("layers.3.experts.down") it is that of all ("layers.3.experts"), so that a pattern means the same whether they are
// split or not.
std::string_view PatternName(const Unit& unit);
// Whether a pattern (base/text.h, MatchesPattern) means it.
bool IsMeant(const Unit& unit, std::string_view pattern);

struct ParameterTable {
  std::vector<Unit> units;
  std::vector<Parameter> parameters;
  std::vector<StateSpec> states = {ParameterState()};  // of every trainable unit; frozen ones have the first only

  bool HasState(UnitId unit, StateId state) const { return state == kParameterState || units[unit].trainable; }
  // What ops compute in: the type of activations, and of parameters where ops read them.
  DType compute_type() const { return states[kParameterState].dtype; }
  // Sum of parameter elements, padding not counted.
  int64_t ParameterCount() const;

  UnitId AddUnit(Unit unit);
  // At the end of its unit's flat vector, which fixes its unit_offset.
  ParameterId AddParameter(Parameter parameter);

  // The first unit or parameter of that name at or behind number `from`. A CHECK failure if there is none, if it comes
  // earlier, or if it is not what the caller describes: its unit_offset and a unit's parameters and elements aside.
  UnitId MatchUnit(const Unit& unit, UnitId from) const;
  ParameterId MatchParameter(Parameter parameter, ParameterId from) const;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_PARAMETER_TABLE_H_
