#include "comm/checked.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/hash.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

uint64_t HashOf(CollectiveVerb verb, std::string_view what, int64_t bytes, int root) {
  return Hasher()
      .Mix(static_cast<uint64_t>(verb))
      .Mix(what)
      .Mix(static_cast<uint64_t>(bytes))
      .Mix(static_cast<uint64_t>(root))
      .Digest();
}

}  // namespace

// Fixed size, so that headers meet whatever the ranks are about to do.
struct CheckedCommunicator::Header {
  uint64_t hash = 0;
  int64_t count = 0;  // calls before this one, planned entries, or the index of the first difference
  int64_t step = -1;
  std::array<char, 168> text = {};

  void SetText(std::string_view from) { std::memcpy(text.data(), from.data(), std::min(from.size(), text.size() - 1)); }
};

CheckedCommunicator::CheckedCommunicator(Communicator* inner, SequenceCheck check)
    : CheckedCommunicator(nullptr, inner, check, nullptr) {}

CheckedCommunicator::CheckedCommunicator(std::unique_ptr<Communicator> inner, SequenceCheck check)
    : CheckedCommunicator(std::move(inner), nullptr, check, nullptr) {}

CheckedCommunicator::CheckedCommunicator(std::unique_ptr<Communicator> owned, Communicator* inner, SequenceCheck check,
                                         History* of_another)
    : owned_(std::move(owned)),
      inner_(owned_ != nullptr ? owned_.get() : inner),
      check_(check),
      history_(of_another != nullptr ? of_another : &own_history_),
      all_(sizeof(Header) * static_cast<size_t>(inner_->size())) {
  const CommunicatorLevels* const levels = inner_->levels();
  if (levels == nullptr) return;
  inside_.reset(new CheckedCommunicator(nullptr, levels->inside, check, history_));
  across_.reset(new CheckedCommunicator(nullptr, levels->across, check, history_));
  levels_ = {inside_.get(), across_.get()};
}

std::string CheckedCommunicator::NameOf(int rank) const { return absl::StrCat("rank ", world_rank(rank)); }

absl::Status CheckedCommunicator::ExchangeHeaders(const Header& mine, const CallTag& tag) {
  return inner_->AllGather(all_, std::as_bytes(std::span(&mine, 1)), tag);
}

absl::Status CheckedCommunicator::Admit(CollectiveVerb verb, int64_t bytes, int root, const CallTag& tag) {
  const uint64_t hash = HashOf(verb, tag.what, bytes, root);
  history_->hash = Hasher().Mix(history_->hash).Mix(hash).Digest();
  ++history_->calls;
  if (check_ != SequenceCheck::kEveryCall || size() == 1) return absl::OkStatus();
  // No allocation unless something is wrong: the text is put together by hand.
  Header mine;
  mine.hash = Hasher().Mix(hash).Mix(static_cast<uint64_t>(history_->calls)).Digest();
  mine.count = bytes;
  mine.step = tag.step;
  mine.text[0] = static_cast<char>(verb);
  std::memcpy(mine.text.data() + 1, tag.what.data(), std::min(tag.what.size(), mine.text.size() - 2));
  RETURN_IF_ERROR(ExchangeHeaders(mine, tag));
  for (int r = 0; r < size(); ++r) {
    Header other;
    std::memcpy(static_cast<void*>(&other), all_.data() + static_cast<size_t>(r) * sizeof(Header), sizeof(Header));
    if (other.hash == mine.hash) continue;
    auto describe = [](const Header& h) {
      return absl::StrCat(Describe(static_cast<CollectiveVerb>(h.text[0]), CallTag{h.text.data() + 1, h.step}), " of ",
                          h.count, " bytes");
    };
    return absl::FailedPreconditionError(absl::StrCat("call #", history_->calls - 1, ": ", NameOf(rank()), " issues ",
                                                      describe(mine), ", ", NameOf(r), " issues ", describe(other)));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> CheckedCommunicator::FirstDifference(std::span<const CollectiveEntry> planned) {
  int64_t count = static_cast<int64_t>(planned.size());
  std::vector<uint64_t> hashes(planned.size());
  for (size_t i = 0; i < planned.size(); ++i) {
    hashes[i] = HashOf(planned[i].verb, planned[i].what, planned[i].bytes, 0);
  }
  constexpr CallTag kTag = {"comparison of planned collectives"};
  int64_t count_0 = count;
  RETURN_IF_ERROR(inner_->Broadcast(std::as_writable_bytes(std::span(&count_0, 1)), 0, kTag));
  std::vector<uint64_t> hashes_0 = hashes;
  hashes_0.resize(static_cast<size_t>(count_0));
  RETURN_IF_ERROR(inner_->Broadcast(std::as_writable_bytes(std::span(hashes_0)), 0, kTag));
  const auto [mine, theirs] = std::mismatch(hashes.begin(), hashes.end(), hashes_0.begin(), hashes_0.end());
  if (mine == hashes.end() && theirs == hashes_0.end()) return -1;
  return mine - hashes.begin();
}

absl::Status CheckedCommunicator::VerifySameSequence(std::span<const CollectiveEntry> planned) {
  constexpr CallTag kTag = {"comparison of planned collectives"};
  Hasher hasher;
  for (const CollectiveEntry& entry : planned) hasher.Mix(HashOf(entry.verb, entry.what, entry.bytes, 0));
  Header mine;
  mine.hash = hasher.Digest();
  mine.count = static_cast<int64_t>(planned.size());
  RETURN_IF_ERROR(ExchangeHeaders(mine, kTag));
  auto header_of = [&](int r) {
    Header header;
    std::memcpy(static_cast<void*>(&header), all_.data() + static_cast<size_t>(r) * sizeof(Header), sizeof(Header));
    return header;
  };
  bool equal = true;
  for (int r = 0; r < size(); ++r) equal &= header_of(r).hash == mine.hash && header_of(r).count == mine.count;
  if (equal) return absl::OkStatus();

  // Find the rank that leaves rank 0's sequence first; then both say what they plan there.
  ASSIGN_OR_RETURN(const int64_t first, FirstDifference(planned));
  Header difference;
  difference.count = first;
  RETURN_IF_ERROR(ExchangeHeaders(difference, kTag));
  int64_t index = -1;
  int differing = 0;
  for (int r = 1; r < size(); ++r) {
    const int64_t at = header_of(r).count;
    if (at >= 0 && (index < 0 || at < index)) index = at, differing = r;
  }
  Header entry;
  entry.SetText(index < static_cast<int64_t>(planned.size())
                    ? absl::StrCat("plans #", index, " ", Describe(planned[static_cast<size_t>(index)]))
                    : absl::StrCat("plans nothing after #", static_cast<int64_t>(planned.size()) - 1));
  RETURN_IF_ERROR(ExchangeHeaders(entry, kTag));
  return absl::FailedPreconditionError(absl::StrCat("the ranks' collectives differ: ", NameOf(0), " ",
                                                    header_of(0).text.data(), ", ", NameOf(differing), " ",
                                                    header_of(differing).text.data()));
}

absl::Status CheckedCommunicator::VerifySameHistory(CallTag tag) {
  Header mine;
  mine.hash = history_->hash;
  mine.count = history_->calls;
  RETURN_IF_ERROR(ExchangeHeaders(mine, tag));
  for (int r = 0; r < size(); ++r) {
    Header other;
    std::memcpy(static_cast<void*>(&other), all_.data() + static_cast<size_t>(r) * sizeof(Header), sizeof(Header));
    if (other.hash == mine.hash && other.count == mine.count) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "the ranks have issued different collectives: ", NameOf(rank()), " ", mine.count, " calls with hash ",
        absl::Hex(mine.hash), ", ", NameOf(r), " ", other.count, " calls with hash ", absl::Hex(other.hash)));
  }
  return absl::OkStatus();
}

