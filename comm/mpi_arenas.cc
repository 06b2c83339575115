#include "comm/mpi_arenas.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/group.h"
#include "comm/shared_memory.h"

namespace angel_ptm {

absl::Status AgreeOf(Communicator& ranks, const absl::Status& mine, const std::string& what, const CallTag& tag) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> fine, GatherWords(ranks, uint8_t{mine.ok()}, tag));
  RETURN_IF_ERROR(mine);
  const auto bad = std::find(fine.begin(), fine.end(), 0);
  if (bad == fine.end()) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("rank ", ranks.world_rank(static_cast<int>(bad - fine.begin())), " cannot ", what));
}

absl::Status MpiArenas::RemoveDropped(Communicator& ranks, const CallTag& tag) {
  MappedArenas::Bits places = mapped_.Dropped();
  for (uint64_t& word : places) {
    ASSIGN_OR_RETURN(const std::vector<uint64_t> of_ranks, GatherWords(ranks, word, tag));
    for (const uint64_t peers : of_ranks) word &= peers;
  }
  mapped_.Remove(places);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<std::byte>> MpiArenas::Make(Communicator& ranks, int64_t bytes, int threads,
                                                           CallTag tag) {
  RETURN_IF_ERROR(RemoveDropped(ranks, tag));
  std::shared_ptr<SharedMemory> own;
  absl::Status status;
  if (bytes > 0) {
    absl::StatusOr<std::unique_ptr<SharedMemory>> made = SharedMemory::CreateTouched(bytes, threads);
    if (made.ok()) {
      own = *std::move(made);
    } else {
      status = absl::Status(made.status().code(),
                            absl::StrCat(std::string(tag.what), ": ", std::string(made.status().message())));
    }
  }
  RETURN_IF_ERROR(AgreeOf(ranks, status, absl::StrCat("have its memory for ", std::string(tag.what)), tag));
  struct Offer {
    SharedMemory::Handle handle;
    int machine = 0;
  };
  const Offer mine = {own != nullptr ? own->handle() : SharedMemory::Handle(), machine_};
  ASSIGN_OR_RETURN(const std::vector<Offer> offers, GatherWords(ranks, mine, tag));
  std::vector<std::shared_ptr<SharedMemory>> by_rank(offers.size());
  for (size_t r = 0; r < offers.size() && status.ok(); ++r) {
    if (static_cast<int>(r) == ranks.rank()) {
      by_rank[r] = own;
    } else if (offers[r].machine == machine_ && offers[r].handle.descriptor >= 0) {
      absl::StatusOr<std::unique_ptr<SharedMemory>> opened =
          SharedMemory::Open(offers[r].handle, SharedMemory::Access::kRead);
      status = opened.status();
      if (opened.ok()) by_rank[r] = *std::move(opened);
    }
  }
  RETURN_IF_ERROR(AgreeOf(ranks, status, absl::StrCat("map its peers' memory for ", std::string(tag.what)), tag));
  if (own != nullptr) own->CloseDescriptor();
  mapped_.Add(std::move(by_rank));
  if (own == nullptr) return std::make_shared<std::byte>();
  std::byte* const data = static_cast<std::byte*>(own->data());
  return std::shared_ptr<std::byte>(std::move(own), data);
}

}  // namespace angel_ptm
