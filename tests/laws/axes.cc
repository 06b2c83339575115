#include "tests/laws/axes.h"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>

#include "angel_ptm/base/check.h"

namespace angel_ptm {
namespace {

constexpr int kAxes = 10;
using Choice = std::array<int, kAxes>;  // an index of a value by axis; -1: open
constexpr Choice kValueCounts = {2, 2, 2, 4, 3, 5, 2, 3, 2, 2};
// The axes from the fastest to the slowest in FullMatrix(): joined, resumed, accumulation, stage; then the others.
constexpr Choice kTurns = {9, 8, 1, 3, 7, 6, 5, 4, 2, 0};

Axes AxesOf(const Choice& c) {
  constexpr int64_t kPages[] = {8192, 65536, int64_t{4} << 20};
  constexpr int kBudgets[] = {100, 60, 35, 60, 35}, kHosts[] = {100, 100, 100, 50, 0};
  return {.moe = c[0] == 1,
          .accumulation = c[1] == 0 ? 1 : 4,
          .bf16 = c[2] == 1,
          .zero_stage = c[3],
          .page_bytes = kPages[c[4]],
          .budget_percent = kBudgets[c[5]],
          .host_percent = kHosts[c[5]],
          .recompute = c[6] == 1,
          .prefetch_steps = 3 * c[7],
          .resumed = c[8] == 1,
          .joined = c[9] == 1};
}

std::array<int64_t, kAxes> ValuesOf(const Axes& a) {
  return {
      a.moe,       a.accumulation,   a.bf16,    a.zero_stage, a.page_bytes, 1000 * a.budget_percent + a.host_percent,
      a.recompute, a.prefetch_steps, a.resumed, a.joined};
}

// (axis, value, other axis, other value).
using Pair = std::tuple<int, int64_t, int, int64_t>;

std::set<Pair> PairsOf(const std::vector<Axes>& cases) {
  std::set<Pair> pairs;
  for (const Axes& axes : cases) {
    const auto values = ValuesOf(axes);
    for (int i = 0; i < kAxes; ++i) {
      for (int j = i + 1; j < kAxes; ++j) pairs.insert({i, values[i], j, values[j]});
    }
  }
  return pairs;
}

// Pairs of value indices that no case covers yet.
class Uncovered {
 public:
  Uncovered() {
    for (int i = 0; i < kAxes; ++i) {
      for (int j = i + 1; j < kAxes; ++j) {
        for (int a = 0; a < kValueCounts[i]; ++a) {
          for (int b = 0; b < kValueCounts[j]; ++b) pairs_.insert({i, a, j, b});
        }
      }
    }
  }

  bool empty() const { return pairs_.empty(); }
  const std::tuple<int, int, int, int>& first() const { return *pairs_.begin(); }

  // Uncovered pairs that value a of axis i forms with the values chosen so far.
  int Gain(const Choice& choice, int i, int a) const {
    int gain = 0;
    for (int j = 0; j < kAxes; ++j) {
      if (j == i || choice[j] < 0) continue;
      gain += pairs_.contains(i < j ? std::tuple(i, a, j, choice[j]) : std::tuple(j, choice[j], i, a));
    }
    return gain;
  }

  void Cover(const Choice& choice) {
    for (int i = 0; i < kAxes; ++i) {
      for (int j = i + 1; j < kAxes; ++j) pairs_.erase({i, choice[i], j, choice[j]});
    }
  }

 private:
  std::set<std::tuple<int, int, int, int>> pairs_;
};

}  // namespace

std::ostream& operator<<(std::ostream& os, const Axes& a) {
  return os << (a.moe ? "MoE" : "dense") << ", accumulation " << a.accumulation << (a.bf16 ? ", bf16" : ", fp32")
            << ", ZeRO " << a.zero_stage << ", page " << a.page_bytes << ", budget " << a.budget_percent << " %, host "
            << a.host_percent << " %, " << (a.recompute ? "recomputed" : "kept") << ", prefetch " << a.prefetch_steps
            << ", " << (a.resumed ? "resumed" : "fresh") << (a.joined ? ", joined" : ", apart");
}

std::vector<Axes> FullMatrix() {
  std::vector<Axes> cases;
  Choice choice = {};
  while (true) {
    cases.push_back(AxesOf(choice));
    size_t turn = 0;
    for (; turn < kTurns.size() && ++choice[kTurns[turn]] == kValueCounts[kTurns[turn]]; ++turn)
      choice[kTurns[turn]] = 0;
    if (turn == kTurns.size()) return cases;
  }
}

// Greedy, as in AETG (Cohen et al. 1997): a case starts from an uncovered pair and takes, for each other axis, the
// value that covers most uncovered pairs. Which value wins a tie rotates with the number of the case.
std::vector<Axes> AllPairs() {
  std::vector<Axes> cases;
  Uncovered uncovered;
  while (!uncovered.empty()) {
    Choice choice;
    choice.fill(-1);
    const auto [i, a, j, b] = uncovered.first();
    choice[i] = a;
    choice[j] = b;
    for (int axis = 0; axis < kAxes; ++axis) {
      if (choice[axis] >= 0) continue;
      int best = -1, best_gain = -1;
      for (int k = 0; k < kValueCounts[axis]; ++k) {
        const int value = static_cast<int>((k + cases.size()) % kValueCounts[axis]);
        if (const int gain = uncovered.Gain(choice, axis, value); gain > best_gain) best = value, best_gain = gain;
      }
      choice[axis] = best;
    }
    uncovered.Cover(choice);
    cases.push_back(AxesOf(choice));
  }
  return cases;
}

int64_t PairsLeftOut(const std::vector<Axes>& cases) {
  const std::set<Pair> all = PairsOf(FullMatrix()), covered = PairsOf(cases);
  APTM_CHECK(std::includes(all.begin(), all.end(), covered.begin(), covered.end()));
  return static_cast<int64_t>(all.size() - covered.size());
}

}  // namespace angel_ptm
