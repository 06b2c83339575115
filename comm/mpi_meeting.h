// How the ranks meet during start-up, before they share memory or a watcher: every rank reports to rank 0, which
// answers every rank. This takes two messages per rank. A rank that waits longer than a limit returns an error that
// names the rank that did not come; MPI's own collectives would wait for it forever and say nothing.
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
  // limit_seconds: how long, in running time (running_time.h), a rank waits for others in one meeting.
  MpiMeeting(int rank, int size, double limit_seconds);

  // All ranks call it together, with reports and answers of the same sizes. Rank 0 gets every rank's report, rank r's
  // at reports[r * report.size()], and fills in the answers, which are laid out in the same way. Returns
  // kDeadlineExceeded with a sentence that names the ranks that did not come, and the meeting by `what`.
  using Answer = std::function<void(std::span<const std::byte> reports, std::span<std::byte> answers)>;
  absl::Status Meet(const std::string& what, std::span<const std::byte> report, std::span<std::byte> answer,
                    const Answer& fill);

  // A meeting without reports or answers.
  absl::Status Meet(const std::string& what);
  // Returns the same status on all ranks: that of the first rank R with an error, as kUnavailable, prefixed with "rank
  // R: ".
  absl::Status Agree(const std::string& what, const absl::Status& status);

  // Whether this rank should tell the user about the last failed meeting: as a rule true on exactly one of the ranks
  // that came.
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