absl::Status CheckedCommunicator::AllGather(std::span<std::byte> dst, std::span<const std::byte> src, CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kAllGather, static_cast<int64_t>(dst.size()), 0, tag));
  return inner_->AllGather(dst, src, tag);
}

absl::Status CheckedCommunicator::AllGatherInPlace(const GatheredBlocks& all, CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kAllGather, size() * all.rows * all.bytes, 0, tag));
  return inner_->AllGatherInPlace(all, tag);
}

absl::Status CheckedCommunicator::AllToAll(std::span<std::byte> dst, const SendBlocks& src, CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kAllToAll, static_cast<int64_t>(dst.size()), 0, tag));
  return inner_->AllToAll(dst, src, tag);
}

absl::Status CheckedCommunicator::ReadBlocks(const SendBlocks& src, std::span<std::byte> scratch, BlockReader read,
                                             CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kAllToAll, size() * src.rows * src.bytes, 0, tag));
  return inner_->ReadBlocks(src, scratch, read, tag);
}

absl::Status CheckedCommunicator::Broadcast(std::span<std::byte> dst, int root, CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kBroadcast, static_cast<int64_t>(dst.size()), root, tag));
  return inner_->Broadcast(dst, root, tag);
}

absl::Status CheckedCommunicator::Barrier(CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kBarrier, 0, 0, tag));
  return inner_->Barrier(tag);
}

absl::StatusOr<std::shared_ptr<std::byte>> CheckedCommunicator::MakeArena(int64_t bytes, int threads, CallTag tag) {
  // Each rank chooses its own size, so sizes are not compared.
  RETURN_IF_ERROR(Admit(CollectiveVerb::kArena, 0, 0, tag));
  return inner_->MakeArena(bytes, threads, tag);
}

absl::StatusOr<std::unique_ptr<Communicator>> CheckedCommunicator::Split(int color, CallTag tag) {
  return SplitChecked(color, tag);
}

absl::StatusOr<std::unique_ptr<CheckedCommunicator>> CheckedCommunicator::SplitChecked(int color, CallTag tag) {
  RETURN_IF_ERROR(Admit(CollectiveVerb::kSplit, 0, 0, tag));
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, inner_->Split(color, tag));
  return std::make_unique<CheckedCommunicator>(std::move(group), check_);
}

}  // namespace angel_ptm
