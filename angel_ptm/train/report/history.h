// What a report keeps of a run's steps: curves in bounded memory, however many steps there are. Reading a finished file
// and adding steps one by one give the same result.
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

// Steps [first_step, last_step] as one point of a curve.
struct CurvePoint {
  int64_t first_step = 0, last_step = 0;
  double sum = 0;  // of the finite values
  int64_t finite = 0;

  // NaN if no value was finite.
  double mean() const;
};

// One quantity over steps. When there are more than `points_max` points, the number of steps per point doubles.
class Curve {
 public:
  explicit Curve(size_t points_max = 2000) : points_max_(points_max) {}

  // Steps must ascend.
  void Add(int64_t step, double value);

  const std::vector<CurvePoint>& points() const { return points_; }
  int64_t steps_per_point() const { return stride_; }
  // The value of the newest step; NaN before the first step.
  double last() const { return last_; }
  // Over all finite values; NaN if there are none.
  double mean() const;
  // The least point; NaN if no point is finite.
  double least() const;

 private:
  void Halve();

  size_t points_max_;
  int64_t stride_ = 1;  // steps with the same quotient by it share a point
  std::vector<CurvePoint> points_;
  double last_ = std::numeric_limits<double>::quiet_NaN();
};

// Steps with some property: the first few ranges, and the total count.
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
  // Returns false and changes nothing if this is not a step's line, or its step does not follow all previous ones.
  bool AddLine(std::string_view line);

  int64_t lines() const { return lines_; }
  int64_t last_step() const { return last_step_; }  // -1: none yet
  // Null if no line has the key.
  const Curve* Find(const std::string& key) const;
  // Steps missing between the first and the last: those that a resumed run, or an edit by hand, left out.
  const StepList& missing() const { return missing_; }
  // Steps whose loss or gradient norm is not finite, or that were skipped for that.
  const StepList& non_finite() const { return non_finite_; }

 private:
  int64_t lines_ = 0, last_step_ = -1;
  std::map<std::string, Curve> curves_;
  StepList missing_, non_finite_;
};

// The lines of experts.jsonl, in order: {"step": 9, "loads": [[3, 5], ...]}, the tokens by layer and expert.
class ExpertHistory {
 public:
  // Returns false and changes nothing if this is not such a line, its step does not follow all previous ones, or its
  // number of layers differs.
  bool AddLine(std::string_view line);

  int64_t last_step() const { return last_step_; }  // -1: none yet
  // The newest loads by layer and expert: tokens relative to the layer's mean. 1 means even.
  const std::vector<std::vector<double>>& loads() const { return loads_; }
  // By layer, the load of the fullest expert relative to the mean.
  const std::vector<Curve>& fullest() const { return fullest_; }

 private:
  int64_t last_step_ = -1;
  std::vector<std::vector<double>> loads_;
  std::vector<Curve> fullest_;
};

// Makes the line that AddLine reads.
std::string ExpertLine(int64_t step, const std::vector<std::vector<int64_t>>& loads);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_HISTORY_H_
