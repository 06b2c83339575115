// The static graph of a run: every tensor and every op of forward, recomputation, backward and optimizer update, in
// execution order. It knows nothing of ranks, devices, pages or time; plan/ turns it into a Plan.
//
// Its parameters are those of the run's table (parameter_table.h), or some of them. Gradients have the same offsets in
// the unit's gradient vector as parameters in the unit's parameter vector.
#ifndef ANGEL_PTM_MODEL_GRAPH_H_
#define ANGEL_PTM_MODEL_GRAPH_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "angel_ptm/base/dtype.h"
#include "angel_ptm/base/shape.h"
#include "angel_ptm/model/parameter_table.h"
#include "kernels/op_kind.h"

namespace angel_ptm {

using TensorId = int32_t;
using OpId = int32_t;

enum class TensorClass : uint8_t {
  kInput,       // written by the trainer before a micro-step: tokens, targets, positions
  kParameter,   // a view into its unit's parameter vector
  kGradient,    // one micro-batch's gradient: a view into its unit's gradient vector
  kActivation,  // defined and consumed inside one segment
  kOutput,      // written by an op, read by the trainer after the segment: losses, expert counts, logits
  kCache,       // kept from step to step outside the optimizer: key-value caches, sums that the trainer clears
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

// Numbers that an op needs besides its operands' shapes. Each kind of op reads only its own (ops/<op>.cc).
struct OpAttrs {
  bool trans_a = false, trans_b = false;
  bool fp32_result = false;    // a product's result is fp32 whatever its operands' type
  bool accumulate = false;     // the first gradient output adds to its old content
  bool accumulate_dw = false;  // weight-gradient outputs add to their old content
  bool sums_loads = false;     // a router adds its counts to those of the step's earlier micro-batches
  bool keep_columns = false;   // an output of which the op writes some columns keeps its other columns
  float epsilon = 0;
  double rope_theta = 0, rope_alpha = 0;
  int64_t rows = 0, sequence = 0;  // batch rows B and their length S; T = B * S
  int64_t key_sequence = 0;        // full attention: keys per row; 0: causal
  int64_t q_heads = 0, kv_heads = 0, head_dim = 0;
  bool erf = false;          // exact GELU, not its tanh approximation
  bool layer_norm = false;   // heads are normed by LayerNorm, not RMSNorm
  bool interleaved = false;  // RoPE rotates elements 2i and 2i + 1, not i and i + D/2
  bool scale_first = false;  // modulation columns are scale, shift; not shift, scale
  int64_t experts = 0, topk = 0, block_rows = 0;
  int64_t group_ranks = 0;  // ranks that exchange rows: one per place of the split experts
  // For the cost, with topk: the total number of experts if the op's rows belong to only `experts` of them; else 0.
  int64_t experts_of_all = 0;
  int64_t chunk_tokens = 0;
  float aux_coefficient = 0;
  int64_t column_begin = 0, column_end = 0;  // of a matrix of shape[0] rows; 0, 0: all columns
  int64_t height = 0, width = 0;             // of the image that a convolution reads
  int64_t kernel = 0, stride = 1, pad_before = 0, pad_after = 0, upsample = 1;  // conv: kernels/ops/conv2d.h
  int64_t groups = 0;                                                           // of GroupNorm
  bool silu = false;                                                            // the norm applies SiLU to its output
};

struct Op {
  OpKind kind;
  Phase phase = Phase::kForward;
  int block = kNone;    // recomputation block
  UnitId unit = kNone;  // update ops: the unit they work on
  OpAttrs attrs;
  std::vector<TensorId> inputs, outputs;  // by slot (ops/<op>.cc); kNone where an optional operand is absent
  std::vector<StateId> states;            // update ops: the states they work on, by slot
};

struct Graph {
  std::string name;
  std::vector<Tensor> tensors;
  std::vector<Op> ops;
  std::shared_ptr<const ParameterTable> table = std::make_shared<ParameterTable>();  // the run's; copies share it
  // By parameter; kNone if not used. AppendBackward sets the gradients, for units that are trained only.
  std::vector<TensorId> parameter_tensors, gradient_tensors;
  StateId read_state = kParameterState;  // the state that ops read as the parameters of trainable units
  OpId loss = kNone;                     // the last forward op; in training it writes its own gradient
  // If experts are split: the input [1] int32 that holds the number of the first of this rank's experts_of_rank
  // experts.
  TensorId first_expert = kNone;
  int64_t experts_of_rank = 0;
  TensorId loss_weight = kNone;  // input [1] fp32: weight of a micro-batch's summed loss: its target tokens
  OpId update_begin = 0;         // ops [0, update_begin) are the micro-step, the rest the update segment

  const Tensor& tensor(TensorId id) const { return tensors[id]; }
  const std::vector<Unit>& units() const { return table->units; }
  const std::vector<Parameter>& parameters() const { return table->parameters; }
  const std::vector<StateSpec>& states() const { return table->states; }
  // The state that ops read as the unit's parameters.
  StateId ReadState(UnitId unit) const { return units()[unit].trainable ? read_state : kParameterState; }
  // The first tensor named `name`; a CHECK failure if there is none.
  TensorId FindTensor(std::string_view tensor_name) const;
};

// A digest of everything that determines what the graph computes, including initial values: graphs with equal digests
// give equal results for equal inputs.
uint64_t Hash(const Graph& graph);

// The output whose name denotes the op in messages: its first output that is present.
TensorId NamingOutput(const Op& op);

// One line per op: phase, kind, operands with shapes.
std::string ToText(const Graph& graph);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_GRAPH_H_
