// A run's directory with possible damage, and the page made from it.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/train/metrics.h"
#include "angel_ptm/train/output_lock.h"
#include "angel_ptm/train/report/plots.h"
#include "angel_ptm/train/report/report_page.h"
#include "angel_ptm/train/report/report_writer.h"
#include "angel_ptm/train/report/run_report.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

std::string Lines(const std::vector<int64_t>& steps) {
  std::string lines;
  for (const int64_t step : steps) {
    absl::StrAppend(&lines,
                    ToJson({.step = step,
                            .loss = 5.0 / static_cast<double>(step + 1),
                            .grad_norm = 1,
                            .seconds = 2,
                            .busy_seconds = {1, 0, 0, 0, 0}}),
                    "\n");
  }
  return lines;
}

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string PageOf(const std::string& directory) {
  const auto run = ReadRun(directory);
  EXPECT_TRUE(run.ok()) << run.status();
  return run.ok() ? ReportPage({*run}, {.written = "now"}) : "";
}

nlohmann::json PlotsOf(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"plots\">";
  const size_t at = page.find(begin) + begin.size();
  return nlohmann::json::parse(page.substr(at, page.find("</script>", at) - at));
}

RunSheet TinySheet() {
  return {.model = "a model",
          .layout = "a machine",
          .steps = 10,
          .memory = {{.tier = "device",
                      .arena_bytes = 100,
                      .classes = {{"parameters", {40, 40}}},
                      .steps = {0, 3},
                      .update_begin = 2}}};
}

TEST(ReportTest, ADirectoryThatIsNoRunIsNamed) {
  const TemporaryFolder folder;
  for (const std::string& directory : {folder.path() + "/", folder / "missing"}) {
    const absl::Status status = ReadRun(directory).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_TRUE(Has(std::string(status.message()), " is no run: wanted an output.directory of angel-ptm train"))
        << status;
  }
}

// Every plot has data or says why it has none; also for an empty run, one of one step, and a dense one.
TEST(ReportTest, EveryPlotHasDataOrASentence) {
  const TemporaryFolder folder;
  for (const std::string& lines : {std::string(), Lines({0}), Lines({0, 1, 2})}) {
    Spill(folder / "run/metrics.jsonl", lines);
    const auto run = ReadRun(folder / "run");
    ASSERT_TRUE(run.ok()) << run.status();
    for (const Plot& plot : MakePlots({*run})) EXPECT_TRUE(plot.points() > 0 || !plot.notes.empty()) << plot.id;
    const std::string page = PageOf(folder / "run");
    EXPECT_EQ(PlotsOf(page).size(), lines.empty() ? 0u : 6u);
    EXPECT_EQ(Has(page, "has one step: its curves are points."), lines == Lines({0}));
    EXPECT_TRUE(Has(page, lines.empty() ? "no step has a line yet" : "The model has no routed experts."));
  }
}

TEST(ReportTest, ARunThatIsStillWritingIsSaidToBe) {
  const TemporaryFolder folder;
  const std::string whole = Lines({0, 1, 2});
  Spill(folder / "run/metrics.jsonl", whole + "{\"step\": 3, \"loss\": 1.2");
  Spill(folder / "run/run.json", ToJson(TinySheet()));
  EXPECT_TRUE(Has(PageOf(folder / "run"), "ended after 3 of 10 steps; --resume continues"));
  {
    const auto lock = OutputLock::Take(folder / "run");
    ASSERT_TRUE(lock.ok()) << lock.status();
    const auto run = ReadRun(folder / "run");
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_TRUE(Has(StateOf(*run), "3 of 10 steps; still writing: process ")) << StateOf(*run);
    EXPECT_TRUE(run->notes.empty()) << run->notes[0];  // half a line is being written
  }
  Spill(folder / "run/lock", "process 1 that was killed\n");
  EXPECT_TRUE(Has(PageOf(folder / "run"), "ended after 3 of 10 steps"));
}

