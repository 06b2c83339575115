// The state of the backward pass under construction: which tensor holds which gradient, and whether the next
// contribution overwrites it or adds to it. Rules (op_rules.h) append gradient ops through the tape, from the loss to
// the inputs.
//
// Invariants:
// * The first contribution to a tensor's gradient overwrites, later ones add: directly if the op can
//   (OutputSlot::accumulate), else through a temporary tensor and kAdd.
// * Two tensors whose gradients are equal (the operands of a sum) may share one gradient tensor. If one of them is to
//   get a further contribution while the other still needs the shared gradient, it first gets a copy of its own.
// * A gradient of which an op wrote only some columns gets zeros in the others before anything reads it or adds to it.
//   Instead, an op may write columns adjacent to those that already have values.
// * Nothing is computed that no trainable parameter needs.
#ifndef ANGEL_PTM_MODEL_TAPE_H_
#define ANGEL_PTM_MODEL_TAPE_H_

#include <vector>

#include "angel_ptm/model/access.h"
#include "angel_ptm/model/graph.h"
#include "angel_ptm/model/graph_builder.h"

namespace angel_ptm {

struct OutputSlot;

class Tape {
 public:
  // `builder` contains the forward ops and their loss. The tape appends to it; it must outlive the tape.
  explicit Tape(GraphBuilder& builder);

  // Appends the gradient ops of a forward op. Must be called from the last op to the first.
  void Differentiate(OpId forward_op);

  // The rest is for rules, and concerns operands of the op being differentiated.

  // Whether the gradient of t is needed: t is a trainable parameter or computed from one.
  bool Wanted(TensorId t) const { return t != kNone && wanted_[t]; }
  // The complete gradient of an output. If nothing that the loss depends on uses the output, GradientOf returns kNone
  // and GradientOrZeros a tensor of zeros.
  TensorId GradientOf(TensorId t);
  TensorId GradientOrZeros(TensorId t);
  // Takes the gradient of t so far, or kNone, for an op that adds it to its own result. The next contribution to t
  // counts as the first.
  TensorId TakeGradient(TensorId t);
  // The tensor for the next contribution to the gradient of t, and whether the contribution must add to its content.
  struct Contribution {
    TensorId tensor = kNone;
    bool add = false;
  };
  Contribution Gradient(TensorId t);

  // Appends an op whose output i is a contribution to the gradient of of[i], with the accumulate flags that this
  // requires. Does nothing if none of them is wanted. `inputs` come from this tape or the forward pass.
  void Append(OpKind kind, const std::vector<TensorId>& of, std::vector<TensorId> inputs, OpAttrs attrs = {});
  // Makes `gradient` (kNone: nothing) a contribution to the gradient of t.
  void Pass(TensorId gradient, TensorId t);
  // Makes the loss op itself write the gradient of of[i] to its output i.
  void AttachToLoss(const std::vector<TensorId>& of);

  // The forward op that produced t; CHECK-fails unless it is of that kind.
  const Op& ProducerOf(TensorId t, OpKind kind) const;
  const Shape& ShapeOf(TensorId t) const { return graph().tensors[t].shape; }
  // Graph::loss_weight; CHECK-fails if the graph has none.
  TensorId LossWeight() const;

 private:
  // What is known about a tensor that holds a gradient.
  struct Holder {
    int users = 0;        // forward tensors whose gradient this is and may still be read or added to
    ColumnRange written;  // columns that have values; {0, 0}: all
  };
  // An op's output that must be added to a gradient to which the op cannot add itself.
  struct Detour {
    TensorId temporary, of;
    ColumnRange columns;  // {0, 0}: all
  };

  Graph& graph() const { return builder_.graph(); }
  void FindWanted();
  TensorId New(const char* prefix, TensorId t);
  TensorId NewGradient(TensorId t);
  TensorId NewParameterGradient(TensorId t);
  bool Exists(TensorId t) const;
  void Use(TensorId t, TensorId gradient);
  void Release(TensorId t);
  void MakeWhole(TensorId t);
  void MakeOwn(TensorId t);
  void AppendAdd(TensorId to, TensorId from, bool accumulate, ColumnRange columns = {});

  OpAttrs WithFlags(OpKind kind, const std::vector<TensorId>& of, OpAttrs attrs) const;
  // The tensor for a gradient op's output slot. Sets the slot's flag `keeps_columns` in `attrs` if necessary.
  TensorId Output(const OutputSlot& slot, TensorId of, OpAttrs& attrs, std::vector<Detour>& detours);
  TensorId OutputOfColumns(const OutputSlot& slot, TensorId of, OpAttrs& attrs, std::vector<Detour>& detours);
  TensorId Temporary(TensorId of, ColumnRange columns, std::vector<Detour>& detours);

  GraphBuilder& builder_;
  std::vector<bool> wanted_;           // by forward tensor
  std::vector<OpId> producer_;         // by forward tensor
  std::vector<int32_t> parameter_;     // by forward tensor; kNone: not a parameter
  std::vector<TensorId> gradient_of_;  // by forward tensor; those of parameters are in the graph
  std::vector<bool> done_;             // by forward tensor: its producer has been differentiated
  std::vector<Holder> holders_;        // by any tensor
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_TAPE_H_
