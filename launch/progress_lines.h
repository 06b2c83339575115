// Prints the progress of long-running commands.
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

// Prints lines like "encode: 1,200 of 3,635 images, 12.3/s, 3m17s left": at most one line every `seconds`, the first
// after that time. Prints none when a kind of work is done: the command itself reports that.
class ProgressLines {
 public:
  struct Options {
    std::FILE* out = stderr;
    double seconds = 5;
    std::function<double()> now;  // the time in seconds; null: a steady clock
  };
  explicit ProgressLines(std::string command) : ProgressLines(std::move(command), Options()) {}
  ProgressLines(std::string command, Options options);
  ProgressLines(const ProgressLines&) = delete;

  // Returns a function that calls Report; this object must outlive it.
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
  double said_;               // time of the last line, at first of the command's start
  std::string what_;          // the current kind of work
  std::deque<Point> points_;  // its last lines, which give the rate: a cache may make earlier work faster
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_LAUNCH_PROGRESS_LINES_H_
