#include "angel_ptm/checkpoint/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <functional>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/checksum.h"
#include "tests/base/child_process.h"
#include "tests/checkpoint/fixtures.h"

namespace angel_ptm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<SafetensorsTensor> Declared() {
  return {{.name = "a", .dtype = DType::kFloat32, .shape = {3, 5}},
          {.name = "scalar", .dtype = DType::kInt32, .shape = {}},
          {.name = "empty", .dtype = DType::kFloat32, .shape = {0, 7}},
          {.name = "b\"\\\n\xC3\xA9", .dtype = DType::kBFloat16, .shape = {4}},
          {.name = "bytes", .dtype = DType::kUInt8, .shape = {9}}};
}

std::string WriteDeclared(const std::string& path) {
  auto writer = SafetensorsWriter::Create(path, Declared(), {{"key", "value \"quoted\""}});
  EXPECT_TRUE(writer.ok()) << writer.status();
  std::vector<std::byte> data(60 + 4 + 0 + 8 + 9);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  const std::span<const std::byte> bytes(data);
  EXPECT_TRUE(writer->Append(bytes.first(13)).ok());
  EXPECT_TRUE(writer->Append(bytes.subspan(13)).ok());
  EXPECT_TRUE(writer->Finish().ok());
  return Slurp(path);
}

TEST(SafetensorsTest, ReadsBackWhatWasWritten) {
  const TemporaryFolder dir;
  const std::string bytes = WriteDeclared(dir / "a.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ((8 + header) % 8, 0u);

  const auto reader = SafetensorsReader::Open(dir / "a.safetensors");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->metadata(), (SafetensorsMetadata{{"key", "value \"quoted\""}}));
  EXPECT_EQ(reader->header_checksum(), Xxh3(std::string_view(bytes).substr(0, 8 + header)));
  ASSERT_EQ(reader->tensors().size(), Declared().size());
  int next = 0;
  for (const SafetensorsTensor& want : Declared()) {
    const SafetensorsTensor* got = reader->Find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->dtype, want.dtype);
    EXPECT_EQ(got->shape, want.shape);
    std::vector<std::byte> data(static_cast<size_t>(got->bytes()));
    ASSERT_TRUE(reader->Read(*got, 0, data).ok());
    for (std::byte b : data) EXPECT_EQ(b, static_cast<std::byte>(next++));
  }
  EXPECT_EQ(reader->Find("c"), nullptr);
}

