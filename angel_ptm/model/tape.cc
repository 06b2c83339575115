#include "angel_ptm/model/tape.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/model/op_rules.h"

namespace angel_ptm {

Tape::Tape(GraphBuilder& builder) : builder_(builder) {
  const size_t tensors = graph().tensors.size();
  wanted_.assign(tensors, false);
  producer_.assign(tensors, kNone);
  parameter_.assign(tensors, kNone);
  gradient_of_.assign(tensors, kNone);
  done_.assign(tensors, false);
  FindWanted();
}

void Tape::FindWanted() {
  for (size_t p = 0; p < graph().parameter_tensors.size(); ++p) {
    const TensorId t = graph().parameter_tensors[p];
    if (t == kNone) continue;
    parameter_[t] = static_cast<int32_t>(p);
    wanted_[t] = graph().units()[graph().tensors[t].unit].trainable;
  }
  for (OpId op = 0; op < static_cast<OpId>(graph().ops.size()); ++op) {
    const Op& o = graph().ops[op];
    const bool wanted = std::ranges::any_of(o.inputs, [&](TensorId t) { return Wanted(t); });
    for (TensorId t : o.outputs) {
      if (t == kNone) continue;
      producer_[t] = op;
      wanted_[t] = wanted && graph().tensors[t].dtype != DType::kInt32;
    }
  }
}

const Op& Tape::ProducerOf(TensorId t, OpKind kind) const {
  APTM_CHECK(producer_[t] != kNone && graph().ops[producer_[t]].kind == kind, graph().tensors[t].name,
             " is not made by ", Name(kind));
  return graph().ops[producer_[t]];
}

TensorId Tape::LossWeight() const {
  APTM_CHECK(graph().loss_weight != kNone, "graph ", graph().name, " has no loss weight");
  return graph().loss_weight;
}

TensorId Tape::New(const char* prefix, TensorId t) {
  const Tensor& like = graph().tensors[t];
  return builder_.AddTensor({.name = absl::StrCat(prefix, like.name), .shape = like.shape, .dtype = like.dtype});
}

TensorId Tape::NewGradient(TensorId t) {
  const TensorId gradient = New("d ", t);
  Use(t, gradient);
  return gradient;
}

TensorId Tape::NewParameterGradient(TensorId t) {
  const Tensor& value = graph().tensors[t];
  return builder_.AddTensor({.name = absl::StrCat("d ", value.name),
                             .shape = value.shape,
                             .dtype = value.dtype,
                             .tensor_class = TensorClass::kGradient,
                             .unit = value.unit,
                             .unit_offset = value.unit_offset});
}

bool Tape::Exists(TensorId t) const {
  if (parameter_[t] != kNone) return graph().gradient_tensors[parameter_[t]] != kNone;
  return gradient_of_[t] != kNone;
}

void Tape::Use(TensorId t, TensorId gradient) {
  holders_.resize(graph().tensors.size());
  gradient_of_[t] = gradient;
  ++holders_[gradient].users;
}

void Tape::Release(TensorId t) {
  if (gradient_of_[t] == kNone) return;
  --holders_[gradient_of_[t]].users;
  gradient_of_[t] = kNone;
}

void Tape::AppendAdd(TensorId to, TensorId from, bool accumulate, ColumnRange columns) {
  builder_.AppendInto(OpKind::kAdd, {to}, {from},
                      {.accumulate = accumulate, .column_begin = columns.begin, .column_end = columns.end});
}

// Puts zeros into the columns that no op wrote.
void Tape::MakeWhole(TensorId t) {
  const TensorId gradient = gradient_of_[t];
  if (gradient == kNone || holders_[gradient].written == ColumnRange{}) return;
  const ColumnRange written = holders_[gradient].written;
  Release(t);
  AppendAdd(NewGradient(t), gradient, /*accumulate=*/false, written);
}

void Tape::MakeOwn(TensorId t) {
  const TensorId gradient = gradient_of_[t];
  if (holders_[gradient].users == 1) return;
  Release(t);
  AppendAdd(NewGradient(t), gradient, /*accumulate=*/false);
}

TensorId Tape::GradientOf(TensorId t) {
  if (t == kNone) return kNone;
  MakeWhole(t);
  return gradient_of_[t];
}

TensorId Tape::GradientOrZeros(TensorId t) {
  if (const TensorId gradient = GradientOf(t); gradient != kNone) return gradient;
  const TensorId zeros = NewGradient(t);
  AppendAdd(zeros, kNone, /*accumulate=*/false);
  return zeros;
}

TensorId Tape::TakeGradient(TensorId t) {
  const TensorId gradient = GradientOf(t);
  Release(t);
  return gradient;
}

Tape::Contribution Tape::Gradient(TensorId t) {
  APTM_CHECK(Wanted(t) && !done_[t], "a gradient of ", graph().tensors[t].name, " comes ",
             Wanted(t) ? "too late" : "to nobody");
  const bool exists = Exists(t);
  if (parameter_[t] != kNone) {
    if (!exists) {
      const TensorId gradient = NewParameterGradient(t);
      graph().gradient_tensors[parameter_[t]] = gradient;
    }
    return {graph().gradient_tensors[parameter_[t]], exists};
  }
  if (!exists) return {NewGradient(t), false};
  MakeWhole(t);
  MakeOwn(t);
  return {gradient_of_[t], true};
}

void Tape::Pass(TensorId gradient, TensorId t) {
  if (gradient == kNone || !Wanted(t)) return;
  if (!Exists(t) && parameter_[t] == kNone) return Use(t, gradient);
  const Contribution to = Gradient(t);
  AppendAdd(to.tensor, gradient, to.add);
}

// A flag that several outputs share is set if every wanted output has a gradient of its own to add to.
OpAttrs Tape::WithFlags(OpKind kind, const std::vector<TensorId>& of, OpAttrs attrs) const {
  const std::vector<OutputSlot>& slots = RulesOf(kind).outputs;
  for (size_t i = 0; i < of.size(); ++i) {
    if (slots[i].accumulate != nullptr) attrs.*slots[i].accumulate = true;
  }
  for (size_t i = 0; i < of.size(); ++i) {
    if (slots[i].accumulate == nullptr || !Wanted(of[i])) continue;
    const bool again = std::find(of.begin(), of.begin() + i, of[i]) != of.begin() + i;
    if (again || !Exists(of[i])) attrs.*slots[i].accumulate = false;
  }
  return attrs;
}

TensorId Tape::Temporary(TensorId of, ColumnRange columns, std::vector<Detour>& detours) {
  const TensorId temporary = New("part of d ", of);
  detours.push_back({temporary, of, columns});
  return temporary;
}

TensorId Tape::Output(const OutputSlot& slot, TensorId of, OpAttrs& attrs, std::vector<Detour>& detours) {
  if (!Wanted(of)) return slot.optional ? kNone : New("unused d ", of);
  if (slot.columns != nullptr) return OutputOfColumns(slot, of, attrs, detours);
  const bool adds = slot.accumulate != nullptr && attrs.*slot.accumulate;
  return !Exists(of) || adds ? Gradient(of).tensor : Temporary(of, {}, detours);
}

TensorId Tape::OutputOfColumns(const OutputSlot& slot, TensorId of, OpAttrs& attrs, std::vector<Detour>& detours) {
  const ColumnRange columns = slot.columns(attrs);
  const bool always_keeps = slot.access == Access::kReadWrite;
  const bool keeps_others = always_keeps || slot.keeps_columns != nullptr;
  const ColumnRange all = {0, ShapeOf(of).elements() / ShapeOf(of)[0]};
  if (!Exists(of)) {
    const TensorId gradient = Gradient(of).tensor;
    if (always_keeps) {
      AppendAdd(gradient, kNone, /*accumulate=*/false);
    } else if (columns != all) {
      holders_[gradient].written = columns;
    }
    return gradient;
  }
  ColumnRange& written = holders_[gradient_of_[of]].written;
  const bool beside = written != ColumnRange{} && (columns.end == written.begin || columns.begin == written.end);
  if (keeps_others && beside) {
    if (slot.keeps_columns != nullptr) attrs.*slot.keeps_columns = true;
    written = {std::min(columns.begin, written.begin), std::max(columns.end, written.end)};
    if (written == all) written = {};
    return gradient_of_[of];
  }
  const TensorId temporary = Temporary(of, columns, detours);
  if (always_keeps) AppendAdd(temporary, kNone, /*accumulate=*/false);
  return temporary;
}

void Tape::Append(OpKind kind, const std::vector<TensorId>& of, std::vector<TensorId> inputs, OpAttrs attrs) {
  if (std::ranges::none_of(of, [&](TensorId t) { return Wanted(t); })) return;
  const std::vector<OutputSlot>& slots = RulesOf(kind).outputs;
  attrs = WithFlags(kind, of, attrs);
  std::vector<TensorId> outputs;
  std::vector<Detour> detours;
  for (size_t i = 0; i < of.size(); ++i) outputs.push_back(Output(slots[i], of[i], attrs, detours));
  builder_.AppendInto(kind, std::move(outputs), std::move(inputs), attrs);
  for (const Detour& detour : detours) {
    AppendAdd(Gradient(detour.of).tensor, detour.temporary, /*accumulate=*/true, detour.columns);
  }
}

void Tape::AttachToLoss(const std::vector<TensorId>& of) {
  for (size_t i = 0; i < of.size(); ++i) {
    if (!Wanted(of[i])) continue;
    const Contribution to = Gradient(of[i]);
    APTM_CHECK(!to.add, "the loss comes last");
    graph().ops[graph().loss].outputs[i] = to.tensor;
  }
}

void Tape::Differentiate(OpId forward_op) {
  const Op op = graph().ops[forward_op];  // a copy: rules append to the graph's ops
  const bool used = std::ranges::any_of(op.outputs, [&](TensorId t) { return t != kNone && gradient_of_[t] != kNone; });
  if (used || forward_op == graph().loss) {
    const OpRules& rules = RulesOf(op.kind);
    APTM_CHECK(rules.backward != nullptr, "no backward rule for ", Name(op.kind));
    rules.backward(*this, op);
  }
  for (TensorId t : op.outputs) {
    if (t == kNone || static_cast<size_t>(t) >= done_.size()) continue;
    Release(t);
    done_[t] = true;
  }
}

}  // namespace angel_ptm
