// From files and folders to documents: boundaries, held-out text, pieces, links, unreadable files.
#include "angel_ptm/data/corpus.h"

#include <algorithm>

#include "angel_ptm/data/documents.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/child_process.h"
#include "tests/data/test_support.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

using std::filesystem::perms;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(DocumentsTest, Split) {
  EXPECT_THAT(SplitDocuments("a\n<|endoftext|>\nb<|endoftext|>c\n<|endoftext|>\n", 1000),
              ElementsAre("a\n", "b", "c\n"));
  EXPECT_THAT(SplitDocuments("\n\na", 1000), ElementsAre("\n\na"));
  EXPECT_THAT(SplitDocuments("<|endoftext|>", 1000), ElementsAre());
  EXPECT_THAT(SplitDocuments("<|endoftext|>\n\na", 1000), ElementsAre("\na"));
  EXPECT_THAT(SplitDocuments("aaa\n\nbbb\nccc\n", 9), ElementsAre("aaa\n\n", "bbb\nccc\n"));
  EXPECT_THAT(SplitDocuments("aaa\nbbb\nccc", 9), ElementsAre("aaa\nbbb\n", "ccc"));
  EXPECT_THAT(SplitDocuments("中中中", 4), ElementsAre("中", "中", "中"));
}

TEST(DocumentsTest, SplitAtLineEndsOfWindows) {
  EXPECT_THAT(SplitDocuments("a\r\n<|endoftext|>\r\nb<|endoftext|>\r\n", 1000), ElementsAre("a\r\n", "b"));
  EXPECT_THAT(SplitDocuments("<|endoftext|>\ra", 1000), ElementsAre("\ra"));
  EXPECT_THAT(SplitDocuments("aaa\r\n\r\nbbb\r\nccc\r\n", 13), ElementsAre("aaa\r\n\r\n", "bbb\r\nccc\r\n"));
}

// Where the held-out tail of `text` begins, at least (1 - fraction) of its bytes from the start.
size_t HeldOutFrom(const std::string& text, double fraction) {
  const size_t start = static_cast<size_t>(static_cast<double>(text.size()) * (1 - fraction));
  return start + HeldOutStart(std::string_view(text).substr(start), (text.size() - start) / 2);
}

TEST(DocumentsTest, HeldOutFromTheBestBorder) {
  const std::string a(850, 'a'), b(40, 'b'), c(300, 'c');
  EXPECT_EQ(HeldOutFrom(a + "\n" + b + c, 0.3), 851u);
  EXPECT_EQ(HeldOutFrom(a + "\n" + b + "\n\n" + c, 0.3), 893u);
  EXPECT_EQ(HeldOutFrom(a + "\r\n" + b + "\r\n\r\n" + c, 0.3), 896u);
  EXPECT_EQ(HeldOutFrom(a + "\n" + b + "\n\n" + b + "<|endoftext|>\n" + c, 0.3), 947u);
  EXPECT_EQ(HeldOutFrom(a + "\n" + b + "\n\n" + b + "<|endoftext|>\r\n" + c, 0.3), 948u);
  // A document's end far into the tail is not preferred to a near line's end; a far line's end is better than none.
  EXPECT_EQ(HeldOutFrom(a + "\n" + c + "<|endoftext|>" + b, 0.4), 851u);
  EXPECT_EQ(HeldOutFrom(a + "\n" + b, 0.1), 851u);
  EXPECT_EQ(HeldOutFrom(a, 0.2), 850u);
}

TEST(DocumentsTest, PiecesEndAtTheBestBorder) {
  EXPECT_EQ(PieceEnd("a<|endoftext|>b\n\nc\nd"), 14u);
  EXPECT_EQ(PieceEnd("a<|endoftext|>\r\nb\n\nc\nd"), 16u);
  EXPECT_EQ(PieceEnd("a\n\nb\nc<|endoftext|>\r"), 3u);  // the line end after the token may continue beyond the piece
  EXPECT_EQ(PieceEnd("a\r\n\r\nb\nc"), 5u);
  EXPECT_EQ(PieceEnd("a\nb"), 2u);
  EXPECT_EQ(PieceEnd("abc<|endof"), 3u);
  EXPECT_EQ(PieceEnd("ab中"), 2u);
  EXPECT_EQ(PieceEnd("ab\xe4\xb8"), 2u);
  EXPECT_EQ(PieceEnd("<|end"), 5u);
  EXPECT_EQ(PieceEnd("a"), 1u);
  EXPECT_EQ(PieceEnd("\x80\x80\x80\x80\x80\x80"), 2u);
}

