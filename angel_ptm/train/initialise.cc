#include "angel_ptm/train/initialise.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/random.h"

namespace angel_ptm {
namespace {

// Unit of work of a thread.
constexpr int64_t kPieceElements = int64_t{1} << 18;

// A range of one rank's state.
struct Piece {
  const StateView* view = nullptr;
  int64_t at = 0, count = 0;  // range within what the view keeps

  int64_t first() const { return view->stored_begin + at; }  // position in the unit's vector
};

std::vector<Piece> Pieces(std::span<const StateView> views) {
  std::vector<Piece> pieces;
  for (const StateView& view : views) {
    for (int64_t at = 0; at < view.stored_elements; at += kPieceElements) {
      pieces.push_back({&view, at, std::min(kPieceElements, view.stored_elements - at)});
    }
  }
  return pieces;
}

// Fills the part of one parameter that lies in the piece.
void InitialiseParameter(const Parameter& parameter, uint64_t seed, uint32_t stream, const Piece& piece,
                         std::vector<float>& values) {
  const InitialValues initial = parameter.initial;
  const int64_t first = std::max(piece.first(), parameter.unit_offset);
  const int64_t last = std::min(piece.first() + piece.count, parameter.unit_offset + parameter.shape.elements());
  for (int64_t i = first; i < last; ++i) {
    const uint64_t index = static_cast<uint64_t>(i - parameter.unit_offset);
    values[i - piece.first()] =
        initial.ones ? 1.0f : initial.stddev * RandomNormal(seed, RandomPurpose::kInitialisation, stream, index);
  }
}

absl::Status InitialisePiece(const ParameterTable& table, uint64_t seed, const std::vector<uint32_t>& streams,
                             const Piece& piece) {
  std::vector<float> values(static_cast<size_t>(piece.count));
  const StateId state = piece.view->state;
  if (state == kParameterState || table.states[state].start == StateSpec::Start::kParameters) {
    for (int32_t p : table.units[piece.view->unit].parameters) {
      InitialiseParameter(table.parameters[p], seed, streams[p], piece, values);
    }
  }
  return piece.view->Write(piece.at, values);
}

}  // namespace

std::vector<uint32_t> InitialisationStreams(const ParameterTable& table) {
  std::vector<uint32_t> streams;
  std::unordered_set<uint32_t> taken;
  for (const Parameter& parameter : table.parameters) {
    Hasher hasher;
    hasher.Mix(parameter.name);
    while (!taken.insert(static_cast<uint32_t>(hasher.Digest())).second) hasher.Mix(uint64_t{1});
    streams.push_back(static_cast<uint32_t>(hasher.Digest()));
  }
  return streams;
}

absl::Status InitialiseState(const ParameterTable& table, uint64_t seed, std::span<const StateView> views,
                             int threads) {
  const std::vector<uint32_t> streams = InitialisationStreams(table);
  const std::vector<Piece> pieces = Pieces(views);
  std::atomic<size_t> next = 0;
  absl::Status failed;
  std::mutex mutex;
  const auto work = [&] {
    for (size_t i = next++; i < pieces.size(); i = next++) {
      const absl::Status status = InitialisePiece(table, seed, streams, pieces[i]);
      const std::lock_guard lock(mutex);
      failed.Update(status);
    }
  };
  {
    std::vector<std::jthread> helpers;
    const auto most = std::min<int64_t>(threads, static_cast<int64_t>(pieces.size()));
    for (int64_t t = 1; t < most; ++t) helpers.emplace_back(work);
    work();
  }
  return failed;
}

}  // namespace angel_ptm
