#include "comm/machine_relay.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace angel_ptm {
namespace {

// How often the thread looks at the verdict and at whether it should stop.
constexpr double kLookSeconds = 0.05;
// If a path is not answered for this long, all paths are tried again.
constexpr double kPathSeconds = 2;
// A datagram of rows fits in one packet of any network; so does nearly every sentence.
constexpr int kRowsMax = 7;
constexpr size_t kSentenceBytesMax = 1100;
constexpr size_t kDatagramBytesMax = 1400;

enum Kind : int32_t { kRows = 1, kVerdict = 2 };

struct Header {
  uint64_t token = 0;
  int32_t kind = 0;
  int32_t count = 0;       // of rows, or bytes of the sentence
  int32_t first_rank = 0;  // of the sender's machine
  int32_t path = -1;       // which of the hub's addresses this was sent to; returned in the answer; -1: none wanted
  std::array<char, 64> host = {};
};

struct Row {
  int32_t rank = 0, state = 0;
  int64_t process_id = 0, process_state = 0, step = 0;
  uint64_t signs = 0, beats = 0;
  std::array<char, sizeof(RankProgress::activity)> activity = {};
};

static_assert(std::has_unique_object_representations_v<Header> && std::has_unique_object_representations_v<Row>);
static_assert(sizeof(Header) + kRowsMax * sizeof(Row) <= kDatagramBytesMax);
static_assert(sizeof(Header) + kSentenceBytesMax <= kDatagramBytesMax);

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <typename T>
void Append(std::vector<std::byte>* datagram, const T& part) {
  const auto bytes = std::as_bytes(std::span(&part, 1));
  datagram->insert(datagram->end(), bytes.begin(), bytes.end());
}

}  // namespace

MachineRelay::MachineRelay(std::shared_ptr<ProgressBoard> board, std::unique_ptr<UdpSocket> socket, bool is_hub,
                           double period_seconds)
    : board_(std::move(board)), socket_(std::move(socket)), is_hub_(is_hub), period_seconds_(period_seconds) {
  gethostname(host_.data(), host_.size() - 1);
}

absl::StatusOr<std::unique_ptr<MachineRelay>> MachineRelay::AtHub(std::shared_ptr<ProgressBoard> board) {
  ASSIGN_OR_RETURN(std::unique_ptr<UdpSocket> socket, UdpSocket::Open());
  std::unique_ptr<MachineRelay> relay(new MachineRelay(std::move(board), std::move(socket), true, kPeriodSeconds));
  RelayHub& hub = relay->hub_;
  if (getrandom(&hub.token, sizeof(hub.token), 0) != sizeof(hub.token)) {
    return absl::UnavailableError("no random numbers for a token");
  }
  const std::vector<UdpAddress> addresses = AddressesOfThisMachine(relay->socket_->port(), RelayHub::kAddressesMax);
  if (addresses.empty()) return absl::UnavailableError("the machine of rank 0 has no address");
  hub.address_count = static_cast<int64_t>(addresses.size());
  std::copy(addresses.begin(), addresses.end(), hub.addresses.begin());
  relay->Start();
  return relay;
}

absl::StatusOr<std::unique_ptr<MachineRelay>> MachineRelay::ToHub(std::shared_ptr<ProgressBoard> board,
                                                                  const RelayHub& hub, double period_seconds) {
  ASSIGN_OR_RETURN(std::unique_ptr<UdpSocket> socket, UdpSocket::Open());
  std::unique_ptr<MachineRelay> relay(new MachineRelay(std::move(board), std::move(socket), false, period_seconds));
  relay->hub_ = hub;
  relay->Start();
  return relay;
}

MachineRelay::~MachineRelay() {
  stopping_ = true;
  thread_.join();
}

void MachineRelay::Start() {
  thread_ = std::thread([this] { Run(); });
}

absl::Status MachineRelay::AwaitHub(double seconds) {
  const double end = Now() + seconds;
  while (!answered_.load()) {
    if (Now() > end) {
      return absl::UnavailableError(
          absl::StrFormat("the machine of rank 0 did not answer to UDP on any of %d addresses within %g s",
                          hub_.address_count, seconds));
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(kLookSeconds / 5));
  }
  return absl::OkStatus();
}

void MachineRelay::Run() {
  std::vector<std::byte> buffer(kDatagramBytesMax);
  double reported = -1;
  while (!stopping_.load()) {
    UdpAddress from;
    const int64_t bytes = socket_->Receive(kLookSeconds, buffer, &from);
    if (bytes > 0 && bytes <= static_cast<int64_t>(buffer.size())) {
      Take(from, std::span(buffer).first(static_cast<size_t>(bytes)));
    }
    // While waiting for the first answer, ask often.
    const double now = Now(), period = answered_.load() ? period_seconds_ : kLookSeconds;
    if (!is_hub_ && (reported < 0 || now - reported >= period)) {
      reported = now;
      Report();
    }
    SpreadVerdict();
  }
  // Tell the hub that this machine's ranks have finished.
  if (!is_hub_) Report();
}