TEST(ReportTest, GapsAndBadNumbersAreNamedAndDrawnAsGaps) {
  const TemporaryFolder folder;
  Spill(folder / "run/metrics.jsonl",
        Lines({0, 1, 5}) + ToJson({.step = 6, .loss = NAN, .grad_norm = INFINITY, .skipped = true}) + "\n");
  const std::string page = PageOf(folder / "run");
  EXPECT_TRUE(Has(page, "run has a gap: metrics.jsonl has no lines for steps 2 to 4."));
  EXPECT_TRUE(Has(page, "loss or gradient norm was not finite in steps 6; the curves omit them."));
  const auto points = PlotsOf(page)[0]["series"][0]["points"];
  ASSERT_EQ(points.size(), 5u);
  EXPECT_EQ(points[2], nlohmann::json::parse("[3.0, null]"));
  EXPECT_EQ(points[4], nlohmann::json::parse("[6.0, null]"));
}

TEST(ReportTest, FilesThatAreDamagedAreNotes) {
  const TemporaryFolder folder;
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}) + "rubbish\n" + Lines({2, 1}));
  Spill(folder / "run/run.json", R"({"version": 1, "model": "m", "layout": "l", "steps": 3, "memory": [{"tier": 7}]})");
  Spill(folder / "run/experts.jsonl", "{\"step\": 1, \"loads\": \"many\"}\n");
  Spill(folder / "run/samples.jsonl", "{\"prompt\": 5}\n");
  const std::string page = PageOf(folder / "run");
  EXPECT_TRUE(Has(page, "metrics.jsonl: ignored what is not a step after the previous one: lines 3, 5."));
  EXPECT_TRUE(
      Has(page, "experts.jsonl: ignored what is not a step&#39;s expert loads after the previous one: line 1."));
  EXPECT_TRUE(Has(page, "samples.jsonl: ignored what is not a sample after the previous one: line 1."));
  EXPECT_TRUE(Has(page, "run.json has no proper "));
  EXPECT_TRUE(Has(page, "run.json is missing or cannot be read"));
}

TEST(ReportTest, TextFromFilesIsEscaped) {
  const TemporaryFolder folder;
  const std::string name = "<script>alert(1)</script>&\"'";
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}));
  Spill(folder / "run/samples.jsonl",
        nlohmann::json{{"prompt", "</pre><b>"}, {"text", "</script><!--"}, {"step", 7}}.dump() + "\n");
  auto run = ReadRun(folder / "run");
  ASSERT_TRUE(run.ok()) << run.status();
  run->name = name;
  run->sheet = TinySheet();
  run->sheet->model = "\xff<i>";
  const std::string page = ReportPage({*run}, {.written = "<now>"});
  EXPECT_FALSE(Has(page, "<script>alert"));
  EXPECT_FALSE(Has(page, "</script><!--"));
  EXPECT_FALSE(Has(page, "</pre><b>"));
  EXPECT_FALSE(Has(page, "<i>"));
  EXPECT_FALSE(Has(page, "<now>"));
  EXPECT_TRUE(Has(page, "<h1>&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;</h1>"));
  EXPECT_EQ(PlotsOf(page)[0]["series"][0]["name"], name);
  EXPECT_EQ(EscapeHtml("a\xff"
                       "b"),
            "a\xef\xbf\xbd"
            "b");
}

