#include "tests/support/fake_nccl.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "comm/ordered_sum.h"
#include "tests/support/fake_device.h"

namespace angel_ptm {
namespace {

// How often a communicator must be polled before a call is done.
constexpr int kAsks = 3;

// Takes what was received, or adds a rank's addend.
void Take(bool adds, std::byte* to, const std::byte* from, int64_t bytes) {
  if (!adds) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  float* const sum = reinterpret_cast<float*>(to);
  const float* const addend = reinterpret_cast<const float*>(from);
  for (int64_t i = 0; i < bytes / int64_t{sizeof(float)}; ++i) sum[i] += addend[i];
}

}  // namespace

// A message that its sender's stream has reached.
struct FakeNccl::Posted {
  const Comm* sender = nullptr;
  std::string kind;
  int64_t bytes = 0;
  const std::byte* data = nullptr;  // as the host finds it
  bool taken = false;
};
struct FakeNccl::World {
  int size = 0, came = 0, parted = 0;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Posted>>> posted;  // by sender and receiver
};
struct FakeNccl::Comm {
  std::shared_ptr<World> world;
  int rank = 0;
  NcclCode error = kNcclSuccess;
  bool aborted = false, open = true, parts = false;
  int asks = kAsks;
  void* stream = nullptr;          // of its last call
  std::shared_ptr<Group> pending;  // called, and not yet on the stream
};
struct FakeNccl::Part {
  std::string kind;
  bool sends = false;
  int peer = 0;
  const void* memory = nullptr;
  int64_t bytes = 0;
  std::byte* data = nullptr;       // memory, as the host finds it
  std::shared_ptr<Posted> posted;  // what was sent, or what is received
};
struct FakeNccl::Group {
  std::shared_ptr<Comm> comm;
  void* stream = nullptr;
  std::vector<Part> parts;
  std::vector<std::pair<const void*, void*>> own;  // a rank's part of what it gathers itself, from and to,
  std::vector<int64_t> own_bytes;                  // and how much
  int depth = 0;
};

FakeNccl::FakeNccl() = default;
FakeNccl::~FakeNccl() = default;

std::string FakeNccl::ErrorText(NcclCode code) { return absl::StrCat("error ", code, " of the fake NCCL"); }
std::string FakeNccl::LastError() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_error_;
}

NcclCode FakeNccl::GetUniqueId(NcclId* id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::string name = absl::StrCat("world ", ids_++);
  std::ranges::copy(name, id->bytes.begin());
  return kNcclSuccess;
}

NcclCode FakeNccl::CommInit(void** comm, int ranks, const NcclId& id, int rank) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (refuses_ != kNcclSuccess) return refuses_;
  std::shared_ptr<World>& world = worlds_[id.bytes.data()];
  if (world == nullptr) world = std::make_shared<World>();
  world->size = ranks;
  ++world->came;
  comms_.push_back(std::make_shared<Comm>());
  comms_.back()->world = world;
  comms_.back()->rank = rank;
  *comm = comms_.back().get();
  return kNcclInProgress;
}

NcclCode FakeNccl::AsyncError(void* comm, NcclCode* state) {
  Comm& of = *static_cast<Comm*>(comm);
  std::shared_ptr<Group> group;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    APTM_CHECK(of.open, "a communicator that has ended is asked");
    *state = of.error;
    if (of.error != kNcclSuccess) return kNcclSuccess;
    const World& world = *of.world;
    of.asks = std::max(0, of.asks - 1);
    const bool busy = of.asks > 0 || world.came < world.size || (of.parts && world.parted < world.size);
    *state = busy ? kNcclInProgress : kNcclSuccess;
    if (!busy) group = std::exchange(of.pending, nullptr);
    if (group != nullptr) ++groups_put_;
  }
  if (group != nullptr) Put(group, group->stream);
  return kNcclSuccess;
}

