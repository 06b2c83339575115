// What the model knows of a kind of op: operands, shapes, gradient, cost, and how slots become a kernel's arguments.
// One file per op (or op and gradient) in ops/ makes the rules of its kinds; kernels/ops.def lists the kinds.
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
  Access access = Access::kRead;  // update ops also change theirs
  int overwritten_with = kNone;   // an optional slot with which this one is only written
};

// The parts an op leaves without values hold whatever was there.
struct OutputSlot {
  std::string_view name;
  bool optional = false;                        // may be absent, or is not wanted
  bool OpAttrs::*accumulate = nullptr;          // the flag with which the op adds to what is there; null: it cannot
  int active_blocks = kNone;                    // input slot that counts the leading row blocks with values; kNone: all
  ColumnRange (*columns)(const OpAttrs&) = {};  // those the op writes; null: all
  Access access = Access::kWrite;               // without the flags
  // The flag with which an op that writes `columns` is said to leave the others as they are, which it always does.
  bool OpAttrs::*keeps_columns = nullptr;
};

// An op's operands by slot. Outputs are absent while their shapes are being asked for.
struct OpView {
  const Graph& graph;
  const Op& op;

  const OpAttrs& attrs() const { return op.attrs; }
  // Of activations, parameters and their gradients; statistics of rows are fp32.
  DType type() const { return graph.table->compute_type(); }
  // Bytes of so many elements of that type.
  double Bytes(double elements) const { return static_cast<double>(SizeOf(type())) * elements; }
  bool Has(int slot) const { return op.inputs[slot] != kNone; }
  const Shape& In(int slot) const { return graph.tensors[op.inputs[slot]].shape; }
  const Shape& Out(int slot) const { return graph.tensors[op.outputs[slot]].shape; }

  void Want(bool ok, int slot) const {
    APTM_CHECK(ok, Name(op.kind), " input ", slot, " has shape ", In(slot).ToString());
  }
  // An operand that is absent, where it may be, fits.
  void Fits(int slot, const Shape& shape) const {
    if (Has(slot)) Want(In(slot) == shape, slot);
  }
  // The operand's shape, which has this rank.
  const Shape& OfRank(int slot, int rank) const {
    Want(In(slot).rank() == rank, slot);
    return In(slot);
  }
};

// The same with addresses; null where an operand is absent, or everywhere if only shapes matter.
struct Binding : OpView {
  const std::vector<void*>& address;

  ConstOperand Input(int slot) const { return {address[slot], TypeOf(op.inputs[slot])}; }
  Operand Output(int slot) const { return {address[op.inputs.size() + slot], TypeOf(op.outputs[slot])}; }
  const int32_t* InputInts(int slot) const { return static_cast<const int32_t*>(address[slot]); }
  int32_t* OutputInts(int slot) const { return static_cast<int32_t*>(address[op.inputs.size() + slot]); }

 private:
  DType TypeOf(TensorId t) const { return t == kNone ? DType::kFloat32 : graph.tensors[t].dtype; }
};

// An update op on elements [begin, begin + count) of its unit's vectors, addresses by slot of Op::states.
struct UpdateBinding {
  const std::vector<void*>& address;
  DType type = DType::kFloat32;           // of parameters
  DType gradient_type = DType::kFloat32;  // all other states are fp32
  int64_t begin = 0, count = 0;
  std::span<const ElementSpan> no_decay;  // of the unit; read when the kernel runs, where it runs
  const AdamWConstants& adamw;
  const UpdateDecision& decision;  // as no_decay
};

struct OpRules {
  std::vector<InputSlot> inputs;
  std::vector<OutputSlot> outputs;
  // What the outputs must be, by slot; an absent optional one has an empty suffix. CHECK-fails on inputs that do not
  // fit. Null for update ops, whose operands are states of their unit.
  std::vector<OutputSpec> (*shapes)(const OpView&) = nullptr;
  // Appends the gradients of the inputs to the tape. Null: the op is not differentiated.
  void (*backward)(Tape&, const Op&) = nullptr;
  double (*flops)(const OpView&) = nullptr;  // null: none but the elementwise, which bytes stand for
  double (*bytes)(const OpView&) = nullptr;  // null: every operand once, twice if it is added to
  // One of them: the op belongs to the micro-step or to the update.
  std::unique_ptr<const KernelCall> (*bind)(const Binding&) = nullptr;
  std::unique_ptr<const KernelCall> (*bind_update)(const UpdateBinding&) = nullptr;
  // What an update op does in a step that changes nothing, because it is what makes a state again that the step has
  // used up or left without values; null, or what it returns null: nothing.
  std::unique_ptr<const KernelCall> (*bind_skipped)(const UpdateBinding&) = nullptr;
  // Of a loss op: its first output is so many stretches of one length, a part of the loss each.
  int loss_parts = 1;
};

const OpRules& RulesOf(OpKind kind);

// The op with its operands' addresses, inputs then outputs. With all addresses null it can still be asked what a
// backend needs for it.
std::unique_ptr<const KernelCall> BindKernel(const Graph& graph, const Op& op, const std::vector<void*>& address);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_OP_RULES_H_
