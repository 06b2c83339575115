#include "angel_ptm/memory/page_table.h"

#include <algorithm>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

int PageTable::AddVector(int64_t slice_bytes, int64_t slices, int64_t page_bytes, Frame home) {
  Vector v{slice_bytes, page_bytes, (slice_bytes + page_bytes - 1) / page_bytes, home, {}};
  v.newest.resize(static_cast<size_t>(v.pages_per_slice * slices));
  vectors_.push_back(std::move(v));
  const int number = static_cast<int>(vectors_.size()) - 1;
  SetNewest(number, 0, slice_bytes * slices, home);
  return number;
}

int64_t PageTable::PageAt(int vector, int64_t begin) const {
  const Vector& v = vectors_[vector];
  return begin / v.slice_bytes * v.pages_per_slice + begin % v.slice_bytes / v.page_bytes;
}

template <typename Visit>
void PageTable::ForEachPage(int vector, int64_t begin, int64_t bytes, Visit&& visit) const {
  const Vector& v = vectors_[vector];
  for (int64_t at = begin; at < begin + bytes;) {
    const int64_t in_slice = at % v.slice_bytes;
    APTM_CHECK(in_slice % v.page_bytes == 0, "byte ", at, " of vector ", vector, " is not a page border");
    const int64_t page = std::min(v.page_bytes, v.slice_bytes - in_slice);
    APTM_CHECK(at + page <= begin + bytes, "range ends inside a page");
    visit(PageAt(vector, at), at - begin);
    at += page;
  }
}

void PageTable::SetNewest(int vector, int64_t begin, int64_t bytes, Frame frame) {
  ForEachPage(vector, begin, bytes, [&](int64_t page, int64_t from_begin) {
    vectors_[vector].newest[page] = {frame.tier, frame.offset + from_begin};
  });
}

void PageTable::ExpectNewest(int vector, int64_t begin, int64_t bytes, Frame frame) const {
  ForEachPage(vector, begin, bytes, [&](int64_t page, int64_t from_begin) {
    const Frame& newest = vectors_[vector].newest[page];
    APTM_CHECK((newest == Frame{frame.tier, frame.offset + from_begin}), "page ", page, " of vector ", vector,
               " is newest at ", Name(newest.tier), " ", newest.offset, ", read from ", Name(frame.tier), " ",
               frame.offset + from_begin);
  });
}

void PageTable::ExpectAllHome() const {
  for (int v = 0; v < static_cast<int>(vectors_.size()); ++v) {
    const Vector& vector = vectors_[v];
    const int64_t slices = page_count(v) / vector.pages_per_slice;
    ExpectNewest(v, 0, vector.slice_bytes * slices, vector.home);
  }
}

}  // namespace angel_ptm
