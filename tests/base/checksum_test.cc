#include "angel_ptm/base/checksum.h"

#include <gtest/gtest.h>

#include <vector>

namespace angel_ptm {
namespace {

TEST(ChecksumTest, PublishedValues) {
  EXPECT_EQ(Xxh64(""), 0xef46db3751d8e999u);
  EXPECT_EQ(Xxh64("a"), 0xd24ec4f1a98c6e5bu);
  EXPECT_EQ(Xxh64("abc"), 0x44bc2cf5ad770999u);
  EXPECT_EQ(Xxh64("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1u);
  EXPECT_EQ(Xxh3(std::string_view()), 0x2d06800538d394c2u);
}

// Inputs beyond the short forms of both algorithms. XXH64's values come from our own implementation of its
// specification.
TEST(ChecksumTest, LongInputs) {
  std::vector<std::byte> data(100000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 31 >> 3);
  const std::span<const std::byte> bytes(data);
  EXPECT_EQ(Xxh64(data.data(), data.size()), 0x8e40d5154e0c9d4du);
  EXPECT_EQ(Xxh64(data.data(), 33), 0x6cb770209f8cb84fu);
  EXPECT_EQ(Xxh3(bytes), 0xec19e665653577dfu);
  EXPECT_EQ(Xxh3(bytes.first(100)), 0x4b2374adbf440719u);
  EXPECT_EQ(Xxh3(bytes.first(200)), 0x30c0d84a98b50b6cu);
}

TEST(ChecksumTest, TextRoundTrips) {
  for (uint64_t value : {uint64_t{0}, uint64_t{0x12ab}, ~uint64_t{0}}) {
    uint64_t parsed = 7;
    EXPECT_EQ(ChecksumText(value).size(), 16u);
    EXPECT_TRUE(ParseChecksumText(ChecksumText(value), &parsed));
    EXPECT_EQ(parsed, value);
  }
  EXPECT_EQ(ChecksumText(0x12ab), "00000000000012ab");
  uint64_t parsed = 0;
  for (const char* text :
       {"", "12ab", "00000000000012ag", "00000000000012abc", "-0000000000012ab", "0x000000000012ab"}) {
    EXPECT_FALSE(ParseChecksumText(text, &parsed)) << text;
  }
}

}  // namespace
}  // namespace angel_ptm
