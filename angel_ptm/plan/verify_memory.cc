#include "angel_ptm/plan/verify_memory.h"

namespace angel_ptm::verify {

std::string SymbolicMemory::NameOf(ObjectId object) const {
  if (object == kNone) return "nothing known";
  const int32_t state = object - static_cast<int32_t>(graph_.tensors.size());
  if (state < 0) return absl::StrCat("tensor ", graph_.tensors[object].name);
  const int32_t count = static_cast<int32_t>(layout_.states.size());
  return absl::StrCat(graph_.units()[state / count].name, " ", layout_.states[state % count].name);
}

void SymbolicMemory::Write(const Place& place, const ObjectRange& extent) {
  Outdate(extent);
  const int64_t at = Address(place);
  Tier(place).Assign(at, at + extent.bytes, {extent.object, extent.begin - at, versions_});
}

void SymbolicMemory::Outdate(const ObjectRange& extent) {
  newest_[extent.object].Assign(extent.begin, extent.begin + extent.bytes, ++versions_);
}

void SymbolicMemory::CopyNewest(const Place& place, const ObjectRange& extent) {
  const int64_t at = Address(place), shift = extent.begin - at;
  Forget(place);
  newest_[extent.object].ForEach(extent.begin, extent.begin + extent.bytes,
                                 [&](int64_t begin, int64_t end, const int64_t* version) {
                                   if (version != nullptr)
                                     Tier(place).Assign(begin - shift, end - shift, {extent.object, shift, *version});
                                   return true;
                                 });
}

void SymbolicMemory::Forget(const Place& place) {
  const int64_t at = Address(place);
  Tier(place).Erase(at, at + place.bytes);
}

std::optional<std::string> SymbolicMemory::WhyNot(const Place& place, const ObjectRange& extent) const {
  if (place.bytes != extent.bytes) {
    return absl::StrCat("has ", place.bytes, " bytes, ", NameOf(extent.object), " needs ", extent.bytes);
  }
  const int64_t at = Address(place), shift = extent.begin - at;
  std::optional<std::string> why;
  Tier(place).ForEach(at, at + extent.bytes, [&](int64_t begin, int64_t end, const Content* content) {
    const auto bytes = [&] {
      return absl::StrCat("bytes [", begin + shift, ", ", end + shift, ") of ", NameOf(extent.object));
    };
    if (content == nullptr) {
      why = absl::StrCat(bytes(), " are not there, but nothing known");
    } else if (content->object != extent.object || content->shift != shift) {
      why = absl::StrCat(bytes(), " are not there, but byte ", begin + content->shift, " of ", NameOf(content->object));
    } else {
      newest_[extent.object].ForEach(begin + shift, end + shift, [&](int64_t, int64_t, const int64_t* version) {
        if (version == nullptr || *version != content->version) why = absl::StrCat("stale copy of ", bytes());
        return !why.has_value();
      });
    }
    return !why.has_value();
  });
  return why;
}

ObjectRange SymbolicMemory::HeldBy(const Place& place) const {
  ObjectRange held;
  const int64_t at = Address(place);
  Tier(place).ForEach(at, at + 1, [&](int64_t, int64_t, const Content* content) {
    if (content != nullptr) held = {content->object, at + content->shift, place.bytes};
    return true;
  });
  return held;
}

}  // namespace angel_ptm::verify
