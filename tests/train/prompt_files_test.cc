// Files of captions and prompts: what is read from a line, and that errors name what cannot be read.
#include "angel_ptm/train/tasks/prompt_files.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/file.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

std::string Shown(const std::string& caption) { return caption; }
std::string Shown(const Prompt& prompt) {
  return absl::StrCat(prompt.text, "|", prompt.negative.value_or("-"), "|", prompt.seed.value_or(0), "|",
                      prompt.size.value_or("-"));
}

class PromptFilesTest : public ::testing::Test {
 protected:
  // What `read` returns for a file of that name with that text, or its error.
  template <typename T>
  std::string Of(absl::StatusOr<std::vector<T>> (*read)(const std::string&), const char* name,
                 const std::string& text) {
    EXPECT_TRUE(WriteFile(dir_ / name, text).ok());
    const absl::StatusOr<std::vector<T>> lines = read(dir_ / name);
    if (!lines.ok()) return std::string(lines.status().message());
    std::string all;
    for (const T& line : *lines) absl::StrAppend(&all, "<", Shown(line), ">");
    return all;
  }

  const TemporaryFolder dir_;
};

TEST_F(PromptFilesTest, CaptionsAreCheckedAndNamed) {
  const auto read = [&](const char* name, const std::string& text) { return Of(&ReadCaptions, name, text); };
  EXPECT_EQ(read("a.txt", "a fox\r\n一只猫\n"), "<a fox><一只猫>");
  // As Windows' editors begin files.
  EXPECT_EQ(read("a.txt", "\xEF\xBB\xBF一只猫\r\n"), "<一只猫>");
  EXPECT_EQ(read("a.jsonl", "{\"caption\": \"fox\"}\n{\"text\": \"猫\", \"caption\": \"x\"}"), "<fox><猫>");
  EXPECT_THAT(read("b.txt", "fox\n \n"), HasSubstr("b.txt, line 2: wanted a caption, got an empty one"));
  EXPECT_THAT(read("c.txt", "fox\n\xff\n"), HasSubstr("c.txt, line 2: wanted a caption in UTF-8, got other bytes"));
  EXPECT_THAT(read("d.jsonl", "{\"title\": \"x\"}"), HasSubstr("d.jsonl, line 1: wanted a JSON object with a text"));
  EXPECT_THAT(read("e.txt", ""), HasSubstr("e.txt: wanted captions, got an empty file"));
  EXPECT_THAT(read("e.csv", "x"), HasSubstr("--captions: wanted a file .txt or .jsonl"));
}

TEST_F(PromptFilesTest, PromptsAreCheckedAndNamed) {
  const auto read = [&](const char* name, const std::string& text) { return Of(&ReadPrompts, name, text); };
  EXPECT_EQ(read("a.txt", "a fox\r\n一只猫"), "<a fox|-|0|-><一只猫|-|0|->");
  EXPECT_EQ(read("a.jsonl",
                 "{\"prompt\": \"fox\"}\n"
                 "{\"size\": \"8x8\", \"seed\": 7, \"negative\": \"\", \"prompt\": \"猫\"}"),
            "<fox|-|0|-><猫||7|8x8>");
  EXPECT_THAT(read("b.txt", "fox\n\n"), HasSubstr("b.txt, line 2: wanted a prompt, got an empty one"));
  EXPECT_THAT(read("c.txt", "\xff"), HasSubstr("c.txt, line 1: wanted a prompt in UTF-8, got other bytes"));
  EXPECT_THAT(read("d.jsonl", "{\"seed\": 1}"),
              HasSubstr("line 1: wanted a JSON object with a text \"prompt\", got none"));
  EXPECT_THAT(read("e.jsonl", "{\"prompt\": \"x\", \"seed\": -1}"), HasSubstr("got \"seed\": -1"));
  EXPECT_THAT(read("f.jsonl", "{\"prompt\": \"x\", \"sed\": 1}"), HasSubstr("got \"sed\": 1"));
  EXPECT_THAT(read("g.txt", ""), HasSubstr("g.txt: wanted prompts, got an empty file"));
  EXPECT_THAT(read("g.csv", "x"), HasSubstr("--prompts: wanted a file .txt or .jsonl"));
}

}  // namespace
}  // namespace angel_ptm