TEST(ReportTest, ImagesAreInThePage) {
  const TemporaryFolder folder;
  const std::string png = std::string("\x89PNG\r\n\x1a\n", 8) + "pixels";
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}));
  Spill(folder / "run/samples/0.png", png);
  Spill(folder / "run/secret", png);
  Spill(folder / "run/samples/text.png", "no image");
  const auto line = [](const char* file) {
    return nlohmann::json{{"image", file}, {"prompt", "<西瓜>"}, {"step", 7}}.dump() + "\n";
  };
  Spill(folder / "run/samples/samples.jsonl", line("0.png") + line("../secret") + line("text.png") + line("gone.png"));
  const std::string page = PageOf(folder / "run");
  EXPECT_TRUE(Has(page,
                  "<figure><img alt=\"&lt;西瓜&gt;\" src=\"data:image/png;base64,iVBORw0KGgpwaXhlbHM=\">"
                  "<figcaption>&lt;西瓜&gt;</figcaption></figure>"));
  EXPECT_TRUE(Has(page, "run, step 7"));
  EXPECT_TRUE(Has(page, "ignored what is not an image&#39;s sample after the previous one: lines 2 to 3."));
  EXPECT_TRUE(Has(page, "gone.png"));
  EXPECT_EQ(page.find("<figure>"), page.rfind("<figure>"));

  std::string many;
  for (int i = 0; i < 258; ++i) many += line("0.png");
  Spill(folder / "run/samples/samples.jsonl", many);
  const auto run = ReadRun(folder / "run");
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->images.size(), 256u);
  EXPECT_TRUE(Has(run->sample_notes.back(), "samples: the page has room for 256 of 258 images"));
}

// Samples are read again whenever a run has made more. A note disappears once what it names is whole.
TEST(ReportTest, NotesOfSamplesAreThoseOfTheLastReading) {
  const TemporaryFolder folder;
  Spill(folder / "run/metrics.jsonl", "rubbish\n" + Lines({0, 1}));
  Spill(folder / "run/samples.jsonl", "{\"prompt\": 5}\n");
  auto run = ReadRun(folder / "run");
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->notes.size(), 1u);
  ASSERT_EQ(run->sample_notes.size(), 1u);
  EXPECT_TRUE(Has(run->sample_notes[0], "ignored what is not a sample"));
  Spill(folder / "run/samples.jsonl", R"({"prompt": "a", "text": "b", "step": 1})"
                                      "\n");
  ReadSamples(&*run);
  EXPECT_EQ(run->notes.size(), 1u);
  EXPECT_TRUE(run->sample_notes.empty());
  EXPECT_EQ(run->samples.size(), 1u);
}

// A run's own samples: a row for each prompt, a column for each step. Of many steps, some are shown and always the
// last.
TEST(ReportTest, SamplesOfTheRunAreATableByStep) {
  const TemporaryFolder folder;
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}));
  const auto sample = [&](int step, const std::string& file, const char* prompt) {
    const std::string path = absl::StrFormat("run/samples/step-%08d/", step);
    Spill(folder / (path + file), std::string("\x89PNG\r\n\x1a\n", 8) + std::to_string(step) + file);
    return nlohmann::json{{"image", file}, {"prompt", prompt}, {"step", step}}.dump() + "\n";
  };
  const auto image = [](int step, const std::string& file) {
    return absl::StrCat("base64,",
                        absl::Base64Escape(std::string("\x89PNG\r\n\x1a\n", 8) + std::to_string(step) + file));
  };
  for (int step = 10; step <= 200; step += 10) {
    const std::string lines = sample(step, "0.png", "cat") + sample(step, "1.png", "cat") +
                              (step == 200 ? sample(step, "2.png", "<new>") : std::string());
    Spill(folder / absl::StrFormat("run/samples/step-%08d/samples.jsonl", step), lines);
  }
  const auto run = ReadRun(folder / "run");
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->progress.size(), 17u);
  EXPECT_TRUE(run->images.empty());
  EXPECT_TRUE(run->notes.empty() && run->sample_notes.empty());
  const std::string page = PageOf(folder / "run");
  EXPECT_TRUE(Has(page,
                  "<tr><th></th><th>20</th><th>50</th><th>70</th><th>100</th><th>120</th><th>150</th><th>170</th>"
                  "<th>200</th></tr>"));
  EXPECT_LT(page.find(image(20, "0.png")), page.find(image(200, "0.png")));
  EXPECT_LT(page.find(image(200, "0.png")), page.find(image(20, "1.png")));
  EXPECT_TRUE(Has(page, "<td>&lt;new&gt;</td><td></td><td></td><td></td><td></td><td></td><td></td><td></td><td><img"));
}

