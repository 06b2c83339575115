#include "angel_ptm/plan/verify_memory.h"

namespace angel_ptm::verify {

SymbolicMemory::SymbolicMemory(const Graph& graph, const Layout& layout, const Segment& segment)
    : graph_(graph),
      layout_(layout),
      segment_(segment),
      changed_(graph.tensors.size() + 2 * graph.units().size() * layout.states.size()) {
  const auto add = [&](const Place& place) {
    if (place.own) own_[place.region];
  };
  for (const Step& step : segment.steps) {
    for (const Place* place : {&step.src, &step.dst, &step.scratch}) add(*place);
    for (const Place& place : step.operands) add(place);
  }
}

std::string SymbolicMemory::NameOf(ObjectId object) const {
  if (object == kNone) return "nothing known";
  if (!IsState(object)) return absl::StrCat("tensor ", graph_.tensors[object].name);
  const size_t index = (object - graph_.tensors.size()) / 2, count = layout_.states.size();
  return absl::StrCat(IsOwnSlice(object) ? "the own slice of " : "", graph_.units()[index / count].name, " ",
                      layout_.states[index % count].name);
}

int64_t SymbolicMemory::SliceBytes(ObjectId object) const {
  const size_t index = (object - graph_.tensors.size()) / 2, count = layout_.states.size();
  return layout_.slices[index / count].slice_elements * SizeOf(layout_.states[index % count].dtype);
}

template <typename Visit>
void SymbolicMemory::ForEachInSlice(int64_t begin, int64_t end, int64_t slice, Visit&& visit) {
  if (end - begin >= slice) return visit(int64_t{0}, slice);
  const int64_t first = begin % slice, last = first + end - begin;
  visit(first, std::min(last, slice));
  if (last > slice) visit(int64_t{0}, last - slice);
}

void SymbolicMemory::Write(const Place& place, const ObjectRange& extent) {
  Outdate(extent);
  CopyNewest(place, extent);
}

void SymbolicMemory::Outdate(const ObjectRange& extent) {
  changed_[extent.object].Assign(extent.begin, extent.begin + extent.bytes, ++now_);
}

void SymbolicMemory::CopyNewest(const Place& place, const ObjectRange& extent) {
  if (place.own) {
    own_[place.region].Assign(place.begin, place.begin + extent.bytes,
                              {extent.object, extent.begin - place.begin, now_});
    return;
  }
  const int64_t at = Address(place);
  Tier(place).Assign(at, at + extent.bytes, {extent.object, extent.begin - at, now_});
  const auto own = own_.find(place.region);
  if (own == own_.end()) return;
  const int64_t slice = SliceBytesIn(place.region);
  if (IsWhole(extent.object) && extent.begin == place.begin &&
      extent.bytes == segment_.regions[place.region].range.bytes) {
    own->second.Assign(0, slice, {OwnSliceOf(extent.object), 0, now_});
  } else {
    ForgetOwn(place);
  }
}

void SymbolicMemory::Forget(const Place& place) {
  if (place.own) return own_[place.region].Erase(place.begin, place.begin + place.bytes);
  const int64_t at = Address(place);
  Tier(place).Erase(at, at + place.bytes);
  ForgetOwn(place);
}

void SymbolicMemory::ForgetOwn(const Place& place) {
  const auto own = own_.find(place.region);
  if (own == own_.end()) return;
  ForEachInSlice(place.begin, place.begin + place.bytes, SliceBytesIn(place.region),
                 [&](int64_t begin, int64_t end) { own->second.Erase(begin, end); });
}

std::optional<std::string> SymbolicMemory::WhyNot(const Place& place, const ObjectRange& extent) const {
  if (place.bytes != extent.bytes) {
    return absl::StrCat("has ", place.bytes, " bytes, ", NameOf(extent.object), " needs ", extent.bytes);
  }
  const auto own = own_.find(place.region);
  if (place.own) {
    static const IntervalMap<Content>* const nothing = new IntervalMap<Content>();
    return WhyNot({own == own_.end() ? nothing : &own->second, place.begin}, extent);
  }
  const bool one_content = own == own_.end();
  std::optional<std::string> why = WhyNot({&Tier(place), Address(place), /*even_if_own=*/one_content}, extent);
  if (one_content || why.has_value()) return why;
  if (!IsWhole(extent.object) || extent.begin != place.begin) {
    return absl::StrCat("byte ", extent.begin, " of ", NameOf(extent.object), " does not belong at byte ", place.begin,
                        " of a vector");
  }
  ForEachInSlice(place.begin, place.begin + place.bytes, SliceBytesIn(place.region), [&](int64_t begin, int64_t end) {
    if (why.has_value()) return;
    why = WhyNot({&own->second, begin}, {OwnSliceOf(extent.object), begin, end - begin});
  });
  return why;
}

std::optional<std::string> SymbolicMemory::WhyNot(const Bytes& at, const ObjectRange& extent) const {
  const int64_t shift = extent.begin - at.begin;
  std::optional<std::string> why;
  at.memory->ForEach(at.begin, at.begin + extent.bytes, [&](int64_t begin, int64_t end, const Content* content) {
    const auto bytes = [&] {
      return absl::StrCat("bytes [", begin + shift, ", ", end + shift, ") of ", NameOf(extent.object));
    };
    if (content == nullptr) {
      why = absl::StrCat(bytes(), " are not there, but nothing known");
    } else if (content->object != extent.object || content->shift != shift) {
      why = absl::StrCat(bytes(), " are not there, but byte ", begin + content->shift, " of ", NameOf(content->object));
    } else if (ChangedSince(content->time, {extent.object, begin + shift, end - begin}, at.even_if_own)) {
      why = absl::StrCat("stale copy of ", bytes());
    }
    return !why.has_value();
  });
  return why;
}

bool SymbolicMemory::ChangedSince(int64_t time, const ObjectRange& extent, bool even_if_own) const {
  const auto changed = [&](ObjectId object, int64_t begin, int64_t end) {
    return !changed_[object].ForEach(
        begin, end, [&](int64_t, int64_t, const int64_t* last) { return last == nullptr || *last <= time; });
  };
  const int64_t end = extent.begin + extent.bytes;
  bool found = changed(extent.object, extent.begin, end);
  if (!even_if_own || !IsWhole(extent.object)) return found;
  ForEachInSlice(extent.begin, end, SliceBytes(extent.object),
                 [&](int64_t from, int64_t to) { found |= changed(OwnSliceOf(extent.object), from, to); });
  return found;
}

}  // namespace angel_ptm::verify
