// What the model knows about a kind of op: operands, shapes, gradient, cost, and how slots become a kernel's arguments.
// Each file in ops/ defines the rules of one op, or of an op and its gradient; kernels/ops.def lists the kinds.
#ifndef ANGEL_PTM_MODEL_OP_RULES_H_
#define ANGEL_PTM_MODEL_OP_RULES_H_

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "angel_ptm/base/check.h"
#include "angel_ptm/model/access.h"
#include "angel_ptm/model/cost.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/model/graph_builder.h"
#include "angel_ptm/model/tape.h"
#include "kernels/kernel_call.h"
#include "kernels/operand.h"
#include "kernels/step_block.h"

namespace angel_ptm {

struct InputSlot {
  std::string_view name;
  bool optional = false;
  Access access = Access::kRead;  // update ops also write theirs
  int overwritten_with = kNone;   // an optional slot; if it is present, this one is only written
};

// The parts that an op leaves without values retain their old content.
struct OutputSlot {
  std::string_view name;
  bool optional = false;                        // may be absent, or need not be computed
  bool OpAttrs::*accumulate = nullptr;          // the flag that makes the op add to the old content; null: it cannot
  int active_blocks = kNone;                    // input slot: number of leading row blocks with values; kNone: all
  ColumnRange (*columns)(const OpAttrs&) = {};  // the columns that the op writes; null: all
  Access access = Access::kWrite;               // without the flags
  // The flag that declares that an op which writes only `columns` keeps the other columns. Such an op always keeps
  // them; the flag only makes AccessOf report it.
  bool OpAttrs::*keeps_columns = nullptr;
};

// An op's operands by slot. While output shapes are being inferred, outputs may be absent.
struct OpView {
  const Graph& graph;
  const Op& op;

  const OpAttrs& attrs() const { return op.attrs; }
  // The type of activations, parameters and their gradients. Statistics of rows are fp32.
  DType type() const { return graph.table->compute_type(); }
  // Bytes of `elements` elements of that type.
  double Bytes(double elements) const { return static_cast<double>(SizeOf(type())) * elements; }
  bool Has(int slot) const { return op.inputs[slot] != kNone; }
  const Shape& In(int slot) const { return graph.tensors[op.inputs[slot]].shape; }
  const Shape& Out(int slot) const { return graph.tensors[op.outputs[slot]].shape; }

  void Want(bool ok, int slot) const {
    APTM_CHECK(ok, Name(op.kind), " input ", slot, " has shape ", In(slot).ToString());
  }
  // Checks the operand's shape. An absent operand always fits.
  void Fits(int slot, const Shape& shape) const {
    if (Has(slot)) Want(In(slot) == shape, slot);
  }
  // The operand's shape; CHECK-fails if it has another rank.
  const Shape& OfRank(int slot, int rank) const {
    Want(In(slot).rank() == rank, slot);
    return In(slot);
  }
};

// The same with addresses, which are null for absent operands, or for all if only shapes matter.
struct Binding : OpView {
  const std::vector<void*>& address;

  ConstOperand Input(int slot) const { return {address[slot], TypeOf(op.inputs[slot])}; }
  Operand Output(int slot) const { return {address[op.inputs.size() + slot], TypeOf(op.outputs[slot])}; }
  const int32_t* InputInts(int slot) const { return static_cast<const int32_t*>(address[slot]); }
  int32_t* OutputInts(int slot) const { return static_cast<int32_t*>(address[op.inputs.size() + slot]); }

 private:
  DType TypeOf(TensorId t) const { return t == kNone ? DType::kFloat32 : graph.tensors[t].dtype; }
};

// An update op on elements [begin, begin + count) of its unit's vectors. Addresses are by slot of Op::states.
struct UpdateBinding {
  const std::vector<void*>& address;
  DType type = DType::kFloat32;           // of parameters
  DType gradient_type = DType::kFloat32;  // all other states are fp32
  int64_t begin = 0, count = 0;
  std::span<const ElementSpan> no_decay;  // of the unit; read by the kernel when and where it runs
  const AdamWConstants& adamw;
  const UpdateDecision& decision;  // read like no_decay
};

struct OpRules {
  std::vector<InputSlot> inputs;
  std::vector<OutputSlot> outputs;
  // Returns the required outputs by slot; an absent optional output has an empty suffix. CHECK-fails on inputs that do
  // not fit. Null for update ops, whose operands are states of their unit.
  std::vector<OutputSpec> (*shapes)(const OpView&) = nullptr;
  // Appends the gradients of the inputs to the tape. Null: the op is not differentiated.
  void (*backward)(Tape&, const Op&) = nullptr;
  double (*flops)(const OpView&) = nullptr;  // null: only elementwise FLOPs, which bytes account for
  double (*bytes)(const OpView&) = nullptr;  // null: every operand once, or twice if it is added to
  // At most one is set: `bind` for ops of the micro-step, `bind_update` for ops of the update.
  std::unique_ptr<const KernelCall> (*bind)(const Binding&) = nullptr;
  std::unique_ptr<const KernelCall> (*bind_update)(const UpdateBinding&) = nullptr;
  // The kernel of an update op in a step whose update is skipped. It remakes a state that the step has used up or left
  // without values. If this, or the result, is null, the op does nothing in such a step.
  std::unique_ptr<const KernelCall> (*bind_skipped)(const UpdateBinding&) = nullptr;
  // Loss ops: the first output consists of this many ranges of equal length, each a part of the loss.
  int loss_parts = 1;
};

const OpRules& RulesOf(OpKind kind);

// Returns the op bound to its operands' addresses, inputs then outputs. With all addresses null, the result can still
// be asked what a backend needs to run it.
std::unique_ptr<const KernelCall> BindKernel(const Graph& graph, const Op& op, const std::vector<void*>& address);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OP_RULES_H_
