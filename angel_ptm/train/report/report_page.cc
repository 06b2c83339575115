#include "angel_ptm/train/report/report_page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/plan/plan.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/report/plots.h"

namespace angel_ptm {

// Embedded when the program is built (cmake/EmbedFile.cmake).
extern const std::size_t kDygraphsJsBytes, kDygraphsCssBytes, kPageJsBytes, kPageCssBytes;
extern const unsigned char kDygraphsJs[], kDygraphsCss[], kPageJs[], kPageCss[];

namespace {

using Json = nlohmann::ordered_json;

// Rows of the tables for browsers without JavaScript.
constexpr size_t kTableRowsMax = 20;

// Drops the reference to a source map, which a browser's tools would look for beside the page.
absl::string_view Embedded(const unsigned char* bytes, std::size_t count) {
  const absl::string_view text(reinterpret_cast<const char*>(bytes), count);
  const size_t comment = text.rfind("sourceMappingURL=");
  return comment == absl::string_view::npos ? text : text.substr(0, text.rfind('\n', comment) + 1);
}

// Six digits draw the same line as all digits, in a third of the bytes.
Json Rounded(double value) {
  if (!std::isfinite(value)) return nullptr;
  double rounded = 0;
  return absl::SimpleAtod(absl::StrFormat("%.6g", value), &rounded) ? Json(rounded) : Json(value);
}

Json PlotJson(const Plot& plot) {
  Json json = {{"id", plot.id}, {"x", plot.x}, {"y", plot.y}};
  if (plot.kind == Plot::Kind::kHeat) {
    Json values = Json::array();
    for (const std::vector<double>& row : plot.heat.values) {
      Json& cells = values.emplace_back(Json::array());
      for (const double value : row) cells.push_back(Rounded(value));
    }
    json["kind"] = "heat";
    json["heat"] = {{"rows", plot.heat.rows},
                    {"columns", plot.heat.columns},
                    {"values", values},
                    {"least", plot.heat.least},
                    {"middle", plot.heat.middle}};
    return json;
  }
  json["kind"] = plot.kind == Plot::Kind::kStacked ? "stacked" : "lines";
  for (const PlotSeries& series : plot.series) {
    Json points = Json::array();
    for (const auto& [x, y] : series.points) points.push_back({x, Rounded(y)});
    json["series"].push_back(
        {{"name", series.name}, {"run", series.run}, {"dashed", series.dashed}, {"points", points}});
  }
  return json;
}

// Text in a <script> element must not look like the end of the element.
std::string ScriptJson(const Json& json) {
  return absl::StrReplaceAll(json.dump(-1, ' ', false, Json::error_handler_t::replace), {{"<", "\\u003c"}});
}

std::string Row(const std::string& title, const std::vector<std::string>& cells) {
  std::string html = absl::StrCat("<tr><th>", EscapeHtml(title), "</th>");
  for (const std::string& cell : cells) absl::StrAppend(&html, "<td>", EscapeHtml(cell), "</td>");
  return html + "</tr>\n";
}

std::string Number(double value) { return std::isfinite(value) ? absl::StrFormat("%.6g", value) : "-"; }

std::string SeriesTable(const Plot& plot) {
  std::string html;
  for (const PlotSeries& series : plot.series) {
    absl::StrAppend(&html, "<tr><th>", EscapeHtml(plot.x), "</th><th>", EscapeHtml(series.name), "</th></tr>\n");
    const size_t stride = (series.points.size() + kTableRowsMax - 1) / kTableRowsMax;
    for (size_t i = 0; i < series.points.size(); i += stride) {
      html += Row(Number(series.points[i].first), {Number(series.points[i].second)});
    }
  }
  return html;
}

std::string HeatTable(const Plot& plot) {
  std::string html = absl::StrCat("<tr><th>", EscapeHtml(plot.y), "</th><th>least</th><th>greatest</th></tr>\n");
  for (size_t r = 0; r < plot.heat.rows.size(); ++r) {
    const auto [least, greatest] = std::minmax_element(plot.heat.values[r].begin(), plot.heat.values[r].end());
    if (least != plot.heat.values[r].end()) html += Row(plot.heat.rows[r], {Number(*least), Number(*greatest)});
  }
  return html;
}

std::string Section(const Plot& plot) {
  const bool has_data = plot.points() > 0;
  std::string html = absl::StrCat("<section id=\"", EscapeHtml(plot.id), "\" class=\"", has_data ? "plot" : "empty",
                                  "\">\n<h2>", EscapeHtml(plot.title), "</h2>\n");
  for (const std::string& note : plot.notes) {
    absl::StrAppend(&html, "<p class=\"", has_data ? "note" : "none", "\">", EscapeHtml(note), "</p>\n");
  }
  if (has_data) {
    absl::StrAppend(&html, "<div class=\"chart\"></div>\n<div class=\"legend\"></div>\n<noscript><div class=\"wide\">",
                    "<table>\n", plot.kind == Plot::Kind::kHeat ? HeatTable(plot) : SeriesTable(plot),
                    "</table></div></noscript>\n");
  }
  return html + "</section>\n";
}

std::string LanesText(const History& history) {
  const Curve* seconds = history.Find("seconds");
  std::string text;
  for (int lane = 0; lane < kLaneCount && seconds != nullptr; ++lane) {
    const Curve* busy = history.Find(BusyKey(static_cast<Lane>(lane)));
    if (busy == nullptr) continue;
    absl::StrAppendFormat(&text, "%s%s %.0f %%", text.empty() ? "" : ", ", Name(static_cast<Lane>(lane)),
                          100 * busy->mean() / seconds->mean());
  }
  return text.empty() ? "-" : text;
}

// What `take` returns for the run's curve `key`, or "-" if there is none.
std::string Of(const RunReport& run, const char* key, double (Curve::*take)() const, double scale = 1) {
  const Curve* curve = run.history.Find(key);
  return curve == nullptr ? "-" : Number(scale * (curve->*take)());
}

std::string MemoryText(const RunReport& run) {
  std::string text;
  for (const TierKind tier : kAllTiers) {
    const Curve* bytes = run.history.Find(absl::StrCat(Name(tier), "_bytes"));
    if (bytes == nullptr || !(bytes->last() > 0)) continue;
    absl::StrAppend(&text, text.empty() ? "" : ", ", Name(tier), " ", FormatBytes(static_cast<int64_t>(bytes->last())));
  }
  return text.empty() ? "-" : text;
}

std::string Summary(const std::vector<RunReport>& runs) {
  std::string html = "<div class=\"wide\"><table id=\"summary\">\n";
  const auto row = [&](const char* title, auto&& cell) {
    std::vector<std::string> cells;
    for (const RunReport& run : runs) cells.push_back(cell(run));
    html += Row(title, cells);
  };
  row("run", [](const RunReport& run) { return run.name; });
  row("state", StateOf);
  row("model", [](const RunReport& run) { return run.sheet ? run.sheet->model : "-"; });
  row("machine", [](const RunReport& run) { return run.sheet ? run.sheet->layout : "-"; });
  row("loss, newest", [](const RunReport& run) { return Of(run, "loss", &Curve::last); });
  row("validation loss, newest", [](const RunReport& run) { return Of(run, "validation_loss", &Curve::last); });
  row("validation loss, least", [](const RunReport& run) { return Of(run, "validation_loss", &Curve::least); });
  row("bits per byte, newest", [](const RunReport& run) { return Of(run, "validation_bits_per_byte", &Curve::last); });
  row("tokens/s, mean", [](const RunReport& run) { return Of(run, "tokens_per_second", &Curve::mean); });
  row("TFLOP/s, mean", [](const RunReport& run) { return Of(run, "tflops", &Curve::mean); });
  row("percent of the measured peak, mean",
      [](const RunReport& run) { return Of(run, "peak_fraction", &Curve::mean, 100); });
  row("seconds per step, mean", [](const RunReport& run) { return Of(run, "seconds", &Curve::mean); });
  row("gradient norm, newest", [](const RunReport& run) { return Of(run, "grad_norm", &Curve::last); });
  row("learning rate, newest", [](const RunReport& run) { return Of(run, "learning_rate", &Curve::last); });
  row("memory of a rank", MemoryText);
  row("lanes of rank 0 busy", [](const RunReport& run) { return LanesText(run.history); });
  return html + "</table></div>\n";
}

std::string Notes(const std::vector<RunReport>& runs) {
  std::vector<std::string> notes;
  for (const RunReport& run : runs) {
    if (run.history.lines() == 1) notes.push_back(absl::StrCat(run.name, " has one step: its curves are points."));
    if (const StepList& missing = run.history.missing(); missing.count() > 0) {
      notes.push_back(
          absl::StrCat(run.name, " has a gap: metrics.jsonl has no lines for steps ", missing.ToString(), "."));
    }
    if (const StepList& bad = run.history.non_finite(); bad.count() > 0) {
      notes.push_back(absl::StrCat(run.name, ": loss or gradient norm was not finite in steps ", bad.ToString(),
                                   "; the curves omit them."));
    }
    for (const auto* of : {&run.notes, &run.sample_notes}) {
      for (const std::string& note : *of) notes.push_back(note + ".");
    }
  }
  if (notes.empty()) return "";
  std::string html = "<ul id=\"notes\">\n";
  for (const std::string& note : notes) absl::StrAppend(&html, "<li>", EscapeHtml(note), "</li>\n");
  return html + "</ul>\n";
}

std::string ImageElement(const SampleImage& image, const std::string& text) {
  return absl::StrCat("<img alt=\"", text, "\" src=\"data:image/png;base64,", absl::Base64Escape(image.png), "\">");
}

std::string Figure(const SampleImage& image) {
  const std::string prompt = EscapeHtml(image.prompt);
  return absl::StrCat("<figure>", ImageElement(image, prompt), "<figcaption>", prompt, "</figcaption></figure>\n");
}

struct ProgressRow {
  std::string prompt;
  std::vector<const SampleImage*> images;  // by step; null: no sample at that step
};

// A row for each prompt, a column for each step.
std::string Progress(const RunReport& run) {
  if (run.progress.empty()) return "";
  std::vector<int64_t> steps;
  std::vector<ProgressRow> rows;
  for (const SampleImage& image : run.progress) {
    if (steps.empty() || steps.back() != image.step) steps.push_back(image.step);
    const auto free = [&](const ProgressRow& r) { return r.prompt == image.prompt && r.images.size() < steps.size(); };
    auto row = std::find_if(rows.begin(), rows.end(), free);
    if (row == rows.end()) row = rows.insert(row, {.prompt = image.prompt});
    row->images.resize(steps.size() - 1);
    row->images.push_back(&image);
  }
  std::string html = absl::StrCat("<p class=\"note\">", EscapeHtml(run.name),
                                  ": what the model makes of the same noise as training proceeds, by step</p>\n"
                                  "<table class=\"progress\">\n<tr><th></th>");
  for (const int64_t step : steps) absl::StrAppend(&html, "<th>", step, "</th>");
  for (const ProgressRow& row : rows) {
    const std::string prompt = EscapeHtml(row.prompt);
    absl::StrAppend(&html, "</tr>\n<tr><td>", prompt, "</td>");
    for (const SampleImage* image : row.images) {
      absl::StrAppend(&html, "<td>", image == nullptr ? "" : ImageElement(*image, prompt), "</td>");
    }
  }
  return html + "</tr>\n</table>\n";
}

std::string Images(const RunReport& run) {
  std::string html;
  for (size_t i = 0; i < run.images.size(); ++i) {
    if (i == 0 || run.images[i].step != run.images[i - 1].step) {
      absl::StrAppend(&html, i == 0 ? "" : "</div>\n", "<p class=\"note\">",
                      EscapeHtml(absl::StrCat(run.name, ", step ", run.images[i].step)),
                      "</p>\n<div class=\"images\">\n");
    }
    html += Figure(run.images[i]);
  }
  return run.images.empty() ? "" : html + "</div>\n";
}

std::string Samples(const std::vector<RunReport>& runs) {
  std::string html = "<section id=\"samples\">\n<h2>Samples</h2>\n";
  for (const RunReport& run : runs) {
    if (run.samples.empty() && run.images.empty() && run.progress.empty()) {
      absl::StrAppend(
          &html, "<p class=\"none\">",
          EscapeHtml(absl::StrCat(run.name, " has no samples: angel-ptm generate --checkpoint ", run.name,
                                  " --prompt TEXT --output ", run.name, "/samples.jsonl adds texts; --output ",
                                  run.name, "/samples adds images.")),
          "</p>\n");
    }
    html += Progress(run) + Images(run);
    for (const Sample& sample : run.samples) {
      absl::StrAppend(&html, "<p class=\"note\">", EscapeHtml(absl::StrCat(run.name, ", step ", sample.step)),
                      "</p>\n<pre><b>", EscapeHtml(sample.prompt), "</b>", EscapeHtml(sample.text), "</pre>\n");
    }
  }
  return html + "</section>\n";
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  // The trip through JSON replaces what is not UTF-8.
  const std::string valid = Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
  return absl::StrReplaceAll(valid, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string UtcNow() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  std::array<char, 64> text = {};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &parts));
  return text.data();
}

std::string StateOf(const RunReport& run) {
  const int64_t done = run.history.last_step() + 1, steps = run.sheet ? run.sheet->steps : 0;
  const std::string progress = steps > 0 ? absl::StrCat(done, " of ", Counted(steps, "step")) : Counted(done, "step");
  if (!run.now.empty()) return absl::StrCat(progress, "; ", run.now);
  if (steps == 0) return progress;
  return done >= steps ? "finished, " + progress : absl::StrCat("ended after ", progress, "; --resume continues");
}

std::string ReportPage(const std::vector<RunReport>& runs, const PageOptions& options) {
  std::string names, sections;
  for (const RunReport& run : runs) absl::StrAppend(&names, names.empty() ? "" : ", ", run.name);
  Json drawn = Json::array();
  for (const Plot& plot : MakePlots(runs)) {
    sections += Section(plot);
    if (plot.points() > 0) drawn.push_back(PlotJson(plot));
  }
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
      options.reload_seconds > 0
          ? absl::StrCat("<meta http-equiv=\"refresh\" content=\"", options.reload_seconds, "\">\n")
          : "",
      // An embedded icon; without one, the browser would ask a server for it.
      "<link rel=\"icon\" href=\"data:,\">\n<title>", EscapeHtml(names), "</title>\n<style>\n",
      Embedded(kDygraphsCss, kDygraphsCssBytes), Embedded(kPageCss, kPageCssBytes), "</style>\n</head>\n<body>\n<h1>",
      EscapeHtml(names), "</h1>\n<p class=\"note\">written ", EscapeHtml(options.written),
      options.reload_seconds > 0 ? "; a run is still in progress, and this page reloads itself" : "", "</p>\n",
      Notes(runs), Summary(runs), "<div class=\"plots\">\n", sections, "</div>\n", Samples(runs),
      "<script type=\"application/json\" id=\"plots\">", ScriptJson(drawn), "</script>\n<script>\n",
      Embedded(kPageJs, kPageJsBytes), "</script>\n<script>\n", Embedded(kDygraphsJs, kDygraphsJsBytes),
      "</script>\n</body>\n</html>\n");
}

}  // namespace angel_ptm
