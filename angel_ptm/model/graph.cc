#include "angel_ptm/model/graph.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/hash.h"

namespace angel_ptm {

const char* Name(TensorClass tensor_class) {
  static constexpr const char* kNames[] = {"input", "parameter", "gradient", "activation", "output", "cache"};
  return kNames[static_cast<int>(tensor_class)];
}

const char* Name(Phase phase) {
  static constexpr const char* kNames[] = {"forward", "recompute", "backward", "update"};
  return kNames[static_cast<int>(phase)];
}

TensorId Graph::FindTensor(std::string_view tensor_name) const {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == tensor_name) return static_cast<TensorId>(i);
  }
  APTM_CHECK(false, "graph has no tensor ", std::string(tensor_name));
}

namespace {

void MixAttrs(Hasher& h, const OpAttrs& a) {
  h.Mix(a.trans_a).Mix(a.trans_b).Mix(a.accumulate).Mix(a.accumulate_dw);
  h.Mix(std::bit_cast<uint32_t>(a.epsilon)).Mix(std::bit_cast<uint32_t>(a.aux_coefficient));
  h.Mix(std::bit_cast<uint64_t>(a.rope_theta)).Mix(std::bit_cast<uint64_t>(a.rope_alpha));
  for (int64_t v :
       {a.rows, a.sequence, a.q_heads, a.kv_heads, a.head_dim, a.experts, a.topk, a.block_rows, a.chunk_tokens}) {
    h.Mix(static_cast<uint64_t>(v));
  }
  if (a.column_end != 0) h.Mix(static_cast<uint64_t>(a.column_begin)).Mix(static_cast<uint64_t>(a.column_end));
  if (a.key_sequence != 0) h.Mix("keys").Mix(static_cast<uint64_t>(a.key_sequence));
  if (a.layer_norm) h.Mix("layer norm");
  if (a.keep_columns) h.Mix("keep columns");
  if (a.sums_loads) h.Mix("sums loads");
  if (a.interleaved) h.Mix("interleaved");
  if (a.scale_first) h.Mix("scale first");
  if (a.erf) h.Mix("erf");
  if (a.height != 0) {
    h.Mix("convolution");
    for (int64_t v : {a.height, a.width, a.kernel, a.stride, a.pad_before, a.pad_after, a.upsample}) {
      h.Mix(static_cast<uint64_t>(v));
    }
  }
  if (a.group_ranks != 0) h.Mix("group ranks").Mix(static_cast<uint64_t>(a.group_ranks));
  if (a.groups != 0) h.Mix("groups").Mix(static_cast<uint64_t>(a.groups)).Mix(a.silu);
  if (a.experts_of_all != 0) h.Mix("experts of all").Mix(static_cast<uint64_t>(a.experts_of_all));
}

// Optional slots that were added to their kind later. If absent they are not mixed in, so that graphs keep the digests
// that existing checkpoints record.
bool IsLaterSlot(OpKind kind, size_t slot) { return kind == OpKind::kExpertLayout && slot == 1; }

void MixInputs(Hasher& h, const Op& op) {
  for (size_t slot = 0; slot < op.inputs.size(); ++slot) {
    const TensorId t = op.inputs[slot];
    if (t != kNone || !IsLaterSlot(op.kind, slot)) h.Mix(static_cast<uint64_t>(t));
  }
}

}  // namespace

uint64_t Hash(const Graph& graph) {
  Hasher h;
  for (const Tensor& t : graph.tensors) {
    h.Mix(t.name).Mix(static_cast<uint64_t>(t.dtype)).Mix(static_cast<uint64_t>(t.tensor_class));
    for (int i = 0; i < t.shape.rank(); ++i) h.Mix(static_cast<uint64_t>(t.shape[i]));
    h.Mix(static_cast<uint64_t>(t.unit)).Mix(static_cast<uint64_t>(t.unit_offset));
  }
  for (const Op& op : graph.ops) {
    h.Mix(static_cast<uint64_t>(op.kind)).Mix(static_cast<uint64_t>(op.unit));
    MixAttrs(h, op.attrs);
    MixInputs(h, op);
    for (TensorId t : op.outputs) h.Mix(static_cast<uint64_t>(t));
    for (StateId s : op.states) h.Mix(static_cast<uint64_t>(s));
  }
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    h.Mix(static_cast<uint64_t>(graph.parameter_tensors[i]))
        .Mix(p.weight_decay)
        .Mix(p.initial.ones)
        .Mix(std::bit_cast<uint32_t>(p.initial.stddev));
  }
  for (const Unit& u : graph.units()) {
    h.Mix(u.name).Mix(static_cast<uint64_t>(u.elements));
    if (!u.trainable) h.Mix("frozen");
    if (u.is_experts) h.Mix("experts");
  }
  for (const StateSpec& s : graph.states()) h.Mix(s.name).Mix(static_cast<uint64_t>(s.dtype));
  h.Mix(static_cast<uint64_t>(graph.read_state));
  return h.Digest();
}

TensorId NamingOutput(const Op& op) {
  for (TensorId output : op.outputs) {
    if (output != kNone) return output;
  }
  APTM_CHECK(false, Name(op.kind), " without outputs");
}

std::string ToText(const Graph& graph) {
  std::string text =
      absl::StrCat("graph ", graph.name, ": ", graph.ops.size(), " ops, ", graph.tensors.size(), " tensors, ",
                   graph.table->ParameterCount(), " parameters in ", graph.units().size(), " units\n");
  const auto append = [&](const std::vector<TensorId>& ids) {
    for (TensorId id : ids) {
      if (id == kNone) {
        absl::StrAppend(&text, " -");
      } else {
        absl::StrAppend(&text, " ", graph.tensors[id].name, graph.tensors[id].shape.ToString());
      }
    }
  };
  for (const Op& op : graph.ops) {
    absl::StrAppend(&text, Name(op.phase), " ", Name(op.kind));
    if (op.unit != kNone) absl::StrAppend(&text, " ", graph.units()[op.unit].name);
    append(op.inputs);
    absl::StrAppend(&text, " ->");
    append(op.outputs);
    text += '\n';
  }
  return text;
}

}  // namespace angel_ptm
