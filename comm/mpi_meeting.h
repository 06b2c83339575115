// How the ranks meet during start-up, before they have memory or a watcher in common: everyone reports to rank 0, which
// answers everyone. Two messages per rank, and a rank that does not come is named by the one that waits for it,
// within a limit: MPI's own collectives would wait for it for ever, and say nothing.
#ifndef ANGEL_PTM_COMM_MPI_MEETING_H_
#define ANGEL_PTM_COMM_MPI_MEETING_H_

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

class MpiMeeting {
 public:
  // limit_seconds: of running time (running_time.h) that a rank waits for others in one meeting.
  MpiMeeting(int rank, int size, double limit_seconds);

  // All ranks call it together, with reports and answers of the same sizes. Rank 0 gets everyone's report, rank r's at
  // reports[r * report.size()], and fills the answers in the same way. kDeadlineExceeded with a sentence naming those
  // who did not come; `what` says to what.
  using Answer = std::function<void(std::span<const std::byte> reports, std::span<std::byte> answers)>;
  absl::Status Meet(const std::string& what, std::span<const std::byte> report, std::span<std::byte> answer,
                    const Answer& fill);

  // Nothing to tell.
  absl::Status Meet(const std::string& what);
  // The same status on all ranks: that of the first rank with an error, as kUnavailable with "rank R: " before it.
  absl::Status Agree(const std::string& what, const absl::Status& status);

  // Whether the last failed meeting is this rank's to tell the user: exactly one of those who came.
  bool speaks() const { return speaks_; }

 private:
  absl::Status Collect(const std::string& what, std::span<const std::byte> report, std::vector<std::byte>* reports);
  absl::Status Await(int source, std::span<std::byte> message, const std::string& what);

  const int rank_, size_;
  const double limit_seconds_;
  bool speaks_ = false;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_COMM_MPI_MEETING_H_