TEST(ReportTest, ThePageNeedsNothingElse) {
  const TemporaryFolder folder;
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}));
  const std::string page = PageOf(folder / "run");
  EXPECT_TRUE(Has(page, "Dygraph"));
  for (const char* part : {" src=", "@import", "url(", "sourceMappingURL", "http-equiv"})
    EXPECT_FALSE(Has(page, part)) << part;
}

TEST(ReportTest, RunsLieOverEachOther) {
  const TemporaryFolder folder;
  Spill(folder / "a/metrics.jsonl", Lines({0, 1}));
  Spill(folder / "b/metrics.jsonl", Lines({0, 1, 2}));
  std::vector<RunReport> runs;
  for (const char* name : {"a", "b"}) runs.push_back(*ReadRun(folder / name));
  const std::string page = ReportPage(runs, {.written = "now"});
  const auto series = PlotsOf(page)[0]["series"];
  ASSERT_EQ(series.size(), 2u);
  EXPECT_EQ(series[0]["points"].size(), 2u);
  EXPECT_EQ(series[1]["points"].size(), 3u);
  EXPECT_NE(series[0]["run"], series[1]["run"]);
}

TEST(ReportTest, ASheetReadsBack) {
  const RunSheet sheet = TinySheet();
  const auto read = RunSheetFromJson(ToJson(sheet));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(ToJson(*read), ToJson(sheet));
  EXPECT_EQ(read->memory[0].classes[0].second[1], 40);
  EXPECT_FALSE(RunSheetFromJson("").ok());
  EXPECT_FALSE(RunSheetFromJson(R"({"version": 2})").ok());
}

TEST(ReportWriterTest, ThePageGrowsAndReloadsUntilTheEnd) {
  const TemporaryFolder folder;
  const std::string path = folder / "run/report.html";
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}));
  auto writer = ReportWriter::Open(folder / "run", TinySheet(), /*every_steps=*/2);
  ASSERT_TRUE(writer.ok()) << writer.status();
  writer->AddLine(ToJson({.step = 2, .loss = 1}));
  ASSERT_TRUE(writer->WriteIfDue(2).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  writer->AddLine(ToJson({.step = 3, .loss = 1}));
  ASSERT_TRUE(writer->WriteIfDue(3).ok());
  const std::string page = Slurp(path);
  EXPECT_TRUE(Has(page, "<meta http-equiv=\"refresh\" content=\"5\">"));
  EXPECT_EQ(PlotsOf(page)[0]["series"][0]["points"].size(), 4u);
  // The next due step comes too soon: within a hundred times what the first page took, no page is written.
  writer->AddLine(ToJson({.step = 5, .loss = 1}));
  ASSERT_TRUE(writer->WriteIfDue(5).ok());
  EXPECT_EQ(Slurp(path), page);
  ASSERT_TRUE(writer->Finish("stopped as asked").ok());
  EXPECT_TRUE(Has(Slurp(path), "6 of 10 steps; stopped as asked"));
  EXPECT_FALSE(Has(Slurp(path), "http-equiv"));
}

TEST(ReportWriterTest, AFullDiskLeavesTheOldPage) {
  const TemporaryFolder folder;
  const std::string path = folder / "run/report.html";
  Spill(folder / "run/metrics.jsonl", Lines({0, 1}));
  auto writer = ReportWriter::Open(folder / "run", TinySheet(), 1);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->WriteIfDue(1).ok());
  const std::string page = Slurp(path);
  {
    const FileSizeLimit full(1000);
    const absl::Status status = writer->Finish("");
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(Has(std::string(status.message()), path)) << status;
  }
  EXPECT_EQ(Slurp(path), page);
}

}  // namespace
}  // namespace angel_ptm
