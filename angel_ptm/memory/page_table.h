// Tracks, while a Plan runs, which frame holds the newest copy of every page of persistent state.
//
// A page is a fixed-size unit of one rank's slice of a unit's vector. Pages never straddle slices, and a slice's last
// page may be short. A frame is a place for one page on a tier.
#ifndef ANGEL_PTM_MEMORY_PAGE_TABLE_H_
#define ANGEL_PTM_MEMORY_PAGE_TABLE_H_

#include <cstdint>
#include <vector>

#include "angel_ptm/base/tier_kind.h"

namespace angel_ptm {

struct Frame {
  TierKind tier = TierKind::kDevice;
  int64_t offset = -1;

  friend bool operator==(const Frame&, const Frame&) = default;
};

// Not synchronised: different threads may touch different pages at any time, the same page only if both just read it or
// if the Plan orders them.
class PageTable {
 public:
  // Adds a vector of `slices` slices of slice_bytes each, at home in consecutive bytes from `home`. Returns its number.
  int AddVector(int64_t slice_bytes, int64_t slices, int64_t page_bytes, Frame home);

  // Adds a vector like `host`, which at times rests in the host's home in place of the host. There is no copy of it
  // yet.
  int AddGuest(int host);

  // The page that starts at or holds byte `begin` of the vector.
  int64_t PageAt(int vector, int64_t begin) const;
  int64_t page_count(int vector) const { return static_cast<int64_t>(vectors_[vector].newest.size()); }

  // The newest copy of bytes [begin, begin + bytes) is now at `frame` and following. Whole pages only. If the vector is
  // a guest that is now at home, its host has no copy any more; if it is a host, its guest has none.
  void SetNewest(int vector, int64_t begin, int64_t bytes, Frame frame);
  // CHECKs that the newest copy of [begin, begin + bytes) is at `frame` and following.
  void ExpectNewest(int vector, int64_t begin, int64_t bytes, Frame frame) const;
  // CHECKs that every page's newest copy is at home; of a host and its guest, that one's copy is at home and the other
  // has none.
  void ExpectAllHome() const;

 private:
  struct Vector {
    int64_t slice_bytes, page_bytes, pages_per_slice;
    Frame home;
    std::vector<Frame> newest;  // by page; Frame(): there is no copy
    int host = -1, guest = -1;  // vectors
  };
  void ExpectOneHome(int host, int guest) const;
  int64_t BytesOf(const Vector& v) const {
    return v.slice_bytes * (static_cast<int64_t>(v.newest.size()) / v.pages_per_slice);
  }
  template <typename Visit>
  void ForEachPage(int vector, int64_t begin, int64_t bytes, Visit&& visit) const;

  std::vector<Vector> vectors_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_MEMORY_PAGE_TABLE_H_
