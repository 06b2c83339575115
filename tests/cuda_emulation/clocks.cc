#include "tests/cuda_emulation/clocks.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace angel_ptm::emulated {
namespace {

void RaiseTo(std::vector<std::uint32_t>& to, const std::vector<std::uint32_t>& from) {
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = std::max(to[i], from[i]);
}

}  // namespace

void Clocks::Join(const Clocks& other) {
  RaiseTo(seen, other.seen);
  RaiseTo(fenced, other.fenced);
}

void Gathering::Add(const Past& past) {
  if (past == last_) return;
  if (joined_ == nullptr) {
    joined_ = std::make_unique<Clocks>(*past);
  } else {
    joined_->Join(*past);
  }
  last_ = past;
}

void Gathering::AddAgent(int agent, std::uint32_t clock, std::uint32_t fenced) {
  auto& seen = joined_->seen[static_cast<std::size_t>(agent)];
  auto& seen_fenced = joined_->fenced[static_cast<std::size_t>(agent)];
  seen = std::max(seen, clock);
  seen_fenced = std::max(seen_fenced, fenced);
}

Past Gathering::Take() {
  last_ = nullptr;
  return Past(std::move(joined_));
}

Past Joined(const Past& a, const Past& b) {
  if (a == b || b == nullptr) return a;
  auto joined = std::make_shared<Clocks>(*a);
  joined->Join(*b);
  return joined;
}

}  // namespace angel_ptm::emulated