TEST(SafetensorsTest, LargeTensorsCrossTheWriteBuffer) {
  const TemporaryFolder dir;
  std::vector<float> values(FileWriter::kBufferBytes / 2 + 777);
  std::iota(values.begin(), values.end(), 0.0f);
  auto writer =
      SafetensorsWriter::Create(dir / "a", {{.name = "x", .shape = {static_cast<int64_t>(values.size())}}}, {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->Append(std::as_bytes(std::span(values))).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto reader = SafetensorsReader::Open(dir / "a");
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<float> got(values.size());
  ASSERT_TRUE(reader->Read(*reader->Find("x"), 0, std::as_writable_bytes(std::span(got))).ok());
  EXPECT_EQ(got, values);
}

TEST(SafetensorsTest, RefusesToReplaceAFile) {
  const TemporaryFolder dir;
  WriteDeclared(dir / "a");
  EXPECT_EQ(SafetensorsWriter::Create(dir / "a", Declared(), {}).status().code(), absl::StatusCode::kAlreadyExists);
}

// A file with this header text and `data_bytes` zero bytes.
std::string FileOf(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  const uint64_t n = header.size();
  std::memcpy(bytes.data(), &n, 8);
  return bytes + header + std::string(data_bytes, '\0');
}

TEST(SafetensorsTest, FilesAreJoinedAndReplaced) {
  const TemporaryFolder dir;
  WriteDeclared(dir / "a");
  const std::vector<std::byte> value(4, std::byte{7});
  const auto write = [&](const char* path, const char* tensor) {
    return WriteSafetensors(dir / path, {{.name = tensor, .dtype = DType::kInt32, .shape = {1}}}, {{"other", "b"}},
                            [&](SafetensorsWriter& writer) { return writer.Append(value); });
  };
  ASSERT_TRUE(write("b", "more").ok());
  ASSERT_TRUE(write("joined", "what was there").ok());
  ASSERT_TRUE(JoinSafetensors({dir / "a", dir / "b"}, dir / "joined").ok());
  const auto joined = SafetensorsReader::Open(dir / "joined"), a = SafetensorsReader::Open(dir / "a");
  ASSERT_TRUE(joined.ok() && a.ok()) << joined.status();
  EXPECT_EQ(joined->metadata(), (SafetensorsMetadata{{"key", "value \"quoted\""}, {"other", "b"}}));
  ASSERT_EQ(joined->tensors().size(), Declared().size() + 1);
  for (const SafetensorsTensor& want : a->tensors()) {
    const SafetensorsTensor* got = joined->Find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->shape, want.shape);
    std::vector<std::byte> before(static_cast<size_t>(want.bytes())), after(before.size());
    ASSERT_TRUE(a->Read(want, 0, before).ok() && joined->Read(*got, 0, after).ok());
    EXPECT_EQ(before, after);
  }
  std::vector<std::byte> more(4);
  ASSERT_TRUE(joined->Read(*joined->Find("more"), 0, more).ok());
  EXPECT_EQ(more, value);

  // Two tensors of one name, and a file that cannot be finished: the earlier file stays.
  const std::string bytes = Slurp(dir / "joined");
  ASSERT_TRUE(write("c", "scalar").ok());
  EXPECT_THAT(JoinSafetensors({dir / "a", dir / "c"}, dir / "joined").message(), HasSubstr("tensor \"scalar\" is in "));
  EXPECT_EQ(
      WriteSafetensors(dir / "joined", Declared(), {}, [](SafetensorsWriter&) { return absl::DataLossError("x"); }),
      absl::DataLossError("x"));
  EXPECT_EQ(Slurp(dir / "joined"), bytes);
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("a", "b", "c", "joined"));
}

TEST(SafetensorsTest, OneProcessWritesAFileAndSeveralAnEntryOfACache) {
  const TemporaryFolder dir;
  const auto write = [&](auto* how, std::byte value, const std::function<void()>& before) {
    return how(dir / "x", {{.name = "t", .dtype = DType::kUInt8, .shape = {1}}}, {}, [&](SafetensorsWriter& writer) {
      before();
      return writer.Append({&value, 1});
    });
  };
  const auto value = [&] {
    const auto file = SafetensorsReader::Open(dir / "x");
    std::byte got{};
    EXPECT_TRUE(file.ok() && file->Read(file->tensors()[0], 0, {&got, 1}).ok()) << file.status();
    return static_cast<int>(got);
  };
  const auto nothing = [] {};
  Spill(dir / "x.part", "what a killed process left");
  const auto is_refused = [&] {
    RunInChild([&] {
      EXPECT_THAT(write(&WriteSafetensors, std::byte{2}, nothing).message(),
                  HasSubstr("another process is writing it"));
    });
  };
  ASSERT_EQ(write(&WriteSafetensors, std::byte{1}, is_refused), absl::OkStatus());
  EXPECT_EQ(value(), 1);
  const auto is_written = [&] {
    RunInChild([&] { EXPECT_EQ(write(&WriteSharedSafetensors, std::byte{4}, nothing), absl::OkStatus()); });
    EXPECT_EQ(value(), 4);
  };
  ASSERT_EQ(write(&WriteSharedSafetensors, std::byte{3}, is_written), absl::OkStatus());
  EXPECT_EQ(value(), 3);
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("x"));
}

