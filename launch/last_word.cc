#include "launch/last_word.h"

#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

// How long an error that a dead rank may have caused waits for the watcher's verdict; well within the 10 s in which a
// run with a killed rank ends. A process with a large memory takes seconds to go.
constexpr double kVerdictSeconds = 5;
// How long a mistake that rank 0 has seen, too, is left to it.
constexpr double kSameMistakeSeconds = 2;
// How long a speaker may take to end the others.
constexpr double kEndSeconds = 5;

bool LikelyTheSameOnAllRanks(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsAlreadyExists(status) ||
         absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

void SayToUser(std::string_view sentence) {
  const std::string line = absl::StrCat("angel-ptm: ", std::string(sentence), "\n");
  // Nothing is left to do about an error here.
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
  // A read from a dead rank's memory fails before the watcher's next look; what the watcher finds is the true reason.
  if (absl::IsUnavailable(error)) watcher.AwaitLoss(kVerdictSeconds).IgnoreError();
  std::string sentence(error.message());
  if (rank_ != 0 && !absl::StartsWith(sentence, "rank ")) sentence = absl::StrCat("rank ", rank_, ": ", sentence);
  if (!board_->Accuse(sentence)) LeaveTheWordToAnother();
  SayToUser(sentence);
  end_all_();
}

}  // namespace angel_ptm
