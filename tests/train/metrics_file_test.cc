#include "angel_ptm/train/metrics_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file_stream.h"
#include "nlohmann/json.hpp"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

TEST(MetricsFileTest, AResumedRunDropsTheStepsItRepeats) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  for (int64_t begin : {0, 3}) {
    auto file = MetricsFile::Open(directory, begin);
    ASSERT_TRUE(file.ok()) << file.status();
    for (int64_t step = begin; step < begin + 5; ++step) {
      ASSERT_TRUE(file->Append({.step = step, .loss = static_cast<double>(begin)}).ok());
    }
    // A kill in the middle of writing a line.
    std::ofstream(directory + "/metrics.jsonl", std::ios::app) << "{\"step\": 2, \"lo";
  }
  std::istringstream lines(Slurp(directory + "/metrics.jsonl"));
  std::string line;
  for (int64_t step = 0; step < 8; ++step) {
    ASSERT_TRUE(std::getline(lines, line));
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["step"], step);
    EXPECT_EQ(json["loss"], step < 3 ? 0 : 3);
  }
}

TEST(MetricsFileTest, LinesThatFoundNoRoomFollowLater) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  auto file = MetricsFile::Open(directory, 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({.step = 0}).ok());
  const std::string first = Slurp(file->path());
  {
    const FileSizeLimit half_a_line_more(first.size() * 3 / 2);
    for (int64_t step : {1, 2}) {
      const absl::Status status = file->Append({.step = step});
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
      EXPECT_NE(status.message().find(file->path()), std::string::npos) << status;
      EXPECT_TRUE(file->behind());
      EXPECT_EQ(Slurp(file->path()), first);
    }
  }
  ASSERT_TRUE(file->Append({.step = 3}).ok());
  EXPECT_FALSE(file->behind());
  EXPECT_EQ(Slurp(file->path()), ToJson({.step = 0}) + "\n" + ToJson({.step = 1}) + "\n" + ToJson({.step = 2}) + "\n" +
                                     ToJson({.step = 3}) + "\n");
}

TEST(MetricsFileTest, OfLinesThatFindNoRoomThoseThatFitStay) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({.step = 0}).ok());
  const size_t line = Slurp(file->path()).size();
  {
    const FileSizeLimit full(line);
    for (int64_t step : {1, 2}) EXPECT_FALSE(file->Append({.step = step}).ok());
  }
  const auto lines = [](int64_t end) {
    std::string text;
    for (int64_t step = 0; step < end; ++step) text += ToJson({.step = step}) + "\n";
    return text;
  };
  {
    const FileSizeLimit a_line_and_a_half_more(line * 5 / 2);
    EXPECT_FALSE(file->Append({.step = 3}).ok());
    EXPECT_EQ(Slurp(file->path()), lines(2));
    EXPECT_TRUE(file->behind());
  }
  ASSERT_TRUE(file->Append({.step = 4}).ok());
  EXPECT_EQ(Slurp(file->path()), lines(5));
}

// A disk that stays full for weeks must not fill the memory too.
TEST(MetricsFileTest, LinesThatWaitForRoomAreBounded) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  constexpr int kLines = 60;
  const auto line = [](int i) { return std::string(size_t{1} << 19, static_cast<char>('0' + i)); };
  int notes = 0;
  {
    const FileSizeLimit full(8);
    for (int i = 0; i < kLines; ++i) {
      EXPECT_EQ(file->AppendLine(line(i)).code(), absl::StatusCode::kResourceExhausted);
      const std::string note = file->TakeNote();
      if (note.empty()) continue;
      EXPECT_NE(note.find("older lines that waited for it are lost"), std::string::npos) << note;
      ++notes;
    }
  }
  EXPECT_EQ(notes, 1);
  ASSERT_TRUE(file->Flush().ok());
  const std::string content = Slurp(file->path());
  EXPECT_LE(content.size(), MetricsFile::kUnwrittenBytesMax);
  EXPECT_GE(content.size(), MetricsFile::kUnwrittenBytesMax / 4);
  std::string all;
  for (int i = 0; i < kLines; ++i) all += line(i) + "\n";
  EXPECT_TRUE(all.ends_with("\n" + content));
}

