#include "launch/last_word.h"

#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

// How long an error that a dead rank may have caused waits for the watcher's verdict. Well within the 10 s in which a
// run with a killed rank ends; a process with much memory takes seconds to disappear.
constexpr double kVerdictSeconds = 5;
// How long other ranks leave it to rank 0 to report a mistake that it has seen, too.
constexpr double kSameMistakeSeconds = 2;
// How long a reporting rank may take to end the others.
constexpr double kEndSeconds = 5;

bool LikelyTheSameOnAllRanks(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsAlreadyExists(status) ||
         absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

void SayToUser(std::string_view sentence) {
  const std::string line = absl::StrCat("angel-ptm: ", std::string(sentence), "\n");
  // Nothing can be done about an error here.
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;
}

void AwaitTheEnd(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

LastWord::LastWord(std::shared_ptr<ProgressBoard> board, int rank, std::function<void()> end_all)
    : board_(std::move(board)), rank_(rank), end_all_(std::move(end_all)) {}

void LastWord::SayLoss(std::string_view sentence) const {
  SayToUser(sentence);
  end_all_();
}

void LastWord::LeaveTheWordToAnother() const {
  AwaitTheEnd(kEndSeconds);
  end_all_();
}

void LastWord::SayError(const absl::Status& error, PeerWatcher& watcher) const {
  if (rank_ != 0 && LikelyTheSameOnAllRanks(error)) watcher.AwaitLoss(kSameMistakeSeconds).IgnoreError();
  // A read from a dead rank's memory fails before the watcher's next check; what the watcher finds is the true reason.
  if (absl::IsUnavailable(error)) watcher.AwaitLoss(kVerdictSeconds).IgnoreError();
  std::string sentence(error.message());
  if (rank_ != 0 && !absl::StartsWith(sentence, "rank ")) sentence = absl::StrCat("rank ", rank_, ": ", sentence);
  if (!board_->Accuse(sentence)) LeaveTheWordToAnother();
  SayToUser(sentence);
  end_all_();
}

}  // namespace angel_ptm
