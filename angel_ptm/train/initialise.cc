#include "angel_ptm/train/initialise.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <unordered_set>

#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/random.h"

namespace angel_ptm {
namespace {

// What a thread takes at a time.
constexpr int64_t kPieceElements = int64_t{1} << 18;

// A stretch of one rank's state.
struct Piece {
  const StateView* view = nullptr;
  int64_t first = 0;  // element of the unit that values[0] is
  std::span<float> values;
};

std::vector<Piece> Pieces(std::span<const StateView> views) {
  std::vector<Piece> pieces;
  for (const StateView& view : views) {
    const int64_t begin = view.stored.size() == view.own_slice.size() ? view.begin : 0;
    const int64_t elements = static_cast<int64_t>(view.stored.size());
    for (int64_t at = 0; at < elements; at += kPieceElements) {
      const int64_t count = std::min(kPieceElements, elements - at);
      pieces.push_back({&view, begin + at, view.stored.subspan(static_cast<size_t>(at), static_cast<size_t>(count))});
    }
  }
  return pieces;
}

// Fills the part of one parameter that lies in the piece.
void InitialiseParameter(const Tensor& tensor, InitialValues initial, uint64_t seed, uint32_t stream,
                         const Piece& piece) {
  const int64_t first = std::max(piece.first, tensor.unit_offset);
  const int64_t last =
      std::min(piece.first + static_cast<int64_t>(piece.values.size()), tensor.unit_offset + tensor.shape.elements());
  for (int64_t i = first; i < last; ++i) {
    const uint64_t index = static_cast<uint64_t>(i - tensor.unit_offset);
    piece.values[i - piece.first] =
        initial.ones ? 1.0f : initial.stddev * RandomNormal(seed, RandomPurpose::kInitialisation, stream, index);
  }
}

void InitialisePiece(const Graph& graph, uint64_t seed, const std::vector<uint32_t>& streams, const Piece& piece) {
  std::fill(piece.values.begin(), piece.values.end(), 0.0f);
  const StateId state = piece.view->state;
  if (state != kParameterState && graph.states[state].start != StateSpec::Start::kParameters) return;
  for (int32_t p : graph.units[piece.view->unit].parameters) {
    const Parameter& parameter = graph.parameters[p];
    InitialiseParameter(graph.tensors[parameter.tensor], parameter.initial, seed, streams[p], piece);
  }
}

}  // namespace

std::vector<uint32_t> InitialisationStreams(const Graph& graph) {
  std::vector<uint32_t> streams;
  std::unordered_set<uint32_t> taken;
  for (const Parameter& parameter : graph.parameters) {
    Hasher hasher;
    hasher.Mix(graph.tensors[parameter.tensor].name);
    while (!taken.insert(static_cast<uint32_t>(hasher.Digest())).second) hasher.Mix(uint64_t{1});
    streams.push_back(static_cast<uint32_t>(hasher.Digest()));
  }
  return streams;
}

void InitialiseState(const Graph& graph, uint64_t seed, std::span<const StateView> views, int threads) {
  const std::vector<uint32_t> streams = InitialisationStreams(graph);
  const std::vector<Piece> pieces = Pieces(views);
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < pieces.size(); i = next++) InitialisePiece(graph, seed, streams, pieces[i]);
  };
  std::vector<std::jthread> helpers;
  for (int t = 1; t < std::min<int64_t>(threads, static_cast<int64_t>(pieces.size())); ++t) helpers.emplace_back(work);
  work();
}

}  // namespace angel_ptm