TEST(MetricsFileTest, FlushWritesTheLinesThatFoundNoRoom) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  {
    const FileSizeLimit limit(8);
    EXPECT_FALSE(file->Append({.step = 0}).ok());
    EXPECT_EQ(file->Flush().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_TRUE(file->behind());
  }
  EXPECT_TRUE(file->Flush().ok());
  EXPECT_FALSE(file->behind());
  EXPECT_EQ(Slurp(file->path()), ToJson({.step = 0}) + "\n");
}

TEST(MetricsFileTest, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  const std::string directory = folder / "run";
  std::ofstream(directory) << "a file, not a folder";
  const auto file = MetricsFile::Open(directory, 0);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kAlreadyExists) << file.status();
  EXPECT_NE(file.status().message().find(directory), std::string::npos);
}

TEST(MetricsFileTest, ARewriteThatFindsNoRoomLeavesTheFileAsItWas) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  // Lines that are kept follow those that are dropped.
  const std::string content = ToJson({.step = 0}) + "\n\n" + ToJson({.step = 1}) + "\n";
  Spill(path, content);
  const auto open = [&] {
    const FileSizeLimit limit(8);
    return MetricsFile::Open(folder.path(), 2).status();
  };
  const absl::Status status = open();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(Slurp(path), content);
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

std::string Lines(int64_t begin, int64_t end) {
  std::string lines;
  for (int64_t step = begin; step < end; ++step) lines += ToJson({.step = step}) + "\n";
  return lines;
}

// Dropping the end of a long run's history neither copies the history nor reads all of it.
TEST(MetricsFileTest, OfAHistoryWhoseEndGoesNoCopyIsMade) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const int64_t steps = 3 * kStreamBlockBytes / static_cast<int64_t>(Lines(0, 1).size());
  Spill(path, Lines(0, steps) + "{\"step\": 2, \"lo");
  {
    const FileSizeLimit limit(8);
    auto file = MetricsFile::Open(folder.path(), steps - 7);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->TakeNote(), "");
  }
  EXPECT_TRUE(Slurp(path) == Lines(0, steps - 7));
  // The same if all of it belongs to an earlier run.
  const auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(Slurp(path + ".1") == Lines(0, steps - 7));
}

TEST(MetricsFileTest, LinesBehindWhatIsDroppedStay) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const int64_t steps = kStreamBlockBytes / static_cast<int64_t>(Lines(0, 1).size());
  const std::string last = ToJson({.step = 2 * steps});  // without its newline
  Spill(path, Lines(0, steps) + "{\"step\": \n" + Lines(3 * steps, 3 * steps + 1) + Lines(steps, 2 * steps) + last);
  auto file = MetricsFile::Open(folder.path(), 2 * steps + 1);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->TakeNote(), "");
  EXPECT_TRUE(Slurp(path) == Lines(0, 2 * steps + 1));
}

TEST(MetricsFileTest, OnlyAHistoryOfEveryStepHasGaps) {
  const TemporaryFolder folder;
  Spill(folder / "experts.jsonl", Lines(5, 6));
  auto file = MetricsFile::Open(folder.path(), 9, "experts.jsonl", MetricsFile::Lines::kOfSomeSteps);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->TakeNote(), "");
}

// The history is longer than what stays in memory; the rest is copied from the file that lost its name.
TEST(MetricsFileTest, ALongHistoryIsWrittenAgain) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  std::string lines;
  for (int i = 0; i < 50; ++i) {
    const std::string line(100'000 + static_cast<size_t>(i), 'x');
    ASSERT_TRUE(file->AppendLine(line).ok());
    lines += line + "\n";
  }
  std::filesystem::remove(file->path());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_NE(file->TakeNote().find("written again, all lines"), std::string::npos);
  EXPECT_TRUE(Slurp(file->path()) == lines);
  // Cut in a part whose lines only the file had.
  const size_t cut = lines.size() / 3;
  std::filesystem::resize_file(file->path(), cut);
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_NE(file->TakeNote().find("but older lines are lost"), std::string::npos);
  const std::string left = Slurp(file->path()), head = lines.substr(0, lines.rfind('\n', cut) + 1);
  EXPECT_TRUE(left.starts_with(head) && lines.ends_with(left.substr(head.size()))) << left.size();
  EXPECT_GT(left.size(), head.size());
}