struct Read {
  std::vector<std::string> documents;  // held-out ones begin with "V "
  int64_t batch_bytes_max = 0;
  int batches = 0;
};

Read ReadAll(const std::string& path, const CorpusOptions& options) {
  auto corpus = Corpus::Open({path}, options);
  EXPECT_TRUE(corpus.ok()) << corpus.status();
  Read read;
  for (Corpus::Batch batch; corpus.ok(); ++read.batches) {
    const absl::Status status = corpus->Next(&batch);
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok() || batch.texts.empty()) break;
    int64_t bytes = 0;
    for (const std::string& text : batch.texts) bytes += static_cast<int64_t>(text.size());
    read.batch_bytes_max = std::max(read.batch_bytes_max, bytes);
    for (const Document& d : batch.documents)
      read.documents.push_back((d.validation ? "V " : "") + std::string(d.text));
  }
  return read;
}

// Documents of Latin and Chinese words with both line ends.
std::string ManyDocuments(int count) {
  std::mt19937 random(5);
  std::string text;
  for (int d = 0; d < count; ++d) {
    for (int line = 1 + static_cast<int>(random() % 6); line > 0; --line) {
      for (const std::string& word : RandomWords(&random, 5, 9, "abcdefg")) text += word + " 页面";
      text += random() % 2 == 0 ? "\n" : "\r\n";
    }
    text += random() % 2 == 0 ? "<|endoftext|>\n" : "<|endoftext|>\r\n";
  }
  return text;
}

TEST(CorpusTest, AFileOfAnySizeIsReadInPieces) {
  const TemporaryFolder folder;
  Spill(folder / "a.txt", ManyDocuments(300));
  Spill(folder / "b.txt", ManyDocuments(40));
  const Read whole = ReadAll(folder.path(), {.validation_fraction = 0.2});
  EXPECT_EQ(whole.documents.size(), 340u);
  EXPECT_EQ(whole.batches, 1);
  for (int64_t bytes : {2000, 4096, 10007}) {
    const Read pieces = ReadAll(folder.path(), {.validation_fraction = 0.2, .batch_bytes = bytes});
    EXPECT_EQ(pieces.documents, whole.documents) << bytes;
    EXPECT_LE(pieces.batch_bytes_max, bytes);
    EXPECT_GT(pieces.batches, 5);
  }
}

TEST(CorpusTest, AnEndlessLineIsDividedBetweenCharacters) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 4000; ++i) text += i % 700 == 699 ? "<|endoftext|>" : "页";
  Spill(folder / "a.txt", text);
  const Read pieces = ReadAll(folder.path(), {.validation_fraction = 0.2, .batch_bytes = 1000});
  std::string all;
  for (const std::string& document : pieces.documents)
    all += document.starts_with("V ") ? document.substr(2) : document;
  std::string wanted;
  for (int i = 0; i < 3995; ++i) wanted += "页";
  EXPECT_EQ(all, wanted);
  auto corpus = Corpus::Open({folder.path()}, {.validation_fraction = 0.2, .batch_bytes = 1000});
  ASSERT_TRUE(corpus.ok());
  Corpus::Batch batch;
  do {
    ASSERT_TRUE(corpus->Next(&batch).ok());
  } while (!batch.texts.empty());
  EXPECT_EQ(corpus->replaced_sequences(), 0);
}

TEST(CorpusTest, HoldsOutWholeSmallFiles) {
  const TemporaryFolder folder;
  for (int i = 0; i < 100; ++i) Spill(folder / ("all/f" + std::to_string(100 + i)), std::string(500, 'x'));
  auto corpus = Corpus::Open({folder / "all"}, {.validation_fraction = 0.05});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  Corpus::Batch batch;
  ASSERT_TRUE(corpus->Next(&batch).ok());
  ASSERT_EQ(batch.documents.size(), 100u);
  int held_out = 0;
  for (const Document& document : batch.documents) held_out += document.validation;
  EXPECT_EQ(held_out, 5);
  EXPECT_THAT(corpus->labels(), ElementsAre("all"));
}