NcclCode FakeNccl::CommFinalize(void* comm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Comm& of = *static_cast<Comm*>(comm);
  APTM_CHECK(of.open && !of.parts);
  of.parts = true;
  ++of.world->parted;
  return kNcclInProgress;
}
NcclCode FakeNccl::CommDestroy(void* comm) {
  const std::lock_guard<std::mutex> lock(mutex_);
  static_cast<Comm*>(comm)->open = false;
  return kNcclSuccess;
}
NcclCode FakeNccl::CommAbort(void* comm) {
  void* stream = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    Comm& of = *static_cast<Comm*>(comm);
    APTM_CHECK(of.open, "a communicator that has ended is aborted");
    of.open = false;
    of.aborted = true;
    of.pending = nullptr;
    for (auto& [ranks, messages] : of.world->posted) {
      if (ranks.first == of.rank) messages.clear();
    }
    stream = of.stream;
  }
  if (stream != nullptr) FakeDevice::Of(stream).AwaitAll();
  return kNcclSuccess;
}

NcclCode FakeNccl::GroupStart() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<Group>& group = groups_[std::this_thread::get_id()];
  if (group == nullptr) group = std::make_shared<Group>();
  ++group->depth;
  return kNcclSuccess;
}

NcclCode FakeNccl::GroupEnd() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<Group>& open = groups_[std::this_thread::get_id()];
  APTM_CHECK(open != nullptr && open->depth > 0, "a group ends that was not begun");
  if (--open->depth > 0) return kNcclSuccess;
  const std::shared_ptr<Group> group = std::exchange(open, nullptr);
  if (group->comm == nullptr) return kNcclSuccess;
  if (group->comm->pending != nullptr) {
    last_error_ = "a call while another is in progress";
    return kNcclInvalidUsage;
  }
  group->comm->asks = kAsks;
  group->comm->pending = group;
  return kNcclInProgress;
}

NcclCode FakeNccl::Add(Part part, void* comm, void* stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<Group>& group = groups_[std::this_thread::get_id()];
  APTM_CHECK(group != nullptr, "a call outside of a group");
  const auto of = std::ranges::find(comms_, comm, [](const auto& owned) { return static_cast<void*>(owned.get()); });
  APTM_CHECK(group->comm == nullptr || (group->comm == *of && group->stream == stream), "a group of several streams");
  APTM_CHECK((*of)->open, "a call of a communicator that has ended");
  group->comm = *of;
  group->stream = (*of)->stream = stream;
  group->parts.push_back(std::move(part));
  return group->parts.size() % 2 == 0 ? kNcclSuccess : kNcclInProgress;
}

