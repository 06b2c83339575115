// What a report keeps of a run's steps: curves in bounded memory, however many steps there are. The same from a file as
// from a run that adds its steps one by one.
#ifndef ANGEL_PTM_TRAIN_REPORT_HISTORY_H_
#define ANGEL_PTM_TRAIN_REPORT_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace angel_ptm {

// Steps [first_step, last_step] as one point.
struct CurvePoint {
  int64_t first_step = 0, last_step = 0;
  double sum = 0;  // of the finite values
  int64_t finite = 0;

  // NaN if no value was finite.
  double mean() const;
};

// One quantity over steps. When there are more than `points_max` points, twice as many steps share each.
class Curve {
 public:
  explicit Curve(size_t points_max = 2000) : points_max_(points_max) {}

  // Steps ascend.
  void Add(int64_t step, double value);

  const std::vector<CurvePoint>& points() const { return points_; }
  int64_t steps_per_point() const { return stride_; }
  // Of the newest step; NaN before the first.
  double last() const { return last_; }
  // Of all finite values; NaN if there are none.
  double mean() const;
  // Of the points; NaN if none is finite.
  double least() const;

 private:
  void Halve();

  size_t points_max_;
  int64_t stride_ = 1;  // a point's steps have the same quotient by it
  std::vector<CurvePoint> points_;
  double last_ = std::numeric_limits<double>::quiet_NaN();
};

// Steps that some property holds for: the first few by name, and how many there are.
class StepList {
 public:
  void Add(int64_t first, int64_t last);
  int64_t count() const { return count_; }
  // "3 to 5, 7 and 120 more"
  std::string ToString() const;

 private:
  int64_t count_ = 0, listed_ = 0;
  std::vector<std::pair<int64_t, int64_t>> ranges_;
};

// The lines of metrics.jsonl, in order. Every key with a number is a curve.
class History {
 public:
  // False, and nothing changes, if this is no step's line or its step is not behind those before.
  bool AddLine(std::string_view line);

  int64_t lines() const { return lines_; }
  int64_t last_step() const { return last_step_; }  // -1: none yet
  // Null if no line has the key.
  const Curve* Find(const std::string& key) const;
  // Between the first and the last: what a resumed run, or a hand, left out.
  const StepList& missing() const { return missing_; }
  // Whose loss or gradient norm is not finite, or that were skipped for it.
  const StepList& non_finite() const { return non_finite_; }

 private:
  int64_t lines_ = 0, last_step_ = -1;
  std::map<std::string, Curve> curves_;
  StepList missing_, non_finite_;
};

// The lines of experts.jsonl, in order: {"step": 9, "loads": [[3, 5], ...]}, tokens by expert, by layer.
class ExpertHistory {
 public:
  // False, and nothing changes, if this is no such line, its step is not behind those before, or it has another number
  // of layers.
  bool AddLine(std::string_view line);

  int64_t last_step() const { return last_step_; }  // -1: none yet
  // The newest: tokens by expert over the mean, by layer; 1 is even.
  const std::vector<std::vector<double>>& loads() const { return loads_; }
  // The fullest expert over the mean, by layer.
  const std::vector<Curve>& fullest() const { return fullest_; }

 private:
  int64_t last_step_ = -1;
  std::vector<std::vector<double>> loads_;
  std::vector<Curve> fullest_;
};

// The line that AddLine reads.
std::string ExpertLine(int64_t step, const std::vector<std::vector<int64_t>>& loads);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_HISTORY_H_