std::vector<std::string> FilesBelow(const TemporaryFolder& folder, const std::string& name) {
  const auto corpus = Corpus::Open({folder / name}, {});
  EXPECT_TRUE(corpus.ok()) << corpus.status();
  std::vector<std::string> paths;
  if (!corpus.ok()) return paths;
  for (const TextFile& file : corpus->files()) {
    paths.push_back(corpus->labels()[file.label] + ": " + file.path.substr(folder.path().size() + 1));
  }
  return paths;
}

TEST(CorpusTest, ReadsEveryFileOnceThroughLinks) {
  const TemporaryFolder folder;
  Spill(folder / "elsewhere/deep/a.txt", "a");
  Spill(folder / "text/real/b.txt", "b");
  Spill(folder / "text/.hidden/c.txt", "c");
  Spill(folder / "alone/d.txt", "d");
  for (const auto& [target, link] :
       {std::pair("../elsewhere", "text/linked"), std::pair("real", "text/again"), std::pair("..", "text/real/up"),
        std::pair("../text", "text/.unseen"), std::pair("real/b.txt", "text/file.txt"),
        std::pair("../alone/d.txt", "text/once.txt"), std::pair("../alone/d.txt", "text/twice.txt")}) {
    std::filesystem::create_symlink(target, folder / link);
  }
  EXPECT_THAT(FilesBelow(folder, "text"),
              ElementsAre("linked: text/linked/deep/a.txt", "text: text/once.txt", "real: text/real/b.txt"));
  std::filesystem::create_symlink("text", folder / "input");
  EXPECT_THAT(FilesBelow(folder, "input").size(), 3u);
}

TEST(CorpusTest, RefusesInputsThatOverlap) {
  const TemporaryFolder folder;
  Spill(folder / "text/en/a.txt", "a");
  Spill(folder / "other/b.txt", "b");
  std::filesystem::create_symlink("../text/en", folder / "other/link");
  const auto error = [&](const std::string& a, const std::string& b) {
    return std::string(Corpus::Open({folder / a, folder / b}, {}).status().message());
  };
  const std::string en = folder / "text/en", file = folder / "text/en/a.txt";
  EXPECT_EQ(error("text", "text/en"), "the inputs " + (folder / "text") + " and " + en + " overlap: both hold " + en +
                                          ", wanted every text once");
  EXPECT_THAT(error("text/en", "text"), HasSubstr("and " + (folder / "text") + " overlap: both hold " + en));
  EXPECT_THAT(error("text/en/a.txt", "text/en/a.txt"), HasSubstr("overlap: both hold " + file));
  EXPECT_THAT(error("text", "text/en/a.txt"), HasSubstr("overlap: both hold " + file));
  EXPECT_THAT(error("text", "other"), HasSubstr("overlap: both hold " + (folder / "other/link")));
  EXPECT_TRUE(Corpus::Open({en, folder / "other/b.txt"}, {}).ok());
}

TEST(CorpusTest, ReadsTheTextsOfJsonLines) {
  const TemporaryFolder folder;
  Spill(folder / "a.jsonl", R"({"text": "a\n\"b\" \u9875<|endoftext|>c", "id": 1})"
                            "\r\n\n"
                            R"({"meta": {"text": "no"}, "text": ""})"
                            "\n"
                            R"({"text":"d"})");
  EXPECT_THAT(ReadAll(folder / "a.jsonl", {}).documents, ElementsAre("a\n\"b\" 页", "c", "d"));
  std::string lines;
  std::vector<std::string> texts;
  for (int i = 0; i < 400; ++i) {
    texts.push_back("text " + std::to_string(i) + std::string(static_cast<size_t>(i % 50), 'x') + "\n\nend");
    lines +=
        "{\"text\": \"text " + std::to_string(i) + std::string(static_cast<size_t>(i % 50), 'x') + "\\n\\nend\"}\n";
    if (i % 3 == 0) lines += "\n\n\n";
  }
  Spill(folder / "b.jsonl", lines);
  for (int64_t bytes : {100, 3000, 1 << 20}) {
    const Read read = ReadAll(folder / "b.jsonl", {.validation_fraction = 0.2, .batch_bytes = bytes});
    ASSERT_EQ(read.documents.size(), texts.size()) << bytes;
    int held_out = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const bool validation = read.documents[i].starts_with("V ");
      EXPECT_EQ(read.documents[i].substr(validation ? 2 : 0), texts[i]);
      EXPECT_TRUE(validation || held_out == 0);
      held_out += validation;
    }
    EXPECT_NEAR(held_out, 80, 8);
  }
}

