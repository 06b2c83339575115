// The backward pass as it grows: which tensor holds the gradient of what, and whether the next contribution overwrites
// it or adds to it. Rules (op_rules.h) append gradient ops through it, walking from the loss to the inputs.
//
// What holds at any time:
// * A tensor's first contribution overwrites, later ones add: directly where the op can (OutputSlot::accumulate), else
//   through a temporary tensor and kAdd.
// * Two tensors may share a gradient that is equal for both (the operands of a sum). Whoever is to get a further
//   contribution while the other still needs the shared one gets a copy of its own first.
// * A gradient of which an op wrote only some columns gets zeros in the others before anything reads it or adds to it;
//   an op that writes some of them, beside those that have values, may do so instead.
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
  // `builder` holds the forward ops and their loss; the tape appends to it.
  explicit Tape(GraphBuilder& builder);

  // Appends the gradient ops of a forward op. Ops are walked from the last to the first.
  void Differentiate(OpId forward_op);

  // For rules, about operands of the op being differentiated.

  // Whether a gradient of t is of use: t is trainable or made from something that is.
  bool Wanted(TensorId t) const { return t != kNone && wanted_[t]; }
  // The whole gradient of an output; kNone if nothing the loss depends on uses it. Zeros instead with OrZeros.
  TensorId GradientOf(TensorId t);
  TensorId GradientOrZeros(TensorId t);
  // The gradient of t so far, or kNone, for an op that adds it to what it writes: t's next contribution is its first.
  TensorId TakeGradient(TensorId t);
  // Where the next contribution to the gradient of t goes, and whether it adds to what is there.
  struct Contribution {
    TensorId tensor = kNone;
    bool add = false;
  };
  Contribution Gradient(TensorId t);

  // Appends an op whose output i is a contribution to the gradient of of[i], with the accumulate flags that takes. Does
  // nothing if none is wanted. `inputs` come from this tape or the forward pass.
  void Append(OpKind kind, const std::vector<TensorId>& of, std::vector<TensorId> inputs, OpAttrs attrs = {});
  // Makes `gradient` (kNone: nothing) a contribution to the gradient of t.
  void Pass(TensorId gradient, TensorId t);
  // Lets the loss op itself write the gradients of of[i] into its output i.
  void AttachToLoss(const std::vector<TensorId>& of);

  // The forward op of that kind that made t.
  const Op& ProducerOf(TensorId t, OpKind kind) const;
  const Shape& ShapeOf(TensorId t) const { return graph().tensors[t].shape; }
  // Graph::loss_weight; CHECK-fails if the graph has none.
  TensorId LossWeight() const;

 private:
  // What is known of a tensor that holds a gradient.
  struct Holder {
    int users = 0;        // forward tensors whose gradient it is and that may still be read or added to
    ColumnRange written;  // the columns with values; {0, 0}: all
  };
  // An op's output on its way into a gradient that the op cannot add to itself.
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
  // The tensor to put into a gradient op's output slot; sets the slot's flag `keeps_columns` in `attrs` if it must.
  TensorId Output(const OutputSlot& slot, TensorId of, OpAttrs& attrs, std::vector<Detour>& detours);
  TensorId OutputOfColumns(const OutputSlot& slot, TensorId of, OpAttrs& attrs, std::vector<Detour>& detours);
  TensorId Temporary(TensorId of, ColumnRange columns, std::vector<Detour>& detours);

  GraphBuilder& builder_;
  std::vector<bool> wanted_;           // by forward tensor
  std::vector<OpId> producer_;         // by forward tensor
  std::vector<int32_t> parameter_;     // by forward tensor; kNone: it is none
  std::vector<TensorId> gradient_of_;  // by forward tensor; parameters' are in the graph
  std::vector<bool> done_;             // by forward tensor: its producer has been differentiated
  std::vector<Holder> holders_;        // by any tensor
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MODEL_TAPE_H_
