#include "angel_ptm/memory/page_table.h"

#include <algorithm>
#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

int PageTable::AddVector(int64_t slice_bytes, int64_t slices, int64_t page_bytes, Frame home) {
  Vector v{slice_bytes, page_bytes, (slice_bytes + page_bytes - 1) / page_bytes, home, {}, -1, -1};
  v.newest.resize(static_cast<size_t>(v.pages_per_slice * slices));
  vectors_.push_back(std::move(v));
  const int number = static_cast<int>(vectors_.size()) - 1;
  SetNewest(number, 0, slice_bytes * slices, home);
  return number;
}

int PageTable::AddGuest(int host) {
  const int guest = static_cast<int>(vectors_.size());
  vectors_.push_back(vectors_[host]);
  vectors_[guest].newest.assign(vectors_[guest].newest.size(), Frame());
  vectors_[guest].host = host;
  vectors_[host].guest = guest;
  return guest;
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
  Vector& v = vectors_[vector];
  const bool at_home = frame == Frame{v.home.tier, v.home.offset + begin};
  const int other = v.guest >= 0 ? v.guest : at_home ? v.host : -1;
  ForEachPage(vector, begin, bytes, [&](int64_t page, int64_t from_begin) {
    v.newest[page] = {frame.tier, frame.offset + from_begin};
    if (other >= 0) vectors_[other].newest[page] = {};
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
    if (vector.host >= 0) continue;
    if (vector.guest >= 0) {
      ExpectOneHome(v, vector.guest);
    } else {
      ExpectNewest(v, 0, BytesOf(vector), vector.home);
    }
  }
}

void PageTable::ExpectOneHome(int host, int guest) const {
  const Vector& v = vectors_[host];
  ForEachPage(host, 0, BytesOf(v), [&](int64_t page, int64_t from_begin) {
    const Frame home = {v.home.tier, v.home.offset + from_begin};
    const Frame &a = v.newest[page], &b = vectors_[guest].newest[page];
    APTM_CHECK((a == home && b == Frame()) || (a == Frame() && b == home), "page ", page, " of vector ", host,
               " is newest at ", Name(a.tier), " ", a.offset, ", of its guest ", guest, " at ", Name(b.tier), " ",
               b.offset, ", one of them belongs at home");
  });
}

}  // namespace angel_ptm
