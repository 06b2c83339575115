// Event files, read back by a decoder that shares no code with the writer.
#include "angel_ptm/train/report/event_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "angel_ptm/train/report/append_file.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

// Computed bit by bit from the polynomial.
uint32_t PlainCrc32c(const std::string& bytes) {
  uint32_t crc = 0xffffffff;
  for (const unsigned char c : bytes) {
    crc ^= c;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return crc ^ 0xffffffff;
}

uint32_t Masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

template <typename T>
T Read(const std::string& bytes, size_t at) {
  T value = {};
  EXPECT_LE(at + sizeof(T), bytes.size());
  if (at + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// A protobuf message's fields by number: varints and fixed-size fields as integers, others as text.
struct Fields {
  std::map<int, std::vector<uint64_t>> numbers;
  std::map<int, std::vector<std::string>> texts;
};

uint64_t Varint(const std::string& bytes, size_t* at) {
  uint64_t value = 0;
  for (int shift = 0; *at < bytes.size(); shift += 7) {
    const unsigned char c = bytes[(*at)++];
    value |= uint64_t{c & 0x7fu} << shift;
    if (c < 0x80) break;
  }
  return value;
}

Fields Decode(const std::string& message) {
  Fields fields;
  for (size_t at = 0; at < message.size();) {
    const uint64_t key = Varint(message, &at);
    const int field = static_cast<int>(key >> 3);
    switch (key & 7) {
      case 0:
        fields.numbers[field].push_back(Varint(message, &at));
        break;
      case 1:
        fields.numbers[field].push_back(Read<uint64_t>(message, at));
        at += 8;
        break;
      case 2: {
        const uint64_t length = Varint(message, &at);
        fields.texts[field].push_back(message.substr(at, length));
        at += length;
        break;
      }
      case 5:
        fields.numbers[field].push_back(Read<uint32_t>(message, at));
        at += 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return fields;
    }
  }
  return fields;
}

std::vector<Fields> EventsIn(const std::string& file) {
  std::vector<Fields> events;
  for (size_t at = 0; at < file.size();) {
    const auto length = Read<uint64_t>(file, at);
    EXPECT_EQ(Read<uint32_t>(file, at + 8), Masked(PlainCrc32c(file.substr(at, 8))));
    const std::string data = file.substr(at + 12, length);
    EXPECT_EQ(data.size(), length);
    EXPECT_EQ(Read<uint32_t>(file, at + 12 + length), Masked(PlainCrc32c(data)));
    events.push_back(Decode(data));
    at += 16 + length;
  }
  return events;
}

float FloatOf(uint64_t bits) {
  const auto low = static_cast<uint32_t>(bits);
  float value;
  std::memcpy(&value, &low, sizeof(value));
  return value;
}

// The vectors of RFC 3720, B.4, and the usual check value.
TEST(EventFileTest, TheChecksumIsCrc32c) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(EventFileTest, AnIndependentDecoderReadsItBack) {
  const TemporaryFolder folder;
  auto file = EventFile::Create(folder / "run", /*first_step=*/300);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append(300, {{"loss", 2.5}, {"grad_norm", INFINITY}}).ok());
  ASSERT_TRUE(file->Append(301, {{"loss", NAN}}).ok());
  EXPECT_EQ(std::filesystem::path(file->path()).filename().string().rfind("events.out.tfevents.", 0), 0u);
  const std::vector<Fields> events = EventsIn(Slurp(file->path()));
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].texts.at(3)[0], "brain.Event:2");
  EXPECT_EQ(events[1].numbers.at(2)[0], 300u);
  EXPECT_EQ(Decode(events[1].texts.at(7)[0]).numbers.at(1)[0], 1u);
  EXPECT_EQ(events[2].numbers.at(2)[0], 300u);
  const Fields summary = Decode(events[2].texts.at(5)[0]);
  ASSERT_EQ(summary.texts.at(1).size(), 2u);
  const Fields loss = Decode(summary.texts.at(1)[0]), norm = Decode(summary.texts.at(1)[1]);
  EXPECT_EQ(loss.texts.at(1)[0], "loss");
  EXPECT_EQ(FloatOf(loss.numbers.at(2)[0]), 2.5f);
  EXPECT_EQ(norm.texts.at(1)[0], "grad_norm");
  EXPECT_TRUE(std::isinf(FloatOf(norm.numbers.at(2)[0])));
  EXPECT_TRUE(std::isnan(FloatOf(Decode(Decode(events[3].texts.at(5)[0]).texts.at(1)[0]).numbers.at(2)[0])));
}

TEST(EventFileTest, AFullDiskLeavesWholeRecordsAndTheyFollowLater) {
  const TemporaryFolder folder;
  auto file = EventFile::Create(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  const std::string before = Slurp(file->path());
  {
    const FileSizeLimit half_a_record_more(before.size() + 20);
    const absl::Status status = file->Append(0, {{"loss", 1}});
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_EQ(Slurp(file->path()), before);
  }
  ASSERT_TRUE(file->Append(1, {{"loss", 2}}).ok());
  EXPECT_EQ(EventsIn(Slurp(file->path())).size(), 4u);
}

TEST(EventFileTest, RecordsThatWaitForRoomAreBoundedAndThoseThatFitStay) {
  const TemporaryFolder folder;
  auto file = AppendFile::Open(folder / "records");
  ASSERT_TRUE(file.ok()) << file.status();
  constexpr int kRecords = 40;
  const auto record = [](int i) { return std::string(size_t{1} << 20, static_cast<char>('0' + i)); };
  std::string all;
  absl::Status status;
  {
    const FileSizeLimit full(8);
    for (int i = 0; i < kRecords; ++i) {
      all += record(i);
      status = file->Append(record(i));
      EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    }
  }
  EXPECT_NE(status.message().find("; 24 records before are lost"), std::string::npos) << status;
  {
    const FileSizeLimit two_and_a_half(record(0).size() * 5 / 2);
    EXPECT_FALSE(file->Append("end").ok());
    EXPECT_TRUE(Slurp(file->path()) == record(24 + 0) + record(24 + 1));
  }
  ASSERT_TRUE(file->Append(".").ok());
  const std::string content = Slurp(file->path());
  EXPECT_TRUE(content == all.substr(24 * record(0).size()) + "end.") << content.size();
}

// Without an error, a reader of the folder would see a run that has stopped, and the run would say nothing.
TEST(EventFileTest, AFileThatWasRemovedIsAnError) {
  const TemporaryFolder folder;
  auto file = EventFile::Create(folder.path(), 0);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(file->Append(0, {{"loss", 1}}).ok());
  std::filesystem::remove(file->path());
  const absl::Status status = file->Append(1, {{"loss", 2}});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find(file->path() + " was removed"), std::string::npos) << status;
}

}  // namespace
}  // namespace angel_ptm