TEST(CorpusTest, RefusesJsonLinesOfAnotherName) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& text) {
    Spill(folder / "a.json", text);
    auto corpus = Corpus::Open({folder / "a.json"}, {});
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    Corpus::Batch batch;
    return std::string(corpus->Next(&batch).message());
  };
  const std::string wrong = folder /
                            "a.json: its first line is an object with a \"text\", but of .json the whole file is "
                            "read as text as it stands: rename it .jsonl";
  EXPECT_EQ(error("{\"text\": \"a\"}\n{\"text\": \"b\"}\n"), wrong);
  EXPECT_EQ(error("\xEF\xBB\xBF{\"text\": \"a\"}"), wrong);
  EXPECT_EQ(error("{\n  \"text\": \"a\"\n}\n"), "");
  EXPECT_EQ(error("{\"name\": \"a\"}\n"), "");
}

TEST(CorpusTest, NamesTheLineOfJsonThatHasNoText) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& lines, int64_t batch_bytes = 1 << 20) {
    Spill(folder / "a.jsonl", lines);
    auto corpus = Corpus::Open({folder / "a.jsonl"}, {.batch_bytes = batch_bytes});
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    Corpus::Batch batch;
    absl::Status status;
    do {
      status = corpus->Next(&batch);
    } while (status.ok() && !batch.texts.empty());
    return std::string(status.message());
  };
  const std::string good = "{\"text\": \"a\"}\n";
  EXPECT_EQ(error(good + good + "\n{\"content\": \"a\", \"id\": 3}"),
            folder / "a.jsonl, line 4: wanted a JSON object with a string \"text\", got one with content, id");
  EXPECT_THAT(error(good + "{\"text\": 3}\n" + good), HasSubstr("line 2: wanted a JSON object with a string \"text\", "
                                                                "got one whose \"text\" is number"));
  EXPECT_THAT(error("text\n"), HasSubstr("line 1: wanted a JSON object with a string \"text\", got no JSON"));
  EXPECT_EQ(error(good + R"({"text": "\ud83d"})"),
            folder /
                "a.jsonl, line 2: wanted a JSON object with a string \"text\", got no JSON: column 17: syntax error "
                "while parsing value - invalid string: surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF");
  EXPECT_THAT(error("[1]\n"), HasSubstr("got array"));
  EXPECT_THAT(error("{}\n"), HasSubstr("got an empty one"));
  EXPECT_THAT(error(std::string(100000, '[')), HasSubstr("got no JSON: it nests deeper than 64 levels"));
  std::string many;
  for (int i = 0; i < 99; ++i) many += good;
  EXPECT_THAT(error(many + "{\"txt\": 1}\n", 200), HasSubstr("line 100: wanted"));
  EXPECT_THAT(error(many + "{\"text\": \"" + std::string(500, 'a') + "\"}\n", 200),
              HasSubstr("line 100: wanted at most 200 bytes in a line of JSON, got more"));
}

TEST(CorpusTest, NamesWhatCannotBeRead) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& path) { return std::string(Corpus::Open({path}, {}).status().message()); };
  Spill(folder / "text/a.txt", "a");
  std::filesystem::create_symlink("nowhere", folder / "text/dangling");
  EXPECT_THAT(error(folder / "text"), HasSubstr("cannot read the input " + (folder / "text/dangling: No such file")));
  std::filesystem::remove(folder / "text/dangling");
  EXPECT_THAT(error(folder / "none"), HasSubstr("none does not exist"));
  EXPECT_THAT(error("/dev/null"), HasSubstr("/dev/null is neither a file nor a folder"));
  RunUnprivileged(folder.path(), [&] {
    Spill(folder / "own/below/a.txt", "a");
    std::filesystem::permissions(folder / "own/below", perms::none);
    EXPECT_THAT(error(folder / "own"), HasSubstr("cannot list the directory " + (folder / "own/below: Permission")));
    EXPECT_THAT(error(folder / "own/below/a.txt"), HasSubstr("below/a.txt: Permission denied"));
    std::filesystem::permissions(folder / "own/below", perms::owner_all);
  });
}

}  // namespace
}  // namespace angel_ptm
