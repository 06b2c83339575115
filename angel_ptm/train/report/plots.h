// What a report's page shows, as data: every plot has something to draw, or sentences that say why it does not.
#ifndef ANGEL_PTM_TRAIN_REPORT_PLOTS_H_
#define ANGEL_PTM_TRAIN_REPORT_PLOTS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "angel_ptm/train/report/run_report.h"

namespace angel_ptm {

struct PlotSeries {
  std::string name;
  int run = 0;  // determines its colour
  bool dashed = false;
  std::vector<std::pair<double, double>> points;  // x ascends; a y of NaN is a gap
};

// Values by row and column, drawn as colours.
struct HeatMap {
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;  // by row; NaN: no value
  double least = 0, middle = 1;             // the values of the darkest and of the middle colour
};

struct Plot {
  enum class Kind : uint8_t { kLines, kStacked, kHeat };

  std::string id;  // unique on the page: letters, digits, '-'
  Kind kind = Kind::kLines;
  std::string title, x, y;         // the axes' labels
  std::vector<PlotSeries> series;  // for kLines and kStacked; those of kStacked have the same x
  HeatMap heat;                    // kHeat
  std::vector<std::string> notes;  // sentences: why a run has no data, what a point means

  // How many numbers there are to draw. If 0, the notes say why.
  int64_t points() const;
};

// Returns first the plots that compare all runs, then those of single runs.
std::vector<Plot> MakePlots(const std::vector<RunReport>& runs);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_PLOTS_H_