std::vector<MachineRelay::Datagram> MachineRelay::Rows() {
  std::vector<Row> rows;
  for (int r = 0; r < board_->size(); ++r) {
    RankProgress progress;
    if (!board_->Read(r, &progress) || progress.remote != 0) continue;
    Row row{.rank = r,
            .state = static_cast<int32_t>(progress.state),
            .process_id = progress.process_id,
            .step = progress.step,
            .signs = board_->signs(r),
            .beats = board_->beats(r),
            .activity = progress.activity};
    if (const std::optional<ProcessState> process = board_->StateOf(progress)) row.process_state = process->state;
    rows.push_back(row);
  }
  Header header{.token = hub_.token, .kind = kRows, .first_rank = rows.empty() ? 0 : rows[0].rank, .host = host_};
  std::vector<Datagram> datagrams;
  for (size_t begin = 0; begin < rows.size() || begin == 0; begin += kRowsMax) {
    const size_t count = std::min(rows.size() - begin, static_cast<size_t>(kRowsMax));
    header.count = static_cast<int32_t>(count);
    Append(&datagrams.emplace_back(), header);
    for (size_t i = begin; i < begin + count; ++i) Append(&datagrams.back(), rows[i]);
  }
  return datagrams;
}

MachineRelay::Datagram MachineRelay::Verdict(const std::string& sentence) const {
  const std::string text = sentence.substr(0, kSentenceBytesMax);
  Datagram datagram;
  Append(&datagram,
         Header{.token = hub_.token, .kind = kVerdict, .count = static_cast<int32_t>(text.size()), .host = host_});
  const auto bytes = std::as_bytes(std::span(text));
  datagram.insert(datagram.end(), bytes.begin(), bytes.end());
  return datagram;
}

void MachineRelay::Take(const UdpAddress& from, std::span<const std::byte> datagram) {
  Header header;
  if (datagram.size() < sizeof(header)) return;
  std::memcpy(&header, datagram.data(), sizeof(header));
  const auto body = datagram.subspan(sizeof(header));
  if (header.token != hub_.token || header.count < 0) return;
  const size_t count = static_cast<size_t>(header.count);
  if (header.kind == kVerdict && count == body.size() && count > 0) {
    board_->Accuse({reinterpret_cast<const char*>(body.data()), count});
  } else if (header.kind == kRows && count <= kRowsMax && body.size() == count * sizeof(Row)) {
    TakeRows(datagram);
    if (is_hub_ && header.path >= 0) {
      if (header.first_rank > 0 && header.first_rank < board_->size()) machines_[header.first_rank] = from;
      Answer(from, header.path);
    }
  } else {
    return;
  }
  if (is_hub_) return;
  answered_seconds_ = Now();
  if (header.path >= 0 && header.path < hub_.address_count) path_ = header.path;
  answered_ = true;
}

void MachineRelay::TakeRows(std::span<const std::byte> datagram) {
  Header header;
  std::memcpy(&header, datagram.data(), sizeof(header));
  header.host.back() = 0;
  for (size_t at = sizeof(header); at < datagram.size(); at += sizeof(Row)) {
    Row row;
    std::memcpy(&row, datagram.data() + at, sizeof(row));
    if (row.rank < 0 || row.rank >= board_->size() || row.state == RankProgress::kNotStarted) continue;
    RankProgress progress;
    progress.state = row.state;
    progress.process_id = row.process_id;
    progress.process_state = row.process_state;
    progress.step = row.step;
    progress.host = header.host;
    progress.activity = row.activity;
    progress.activity.back() = 0;
    board_->Mirror(row.rank, progress, row.signs, row.beats);
  }
}

void MachineRelay::Answer(const UdpAddress& to, int path) {
  // A thousand machines may ask for the same rows at the same time.
  if (const double now = Now(); rows_seconds_ < 0 || now - rows_seconds_ > kLookSeconds) {
    rows_ = Rows();
    rows_seconds_ = now;
  }
  for (Datagram& rows : rows_) {
    const int32_t answered = path;
    std::memcpy(rows.data() + offsetof(Header, path), &answered, sizeof(answered));
    socket_->Send(to, rows);
  }
  if (const std::string verdict = board_->Verdict(); !verdict.empty()) socket_->Send(to, Verdict(verdict));
}

void MachineRelay::Report() {
  std::vector<Datagram> datagrams = Rows();
  // Repeat the verdict, in case an earlier datagram was lost.
  if (const std::string verdict = board_->Verdict(); !verdict.empty()) datagrams.push_back(Verdict(verdict));
  SendToHub(datagrams);
}

void MachineRelay::SendToHub(const std::vector<Datagram>& datagrams) {
  const bool lost = path_ < 0 || Now() - answered_seconds_ > kPathSeconds;
  for (int32_t path = 0; path < hub_.address_count; ++path) {
    if (!lost && path != path_) continue;
    for (size_t i = 0; i < datagrams.size(); ++i) {
      Datagram datagram = datagrams[i];
      // One answer is enough.
      if (i == 0) std::memcpy(datagram.data() + offsetof(Header, path), &path, sizeof(path));
      socket_->Send(hub_.addresses[static_cast<size_t>(path)], datagram);
    }
  }
}

void MachineRelay::SpreadVerdict() {
  if (verdict_spread_) return;
  const std::string verdict = board_->Verdict();
  if (verdict.empty()) return;
  verdict_spread_ = true;
  if (!is_hub_) return SendToHub({Verdict(verdict)});
  for (const auto& [first_rank, address] : machines_) socket_->Send(address, Verdict(verdict));
}

}  // namespace angel_ptm