NcclCode FakeNccl::AllGather(const void* src, void* dst, int64_t bytes, void* comm, void* stream) {
  const Comm& of = *static_cast<Comm*>(comm);
  std::byte* const all = static_cast<std::byte*>(dst);
  for (int peer = 0; peer < of.world->size; ++peer) {
    if (peer == of.rank) continue;
    Add({.kind = "all-gather", .sends = true, .peer = peer, .memory = src, .bytes = bytes}, comm, stream);
    Add({.kind = "all-gather", .peer = peer, .memory = all + peer * bytes, .bytes = bytes}, comm, stream);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  Group& group = *groups_[std::this_thread::get_id()];
  group.own.emplace_back(src, all + of.rank * bytes);
  group.own_bytes.push_back(bytes);
  return kNcclSuccess;
}
NcclCode FakeNccl::Send(const void* src, int64_t bytes, int peer, void* comm, void* stream) {
  return Add({.kind = "message", .sends = true, .peer = peer, .memory = src, .bytes = bytes}, comm, stream);
}
NcclCode FakeNccl::Receive(void* dst, int64_t bytes, int peer, void* comm, void* stream) {
  return Add({.kind = "message", .peer = peer, .memory = dst, .bytes = bytes}, comm, stream);
}

NcclCode FakeNccl::Reduce(const void* src, void* dst, int64_t count, DType type, int root, void* comm, void* stream) {
  APTM_CHECK(type == DType::kFloat32);
  const Comm& of = *static_cast<Comm*>(comm);
  const int64_t bytes = count * SizeOf(type);
  if (of.rank != root) {
    return Add({.kind = "sum", .sends = true, .peer = root, .memory = src, .bytes = bytes}, comm, stream);
  }
  for (int peer = of.world->size - 1; peer >= 0; --peer) {
    if (peer != root) Add({.kind = "sum", .peer = peer, .memory = dst, .bytes = bytes}, comm, stream);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  Group& group = *groups_[std::this_thread::get_id()];
  group.own.emplace_back(src, dst);
  group.own_bytes.push_back(bytes);
  return kNcclSuccess;
}

void FakeNccl::Put(std::shared_ptr<Group> group, void* stream) {
  Comm& comm = *group->comm;
  const auto post = [this, group, &comm](FakeDevice& device) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm.aborted) return;
    for (Part& part : group->parts) {
      part.data = device.ResolveInWork(part.memory, part.bytes);
      if (part.data == nullptr) continue;
      if (!part.sends) {
        if (part.kind != "sum") std::memset(part.data, 0xff, static_cast<size_t>(part.bytes));
        continue;
      }
      part.posted = std::make_shared<Posted>(Posted{&comm, part.kind, part.bytes, part.data});
      comm.world->posted[{comm.rank, part.peer}].push_back(part.posted);
    }
    for (size_t i = 0; i < group->own.size(); ++i) {
      const std::byte* const from = device.ResolveInWork(group->own[i].first, group->own_bytes[i]);
      std::byte* const to = device.ResolveInWork(group->own[i].second, group->own_bytes[i]);
      if (from != nullptr && to != nullptr) std::memmove(to, from, static_cast<size_t>(group->own_bytes[i]));
    }
  };
  const auto all_came = [this, group, &comm] {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Part& part : group->parts) {
      auto& messages = comm.world->posted[{part.peer, comm.rank}];
      if (comm.aborted) return true;
      if (part.sends) continue;
      // The data of a rank that has aborted is gone.
      if (part.posted != nullptr && part.posted->sender->aborted) return false;
      if (part.posted != nullptr) continue;
      if (messages.empty()) return false;
      part.posted = messages.front();
      if (part.posted->kind == part.kind && part.posted->bytes == part.bytes) {
        messages.pop_front();
        continue;
      }
      comm.error = kNcclInvalidUsage;
      last_error_ = absl::StrCat("rank ", comm.rank, " wants ", part.kind, " of ", part.bytes, " bytes, rank ",
                                 part.peer, " sends ", part.posted->kind, " of ", part.posted->bytes);
      part.posted = nullptr;
      return false;
    }
    return true;
  };
  const auto take = [this, group, &comm](FakeDevice&) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (comm.aborted) return;
    for (Part& part : group->parts) {
      if (part.sends || part.data == nullptr) continue;
      Take(part.kind == "sum", part.data, part.posted->data, part.bytes);
      part.posted->taken = true;
    }
  };
  const auto all_taken = [this, group, &comm] {
    const std::lock_guard<std::mutex> lock(mutex_);
    return comm.aborted || std::ranges::all_of(group->parts, [](const Part& part) {
             return !part.sends || part.posted == nullptr || part.posted->taken;
           });
  };
  FakeDevice::PutWaiting(stream, {}, post);
  FakeDevice::PutWaiting(stream, all_came, take);
  FakeDevice::PutWaiting(stream, all_taken, [](FakeDevice&) {});
}

int FakeNccl::RankOf(void* comm) { return static_cast<Comm*>(comm)->rank; }
int64_t FakeNccl::groups_put() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return groups_put_;
}
int FakeNccl::open() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(std::ranges::count_if(comms_, [](const auto& comm) { return comm->open; }));
}
int FakeNccl::aborted() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(std::ranges::count_if(comms_, [](const auto& comm) { return comm->aborted; }));
}
void FakeNccl::RefuseInit(NcclCode code, const std::string& words) {
  const std::lock_guard<std::mutex> lock(mutex_);
  refuses_ = code;
  last_error_ = words;
}

void LaunchFakeSum(const OrderedSumArgs& args, void* stream) {
  const auto launched = std::make_shared<OrderedSumArgs>(args);
  FakeDevice::Launch(stream, launched.get(), sizeof(*launched), [launched] {
    const OrderedSumArgs& of = *launched;
    std::vector<const std::byte*> blocks;
    for (int rank = 0; rank < of.ranks; ++rank) {
      blocks.push_back(rank == of.own_rank ? of.own : of.blocks + rank * of.stride);
    }
    if (of.dst_type == DType::kBFloat16) {
      OrderedSumRounded(reinterpret_cast<BFloat16*>(of.dst), blocks, of.type, of.n);
    } else {
      OrderedSum(reinterpret_cast<float*>(of.dst), blocks, of.type, of.n, of.accumulate);
    }
  });
}

}  // namespace angel_ptm