// If it were taken for a missing file, the repeated steps would be in it twice.
TEST(MetricsFileTest, AHistoryThatCannotBeReadIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const std::string content = ToJson({.step = 0}) + "\n";
  Spill(path, content);
  std::filesystem::permissions(folder.path(), std::filesystem::perms::all);
  ASSERT_EQ(chmod(path.c_str(), 0222), 0);
  // Root can read every file.
  const uid_t user = geteuid();
  constexpr uid_t kNobody = 65534;
  if (user == 0 && seteuid(kNobody) != 0) GTEST_SKIP() << "root that cannot become another user";
  const absl::Status status = MetricsFile::Open(folder.path(), 0).status();
  ASSERT_EQ(seteuid(user), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  EXPECT_EQ(Slurp(path), content);
}

// Something that happens to the file while the run writes it; afterwards the file has every line again.
struct Mishap {
  const char* name;
  void (*happens)(const std::string& path);
};
void PrintTo(const Mishap& mishap, std::ostream* os) { *os << mishap.name; }

class MishapTest : public testing::TestWithParam<Mishap> {};

TEST_P(MishapTest, TheFileIsWrittenAgain) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  for (int64_t step : {0, 1, 2}) ASSERT_TRUE(file->Append({.step = step}).ok());
  EXPECT_EQ(file->TakeNote(), "");
  GetParam().happens(file->path());
  ASSERT_TRUE(file->Append({.step = 3}).ok());
  EXPECT_NE(file->TakeNote().find("written again, all lines"), std::string::npos);
  EXPECT_EQ(Slurp(file->path()), Lines(0, 4));
  // It is noticed before a save even if nothing is appended.
  GetParam().happens(file->path());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(Slurp(file->path()), Lines(0, 4));
  EXPECT_FALSE(file->behind());
}

INSTANTIATE_TEST_SUITE_P(
    Mishaps, MishapTest,
    testing::Values(Mishap{"Removed", [](const std::string& path) { std::filesystem::remove(path); }},
                    Mishap{"Moved", [](const std::string& path) { std::filesystem::rename(path, path + ".1"); }},
                    Mishap{"MovedAndMadeAnew",
                           [](const std::string& path) {
                             std::filesystem::rename(path, path + ".1");
                             Spill(path, "");
                           }},
                    Mishap{"Emptied", [](const std::string& path) { Spill(path, ""); }},
                    Mishap{"Cut", [](const std::string& path) { std::filesystem::resize_file(path, 70); }}),
    [](const auto& test) { return test.param.name; });

TEST(MetricsFileTest, AFolderInItsPlaceIsAnErrorUntilItGoes) {
  const TemporaryFolder folder;
  auto file = MetricsFile::Open(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append({.step = 0}).ok());
  std::filesystem::remove(file->path());
  std::filesystem::create_directory(file->path());
  const absl::Status status = file->Append({.step = 1});
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(file->path()), std::string::npos) << status;
  EXPECT_TRUE(file->behind());
  EXPECT_FALSE(file->Flush().ok());
  std::filesystem::remove(file->path());
  EXPECT_TRUE(file->Flush().ok());
  EXPECT_FALSE(file->behind());
  EXPECT_EQ(Slurp(file->path()), Lines(0, 2));
}

TEST(MetricsFileTest, AFreshStartKeepsAnEarlierRunsLines) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  for (const std::string& aside : {path + ".1", path + ".2"}) {
    Spill(path, Lines(0, 5));
    auto file = MetricsFile::Open(folder.path(), 0);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->TakeNote(),
              absl::StrCat("note: ", path, " had 5 lines of an earlier run, which are kept as ", aside));
    EXPECT_EQ(Slurp(path), "");
    EXPECT_EQ(Slurp(aside), Lines(0, 5));
  }
}

TEST(MetricsFileTest, GapsOfTheHistoryAreSaid) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  const auto note = [&](const std::string& content, int64_t first_step) {
    Spill(path, content);
    auto file = MetricsFile::Open(folder.path(), first_step);
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? file->TakeNote() : "";
  };
  EXPECT_EQ(note(Lines(0, 9), 9), "");
  EXPECT_EQ(note(Lines(0, 9), 7), "");
  EXPECT_EQ(note(Lines(0, 3) + Lines(6, 7) + Lines(8, 9), 9),
            absl::StrCat("warning: ", path, " has a gap: no lines for steps 3 to 5, 7"));
  EXPECT_EQ(note("", 2), absl::StrCat("warning: ", path, " has a gap: no lines for steps 0 to 1"));
}

}  // namespace
}  // namespace angel_ptm
