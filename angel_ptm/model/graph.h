// The static graph of a run: every tensor and every op of forward, recomputation, backward and optimizer update, in
// execution order. It knows nothing of ranks, devices, pages or time; plan/ turns it into a Plan.
//
// Parameters belong to sharding units (Zhao et al. 2023, FSDP, section 3.2): a unit's parameters lie in one flat fp32
// vector, in order, each starting at a multiple of kParameterAlignment elements. Gradients mirror the parameters'
// places.
#ifndef ANGEL_PTM_MODEL_GRAPH_H_
#define ANGEL_PTM_MODEL_GRAPH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/shape.h"
#include "angel_ptm/model/state.h"
#include "kernels/op_kind.h"

namespace angel_ptm {

using TensorId = int32_t;
using OpId = int32_t;
using UnitId = int32_t;
inline constexpr int32_t kNone = -1;

// 64 bytes, what the kernels ask of an operand.
inline constexpr int64_t kParameterAlignment = 16;

enum class TensorClass : uint8_t {
  kInput,       // written by the trainer before a micro-step: tokens, targets, positions
  kParameter,   // a view into its unit's parameter vector
  kGradient,    // one micro-batch's gradient: a view into its unit's gradient vector
  kActivation,  // defined and consumed inside one segment
  kOutput,      // defined by an op, read by the trainer after the segment: losses, expert counts, logits
  kCache,       // kept from step to step outside the optimizer: key-value caches
};
const char* Name(TensorClass tensor_class);

struct Tensor {
  std::string name;
  Shape shape;
  DType dtype = DType::kFloat32;
  TensorClass tensor_class = TensorClass::kActivation;
  UnitId unit = kNone;      // parameters and gradients
  int64_t unit_offset = 0;  // elements from the start of the unit's flat vector

  int64_t bytes() const { return shape.elements() * SizeOf(dtype); }
};

enum class Phase : uint8_t { kForward, kRecompute, kBackward, kUpdate };
const char* Name(Phase phase);

// Numbers an op needs besides its operands' shapes; each kind reads only its own (ops/<op>.cc).
struct OpAttrs {
  bool trans_a = false, trans_b = false;
  bool accumulate = false;     // first gradient output adds to what is there
  bool accumulate_dw = false;  // weight-gradient outputs add to what is there
  float epsilon = 0;
  double rope_theta = 0, rope_alpha = 0;
  int64_t rows = 0, sequence = 0;  // batch rows B and their length S: T = B * S
  int64_t q_heads = 0, kv_heads = 0, head_dim = 0;
  int64_t experts = 0, topk = 0, block_rows = 0;
  int64_t chunk_tokens = 0;
  float aux_coefficient = 0;
  int64_t column_begin = 0, column_end = 0;  // of a matrix of shape[0] rows; 0, 0: all columns
};

struct Op {
  OpKind kind;
  Phase phase = Phase::kForward;
  int block = kNone;    // recomputation block
  UnitId unit = kNone;  // update ops: the unit they work on
  OpAttrs attrs;
  std::vector<TensorId> inputs, outputs;  // by slot (ops/<op>.cc); kNone where an optional operand is absent
  std::vector<StateId> states;            // update ops: what they work on, by slot
};

// A stretch of a parameter that has a name of its own in the Hugging Face checkpoint.
struct ExportedName {
  std::string name;
  int64_t offset = 0;  // elements from the parameter's start
  Shape shape;
};

// What a parameter's elements are before the first step.
struct InitialValues {
  static InitialValues Ones() { return {.ones = true}; }
  static InitialValues Normal(float stddev) { return {.stddev = stddev}; }

  bool ones = false;  // norms; a flag, so that no deviation, however small, means it
  float stddev = 0;   // else N(0, stddev)
};

struct Parameter {
  TensorId tensor = kNone;
  TensorId gradient = kNone;  // set by backward; kNone in graphs without one and in units that are not trained
  bool weight_decay = true;   // false for norms and biases
  InitialValues initial;
  std::vector<ExportedName> exported;
};

struct Unit {
  std::string name;
  std::vector<int32_t> parameters;  // indices into Graph::parameters
  int64_t elements = 0;             // of the flat vector, before the padding that sharding adds
  bool trainable = true;            // false: frozen; it has parameters and no other state, and no gradient is computed
};

struct Graph {
  std::string name;
  std::vector<Tensor> tensors;
  std::vector<Op> ops;
  std::vector<Parameter> parameters;
  std::vector<Unit> units;
  std::vector<StateSpec> states = {ParameterState()};  // of every trainable unit; frozen ones have the first only
  StateId read_state = kParameterState;                // what ops read of trainable units as their parameters
  OpId loss = kNone;             // the last forward op of a graph that is trained; it makes its own gradient
  TensorId loss_weight = kNone;  // input [1] fp32: by what a micro-batch's summed loss is weighted, its target tokens
  OpId update_begin = 0;         // ops [0, update_begin) are the micro-step, the rest the update segment

  const Tensor& tensor(TensorId id) const { return tensors[id]; }
  bool HasState(UnitId unit, StateId state) const { return state == kParameterState || units[unit].trainable; }
  // The state that ops read as the unit's parameters.
  StateId ReadState(UnitId unit) const { return units[unit].trainable ? read_state : kParameterState; }
  // The first tensor named `name`; a CHECK failure if there is none.
  TensorId FindTensor(std::string_view tensor_name) const;
  // Sum of parameter elements, padding not counted.
  int64_t ParameterCount() const;
};

// A digest of everything that determines what the graph computes, initial values included: graphs with equal digests
// give equal results on equal inputs.
uint64_t Hash(const Graph& graph);

// The output whose name stands for the op in messages: the first one it has.
TensorId NamingOutput(const Op& op);

// One line per op: phase, kind, operands with shapes.
std::string ToText(const Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_GRAPH_H_
