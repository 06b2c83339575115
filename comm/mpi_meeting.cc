#include "comm/mpi_meeting.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "comm/mpi_call.h"
#include "comm/running_time.h"

namespace angel_ptm {
namespace {

// Rank 0 knows who is missing and speaks first. Rank 1 speaks when rank 0 itself is missing, the others only when both
// are.
constexpr double kLaterSpeakerSeconds = 0.75;
constexpr int kNamedMax = 8;

class Waiting {
 public:
  explicit Waiting(double limit_seconds) : limit_seconds_(limit_seconds) {}
  // Sleeps a little; false when the limit has passed.
  bool Pause() {
    std::this_thread::sleep_for(std::chrono::microseconds(pause_us_));
    pause_us_ = std::min<int64_t>(2 * pause_us_, 1000);
    time_.Look();
    return time_.seconds() <= limit_seconds_;
  }
  double seconds() const { return time_.seconds(); }

 private:
  const double limit_seconds_;
  int64_t pause_us_ = 10;
  RunningTime time_;
};

absl::Status Missing(const std::string& names, const std::string& what, double seconds) {
  return absl::DeadlineExceededError(absl::StrFormat(
      "%s did not come to %s within %.1f s (communication.timeout_seconds): stopped, hung, or lost since MPI_Init",
      names, what, seconds));
}

}  // namespace

MpiMeeting::MpiMeeting(int rank, int size, double limit_seconds)
    : rank_(rank), size_(size), limit_seconds_(limit_seconds) {}

absl::Status MpiMeeting::Collect(const std::string& what, std::span<const std::byte> report,
                                 std::vector<std::byte>* reports) {
  const size_t n = report.size();
  reports->resize(n * static_cast<size_t>(size_));
  if (n > 0) std::memcpy(reports->data(), report.data(), n);
  std::vector<bool> came(static_cast<size_t>(size_));
  came[0] = true;
  Waiting waiting(limit_seconds_);
  for (int count = 1; count < size_;) {
    int here = 0;
    MPI_Status message;
    ANGEL_PTM_MPI_CALL(MPI_Iprobe, MPI_ANY_SOURCE, kMeetingTag, MPI_COMM_WORLD, &here, &message);
    if (here != 0) {
      const int from = message.MPI_SOURCE;
      ANGEL_PTM_MPI_CALL(MPI_Recv, reports->data() + static_cast<size_t>(from) * n, static_cast<int>(n), MPI_BYTE, from,
                         kMeetingTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      came[static_cast<size_t>(from)] = true;
      ++count;
    } else if (!waiting.Pause()) {
      speaks_ = true;
      std::string names;
      int missing = 0;
      for (int r = 0; r < size_; ++r) {
        if (came[static_cast<size_t>(r)] || ++missing > kNamedMax) continue;
        absl::StrAppend(&names, names.empty() ? "rank " : ", rank ", r);
      }
      if (missing > kNamedMax) absl::StrAppend(&names, " and ", missing - kNamedMax, " more");
      return Missing(names, what, waiting.seconds());
    }
  }
  return absl::OkStatus();
}

absl::Status MpiMeeting::Await(int source, std::span<std::byte> message, const std::string& what) {
  Waiting waiting(limit_seconds_ + (rank_ == 1 ? 1 : 2) * kLaterSpeakerSeconds);
  for (;;) {
    int here = 0;
    ANGEL_PTM_MPI_CALL(MPI_Iprobe, source, kMeetingTag, MPI_COMM_WORLD, &here, MPI_STATUS_IGNORE);
    if (here != 0) break;
    if (!waiting.Pause()) {
      speaks_ = true;
      return Missing(absl::StrCat("rank ", source), what, waiting.seconds());
    }
  }
  ANGEL_PTM_MPI_CALL(MPI_Recv, message.data(), static_cast<int>(message.size()), MPI_BYTE, source, kMeetingTag,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return absl::OkStatus();
}

absl::Status MpiMeeting::Meet(const std::string& what, std::span<const std::byte> report, std::span<std::byte> answer,
                              const Answer& fill) {
  if (rank_ != 0) {
    ANGEL_PTM_MPI_CALL(MPI_Send, report.data(), static_cast<int>(report.size()), MPI_BYTE, 0, kMeetingTag,
                       MPI_COMM_WORLD);
    return Await(0, answer, what);
  }
  std::vector<std::byte> reports, answers(answer.size() * static_cast<size_t>(size_));
  RETURN_IF_ERROR(Collect(what, report, &reports));
  if (fill) fill(reports, answers);
  for (int r = 1; r < size_; ++r) {
    ANGEL_PTM_MPI_CALL(MPI_Send, answers.data() + static_cast<size_t>(r) * answer.size(),
                       static_cast<int>(answer.size()), MPI_BYTE, r, kMeetingTag, MPI_COMM_WORLD);
  }
  if (!answer.empty()) std::memcpy(answer.data(), answers.data(), answer.size());
  return absl::OkStatus();
}

absl::Status MpiMeeting::Meet(const std::string& what) { return Meet(what, {}, {}, nullptr); }

absl::Status MpiMeeting::Agree(const std::string& what, const absl::Status& status) {
  struct Word {
    int32_t failed = 0;
    std::array<char, 508> text = {};
  };
  Word mine, common;
  if (!status.ok()) {
    mine.failed = 1;
    const std::string text = absl::StrCat("rank ", rank_, ": ", std::string(status.message()));
    std::memcpy(mine.text.data(), text.data(), std::min(text.size(), mine.text.size() - 1));
  }
  RETURN_IF_ERROR(Meet(what, std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(&common, 1)),
                       [&](std::span<const std::byte> reports, std::span<std::byte> answers) {
                         Word first;
                         for (int r = size_ - 1; r >= 0; --r) {
                           Word word;
                           std::memcpy(&word, reports.data() + static_cast<size_t>(r) * sizeof(Word), sizeof(Word));
                           if (word.failed != 0) first = word;
                         }
                         for (int r = 0; r < size_; ++r) {
                           std::memcpy(answers.data() + static_cast<size_t>(r) * sizeof(Word), &first, sizeof(Word));
                         }
                       }));
  return common.failed == 0 ? absl::OkStatus() : absl::UnavailableError(common.text.data());
}

}  // namespace angel_ptm
