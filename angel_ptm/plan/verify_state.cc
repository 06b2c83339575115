// Replay of the steps that move, gather, reduce and update state.
#include <algorithm>
#include <utility>

#include "angel_ptm/model/access.h"
#include "angel_ptm/plan/verify_replay.h"

namespace angel_ptm::verify {

absl::Status Replay::Move() {
  const Place &src = step().src, &dst = step().dst;
  if (src.region == kNone || dst.region == kNone) return Error("a place is missing");
  const TierKind from = RegionOf(src).range.tier, to = RegionOf(dst).range.tier;
  const LinkSpec* link = FindLink(from, to);
  if (link == nullptr) return Error("there is no link from ", Name(from), " to ", Name(to));
  if (link->lane != step().lane) {
    return Error("moves from ", Name(from), " to ", Name(to), " on lane ", Name(step().lane), ", wanted ",
                 Name(link->lane));
  }
  if (src.bytes != dst.bytes || src.bytes <= 0) return Error("moves ", src.bytes, " bytes to ", dst.bytes);
  if (from == TierKind::kFile || to == TierKind::kFile) {
    RETURN_IF_ERROR(CheckBlocks(src));
    RETURN_IF_ERROR(CheckBlocks(dst));
  }
  if (step().unit != kNone) return MoveState();
  return RegionOf(dst).memory_class == MemoryClass::kUnitGradients ? MoveUnitGradients() : MoveTensor();
}

// A file is read and written in whole blocks. Slices are whole blocks (kSliceAlignment), so what holds for an own place
// in the first rank's slice holds on all ranks.
absl::Status Replay::CheckBlocks(const Place& place) {
  const Region& region = RegionOf(place);
  const int64_t block = SpecOf(TierKind::kFile).alignment, begin = region.range.offset + place.begin;
  if (begin % block == 0 && place.bytes % block == 0) return absl::OkStatus();
  return Error("bytes [", begin, ", ", begin + place.bytes, ") of region ", region.label, " are not whole blocks of ",
               block);
}

absl::Status Replay::MoveTensor() {
  const Place &src = step().src, &dst = step().dst;
  const TensorId t = RegionOf(src).tensor;
  if (t == kNone || RegionOf(dst).tensor != t) {
    return Error("moves ", RegionOf(src).label, " to the place of ", RegionOf(dst).label);
  }
  // Moves to and from a file include the bytes that fill the last block.
  const int64_t bytes = graph_.tensors[t].bytes(), block = SpecOf(TierKind::kFile).alignment;
  const bool by_file = RegionOf(src).range.tier == TierKind::kFile || RegionOf(dst).range.tier == TierKind::kFile;
  const int64_t moved = by_file ? (bytes + block - 1) / block * block : bytes;
  if (src.bytes < bytes) return Error("moves a part of ", graph_.tensors[t].name);
  if (src.bytes != moved) return Error("moves ", src.bytes, " bytes for ", graph_.tensors[t].name, " of ", bytes);
  RETURN_IF_ERROR(CheckPages(0, src.bytes, layout_.page_bytes, src.bytes));
  const ObjectRange extent{SymbolicMemory::Tensor(t), 0, bytes};
  RETURN_IF_ERROR(Need({src.region, src.begin, bytes}, extent, "source"));
  memory_.Forget(dst);
  memory_.CopyNewest({dst.region, dst.begin, bytes}, extent);
  return absl::OkStatus();
}

// A unit's micro-batch gradient leaves or returns between two contributions: the move takes everything that exists so
// far.
absl::Status Replay::MoveUnitGradients() {
  const Place &src = step().src, &dst = step().dst;
  const Region &from = RegionOf(src), &to = RegionOf(dst);
  if (from.memory_class != MemoryClass::kUnitGradients || from.unit != to.unit) {
    return Error("moves ", from.label, " to the place of ", to.label);
  }
  if (src.begin != 0 || dst.begin != 0 || src.bytes != from.range.bytes || dst.bytes != to.range.bytes) {
    return Error("moves a part of ", from.label);
  }
  RETURN_IF_ERROR(CheckPages(0, src.bytes, layout_.page_bytes, src.bytes));
  memory_.Forget(dst);
  for (int32_t p : graph_.units()[from.unit].parameters) {
    const TensorId t = graph_.gradient_tensors[p];
    if (t == kNone || writes_done_[t] == 0) continue;
    const Tensor& tensor = graph_.tensors[t];
    const ObjectRange extent{SymbolicMemory::Tensor(t), 0, tensor.bytes()};
    const auto part = [&](const Place& whole) -> Place {
      return {whole.region, whole.begin + tensor.unit_offset * SizeOf(tensor.dtype), tensor.bytes()};
    };
    RETURN_IF_ERROR(Need(part(src), extent, tensor.name));
    memory_.CopyNewest(part(dst), extent);
  }
  return absl::OkStatus();
}

absl::Status Replay::MoveState() {
  const Place &src = step().src, &dst = step().dst;
  const Region& to = RegionOf(dst);
  const ObjectRange extent = Elements(step().unit, step().state, step().own, step().begin, step().count);
  if (extent.bytes != src.bytes) return Error("moves ", src.bytes, " bytes for ", step().count, " elements");
  if (!IsPlaceOf(to, step().unit, step().state)) return Error("moves to the place of ", to.label);
  if (step().own && !RanksDiffer(step().unit, step().state)) return Error("moves a slice of what all ranks keep alike");
  const StateExtent stored = ExtentOfStep();
  if (to.permanent && (dst.begin != extent.begin || dst.own != (step().own && stored.stored_whole()))) {
    return Error("byte ", extent.begin, step().own ? " of the own slice" : "", " is moved to byte ", dst.begin,
                 dst.own ? " of the own slice in " : " of ", to.label);
  }
  const int64_t page_bytes = layout_.page_bytes / SizeOf(DType::kFloat32) * stored.element_bytes;
  RETURN_IF_ERROR(CheckPages(extent.begin, stored.own_bytes, page_bytes, src.bytes));
  RETURN_IF_ERROR(Need(src, extent, "source"));
  memory_.CopyNewest(dst, extent);
  return absl::OkStatus();
}

// A step that runs only in some micro-batches must bring something that the other micro-batches overwrite: the reduced
// gradient to which a reduction adds.
absl::Status Replay::CheckCondition() {
  const auto conditional = [&](const Place& place) { return place.region != kNone && conditional_[place.region]; };
  if (step().when != When::kAlways) {
    const bool fetches = step().kind == StepKind::kMove && step().unit != kNone && step().state == kGradientState &&
                         !step().in_update && step().dst.region != kNone && !RegionOf(step().dst).permanent;
    if (!fetches) return Error("does not take place in every micro-batch");
    conditional_[step().dst.region] = true;
    return absl::OkStatus();
  }
  if (step().kind == StepKind::kReduceScatter && step().dst.region != kNone) {
    conditional_[step().dst.region] = false;
    return absl::OkStatus();
  }
  for (const MemoryAccess& access : AccessesOf(graph_, step())) {
    if (conditional(access.place)) return Error("uses ", RegionOf(access.place).label, ", which is not always there");
  }
  return absl::OkStatus();
}

// Pages start afresh with every slice.
absl::Status Replay::CheckPages(int64_t begin, int64_t slice_bytes, int64_t page_bytes, int64_t bytes) {
  const int64_t pages_per_slice = (slice_bytes + page_bytes - 1) / page_bytes;
  const auto page_of = [&](int64_t byte) {
    return byte / slice_bytes * pages_per_slice + byte % slice_bytes / page_bytes;
  };
  const int64_t first = page_of(begin), last = page_of(begin + bytes - 1);
  if (step().first_page == first && step().page_count == last - first + 1) return absl::OkStatus();
  return Error("says pages [", step().first_page, ", ", step().first_page + step().page_count,
               "), its bytes are pages [", first, ", ", last + 1, ")");
}

absl::Status Replay::Gather() {
  RETURN_IF_ERROR(NeedTier(step().src, TierKind::kDevice));
  RETURN_IF_ERROR(NeedTier(step().dst, TierKind::kDevice));
  const UnitId unit = step().unit;
  const StateExtent extent = ExtentOfStep();
  const Place &src = step().src, &dst = step().dst;
  RETURN_IF_ERROR(Need(src, OwnSlice(unit, step().state), "own slice"));
  if (dst.bytes != extent.whole_bytes) return Error("gathers ", dst.bytes, " bytes of ", extent.whole_bytes);
  if (RegionOf(dst).unit != unit || RegionOf(dst).state != step().state) {
    return Error("gathers to the place of ", RegionOf(dst).label);
  }
  if (src.region == dst.region && !src.own) {
    return Error("the own slice lies at byte ", src.begin, " of its destination on all ranks");
  }
  if (step().in_update) RETURN_IF_ERROR(CheckUpdatedBeforeGather());
  // The other ranks play the same plan, so what holds for the own slice here holds for theirs there.
  memory_.CopyNewest(dst, {memory_.State(unit, step().state), 0, extent.whole_bytes});
  return absl::OkStatus();
}

absl::Status Replay::CheckUpdatedBeforeGather() {
  for (OpId op : update_ops_[step().unit]) {
    for (size_t slot = 0; slot < graph_.ops[op].states.size(); ++slot) {
      if (graph_.ops[op].states[slot] != step().state) continue;
      if (!Writes(AccessOf(graph_.ops[op], static_cast<int>(slot)))) continue;
      if (updated_[op].Covers(0, UpdatedElements(step().unit))) continue;
      return Error("before the own slice is updated");
    }
  }
  return absl::OkStatus();
}

absl::Status Replay::Reduce() {
  RETURN_IF_ERROR(NeedTier(step().src, TierKind::kDevice));
  RETURN_IF_ERROR(NeedTier(step().dst, TierKind::kDevice));
  const UnitId unit = step().unit;
  if (step().state != kGradientState) return Error("reduces ", NameOf(step().state));
  if (reduced_[unit]) return Error("a second time");
  reduced_[unit] = true;
  if (const int64_t whole = GradientBytes(graph_, layout_, unit); step().src.bytes != whole) {
    return Error("reduces ", step().src.bytes, " bytes of ", whole);
  }
  for (int32_t p : graph_.units()[unit].parameters) {
    const TensorId t = graph_.gradient_tensors[p];
    if (t == kNone) return Error("parameter ", graph_.parameters()[p].name, " has no gradient");
    const Tensor& tensor = graph_.tensors[t];
    if (writes_done_[t] != writers_[t].size() || writers_[t].empty()) {
      return Error(tensor.name, " has ", writes_done_[t], " of ", writers_[t].size(), " contributions");
    }
    const Place part{step().src.region, step().src.begin + tensor.unit_offset * SizeOf(tensor.dtype), tensor.bytes()};
    RETURN_IF_ERROR(Need(part, {SymbolicMemory::Tensor(t), 0, tensor.bytes()}, tensor.name));
  }
  memory_.Forget(step().src);
  if (step().scratch.region != kNone) {
    RETURN_IF_ERROR(NeedTier(step().scratch, TierKind::kDevice));
    if (RegionOf(step().scratch).memory_class != MemoryClass::kCommunication) {
      return Error("scratch memory in region ", RegionOf(step().scratch).label);
    }
    memory_.Forget(step().scratch);
  }
  RETURN_IF_ERROR(CheckOperandsDisjoint());
  const ObjectRange own = OwnSlice(unit, kGradientState);
  // With one micro-batch per step, the reduction adds to nothing.
  if (!IsGuest(layout_, kGradientState)) RETURN_IF_ERROR(Need(step().dst, own, "accumulated gradient"));
  memory_.Write(step().dst, own);
  return absl::OkStatus();
}

absl::Status Replay::Norm() {
  ++norms_;
  return absl::OkStatus();
}

// A rank updates its own slice of a unit if it stores only that slice of some operand, else everything.
bool Replay::UpdatesOwnSlice(UnitId unit) const {
  for (OpId op : update_ops_[unit]) {
    for (StateId state : graph_.ops[op].states) {
      if (!ExtentOf(layout_, unit, state).stored_whole()) return true;
    }
  }
  return false;
}

int64_t Replay::UpdatedElements(UnitId unit) const {
  return layout_.slices[unit].slice_elements * (UpdatesOwnSlice(unit) ? 1 : layout_.slices[unit].replicas);
}

// Whether a rank may know, or store, something about its own slice that it does not about the others.
bool Replay::RanksDiffer(UnitId unit, StateId s) const {
  if (layout_.slices[unit].replicas == 1) return false;
  return s == kGradientState || !ExtentOf(layout_, unit, s).stored_whole() || UpdatesOwnSlice(unit);
}

absl::Status Replay::Update() {
  const UnitId unit = step().unit;
  if (step().op < graph_.update_begin || step().op >= static_cast<OpId>(graph_.ops.size()) ||
      graph_.ops[step().op].unit != unit) {
    return Error("op ", step().op, " is no update of this unit");
  }
  const Op& op = graph_.ops[step().op];
  if (norms_ == 0 && !sweeping()) return Error("before the norm");
  const int64_t begin = step().begin, end = begin + step().count;
  if (step().own != UpdatesOwnSlice(unit) || begin < 0 || end > UpdatedElements(unit) || step().count <= 0) {
    return Error("elements [", begin, ", ", end, step().own ? ") of its slice" : ")", " are not the rank's to update");
  }
  for (OpId before : update_ops_[unit]) {
    if (before >= step().op || updated_[before].Covers(begin, end)) continue;
    return Error("before op ", before, ", which comes first in the graph");
  }
  if (!updated_[step().op].Add(begin, end)) return Error("elements of [", begin, ", ", end, ") are updated twice");
  if (step().operands.size() != op.states.size()) {
    return Error(step().operands.size(), " operands, wanted ", op.states.size());
  }
  if (sweeping()) RETURN_IF_ERROR(CheckNewestParameters());
  for (size_t slot = 0; slot < op.states.size(); ++slot) RETURN_IF_ERROR(ReadUpdateOperand(slot));
  RETURN_IF_ERROR(CheckOperandsDisjoint());
  for (size_t slot = 0; slot < op.states.size(); ++slot) RETURN_IF_ERROR(WriteUpdateOperand(slot));
  return absl::OkStatus();
}

absl::Status Replay::ReadUpdateOperand(size_t slot) {
  const UnitId unit = step().unit;
  const StateId of_graph = graph_.ops[step().op].states[slot];
  const StateId state = sweeping() ? StateInSweep(of_graph) : of_graph;
  const Access access = AccessOf(graph_.ops[step().op], static_cast<int>(slot));
  const Place& place = step().operands[slot];
  if (place.region == kNone) return Error("operand ", slot, " is missing");
  const Processor processor = SpecOf(RegionOf(place).range.tier).processor;
  const Lane lane = processor == Processor::kHost ? Lane::kHostCompute : Lane::kCompute;
  if (processor == Processor::kNobody || step().lane != lane) {
    return Error("lane ", Name(step().lane), " cannot address region ", RegionOf(place).label, " on the ",
                 Name(RegionOf(place).range.tier));
  }
  const ObjectRange part = Elements(unit, state, step().own, step().begin, step().count);
  if (access == Access::kWrite) {
    if (part.bytes == place.bytes) return absl::OkStatus();
    return Error("writes ", part.bytes, " bytes of ", NameOf(state), " to ", place.bytes);
  }
  return Need(place, part, NameOf(state));
}

absl::Status Replay::WriteUpdateOperand(size_t slot) {
  const UnitId unit = step().unit;
  const StateId of_graph = graph_.ops[step().op].states[slot];
  const StateId state = sweeping() ? StateInSweep(of_graph) : of_graph;
  if (!Writes(AccessOf(graph_.ops[step().op], static_cast<int>(slot)))) return absl::OkStatus();
  const ObjectRange part = Elements(unit, state, step().own, step().begin, step().count);
  if (!step().own && RanksDiffer(unit, state))
    return Error("writes all of ", NameOf(state), ", which ranks reduce apart");
  if (step().own && begun_.insert({step().op, state}).second) {
    // The other ranks update their slices at the same time.
    memory_.Outdate({memory_.State(unit, state), 0, ExtentOf(layout_, unit, state).whole_bytes});
  }
  memory_.Write(step().operands[slot], part);
  return absl::OkStatus();
}

}  // namespace angel_ptm::verify