TEST(SafetensorsTest, MalformedFilesAreOneErrorWithNameAndReason) {
  const TemporaryFolder dir;
  const auto tensor = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return absl::StrCat("{\"dtype\":\"", dtype, "\",\"shape\":", shape, ",\"data_offsets\":", offsets, "}");
  };
  const std::string good = tensor("F32", "[2]", "[0,8]");
  struct Case {
    std::string bytes, reason;
  };
  const std::vector<Case> cases = {
      {"", "has 0 bytes"},
      {"1234567", "has 7 bytes"},
      {std::string(8, '\xff'), "header length 18446744073709551615 is too large"},
      {std::string("\x10\0\0\0\0\0\0\0{}", 10), "header should have 16 bytes, but only 2 follow"},
      {FileOf("", 0), "not a JSON object"},
      {FileOf("[1]", 0), "not a JSON object"},
      {FileOf("{\"a\":", 0), "not a JSON object"},
      {FileOf(std::string(100000, '['), 0), "not a JSON object"},
      {FileOf("{\"\xff\":1}", 0), "not a JSON object"},
      {FileOf("{\"a\":1}", 0), "tensor \"a\" is not an object"},
      {FileOf("{\"a\":{}}", 0), "tensor \"a\" has no dtype"},
      {FileOf("{\"a\":" + tensor("F99", "[2]", "[0,8]") + "}", 8), "has dtype \"F99\""},
      {FileOf("{\"a\":" + tensor("F32", "2", "[0,8]") + "}", 8), "has no shape"},
      {FileOf("{\"a\":" + tensor("F32", "[-2]", "[0,8]") + "}", 8), "invalid extent"},
      {FileOf("{\"a\":" + tensor("F32", "[2.5]", "[0,8]") + "}", 8), "invalid extent"},
      {FileOf("{\"a\":" + tensor("F32", "[4611686018427387903,9]", "[0,8]") + "}", 8), "too large"},
      {FileOf("{\"a\":" + tensor("F32", "[4611686018427387903,4611686018427387903,0]", "[0,0]") + "}", 0), "too large"},
      {FileOf("{\"a\":" + tensor("F32", "[0,4611686018427387903,4611686018427387903]", "[0,0]") + "}", 0), "too large"},
      {FileOf("{\"a\":" + tensor("F32", "[2]", "[0]") + "}", 8), "invalid data_offsets"},
      {FileOf("{\"a\":" + tensor("F32", "[2]", "[8,0]") + "}", 8), "invalid data_offsets"},
      {FileOf("{\"a\":" + tensor("F32", "[2]", "[0,-8]") + "}", 8), "invalid data_offsets"},
      {FileOf("{\"a\":" + tensor("F32", "[3]", "[0,8]") + "}", 8), "has 8 bytes, but shape [3] of F32 needs 12"},
      {FileOf("{\"a\":" + good + "}", 7), "ends at byte 8 of the data, but the file holds only 7"},
      {FileOf("{\"a\":" + good + "}", 9), "has 1 bytes after its last tensor"},
      {FileOf("{\"a\":" + good + ",\"a\":" + good + "}", 8), "tensor \"a\" is there twice"},
      {FileOf("{\"a\":" + good + ",\"b\":" + good + "}", 8), "tensor \"b\" overlaps"},
      {FileOf("{\"a\":" + good + ",\"b\":" + tensor("F32", "[1]", "[4,8]") + "}", 8), "overlaps"},
      {FileOf("{\"a\":" + tensor("F32", "[1]", "[4,8]") + "}", 8), "gap before tensor \"a\""},
      {FileOf("{\"__metadata__\":3}", 0), "__metadata__ is not an object"},
      {FileOf("{\"__metadata__\":{\"k\":3}}", 0), "__metadata__ entry \"k\" is not text"},
  };
  for (const Case& c : cases) {
    Spill(dir / "bad.safetensors", c.bytes);
    const auto reader = SafetensorsReader::Open(dir / "bad.safetensors");
    ASSERT_FALSE(reader.ok()) << c.reason;
    const std::string message(reader.status().message());
    EXPECT_THAT(message, HasSubstr(c.reason));
    EXPECT_THAT(message, HasSubstr("bad.safetensors"));
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  const auto missing = SafetensorsReader::Open(dir / "none");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(SafetensorsReader::Open(dir.path()).ok());
}

TEST(SafetensorsTest, EveryTruncationIsAnError) {
  const TemporaryFolder dir;
  const std::string bytes = WriteDeclared(dir / "a");
  for (size_t n = 0; n < bytes.size(); ++n) {
    Spill(dir / "cut", bytes.substr(0, n));
    EXPECT_FALSE(SafetensorsReader::Open(dir / "cut").ok()) << n;
  }
}

}  // namespace
}  // namespace angel_ptm
