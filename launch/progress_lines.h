// Lines that say how far a command is which works for long.
#ifndef ANGEL_PTM_LAUNCH_PROGRESS_LINES_H_
#define ANGEL_PTM_LAUNCH_PROGRESS_LINES_H_

#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "angel_ptm/base/progress.h"

namespace angel_ptm {

// "encode: 1,200 of 3,635 images, 12.3/s, 3m17s left": a line at most every `seconds`, none before so many have passed,
// and none of what is done, which the command itself tells.
class ProgressLines {
 public:
  struct Options {
    std::FILE* out = stderr;
    double seconds = 5;
    std::function<double()> now;  // in seconds; null: of a steady clock
  };
  explicit ProgressLines(std::string command) : ProgressLines(std::move(command), Options()) {}
  ProgressLines(std::string command, Options options);
  ProgressLines(const ProgressLines&) = delete;

  // Tells these lines, which must outlive it.
  ReportProgress Reporter() {
    return [this](std::string_view what, int64_t done, int64_t all) { Report(what, done, all); };
  }
  void Report(std::string_view what, int64_t done, int64_t all);

 private:
  struct Point {
    double time;
    int64_t done;
  };

  const std::string command_;
  Options options_;
  double said_;               // when the last line was, or the command began
  std::string what_;          // kind of work
  std::deque<Point> points_;  // the last lines of it, from which the rate is: what a cache has goes faster
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_PROGRESS_LINES_H_
