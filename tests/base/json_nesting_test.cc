#include "angel_ptm/base/json_nesting.h"

#include <gtest/gtest.h>

#include <string>

namespace angel_ptm {
namespace {

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(JsonNestingTest, CountsListsAndObjectsOutsideStrings) {
  EXPECT_FALSE(NestsTooDeep(""));
  EXPECT_FALSE(NestsTooDeep(Nested(kJsonNestingMax)));
  EXPECT_TRUE(NestsTooDeep(Nested(kJsonNestingMax + 1)));
  EXPECT_TRUE(NestsTooDeep("{\"a\": " + Nested(kJsonNestingMax) + "}"));
  std::string siblings;
  for (int i = 0; i < 1000; ++i) siblings += "[{}],";
  EXPECT_FALSE(NestsTooDeep(siblings));
  EXPECT_FALSE(NestsTooDeep("\"" + Nested(1000) + "\""));
  EXPECT_FALSE(NestsTooDeep("\"\\\"" + std::string(1000, '[') + "\""));  // an escaped quote ends no string
  EXPECT_TRUE(NestsTooDeep("\"\\\\\"" + std::string(1000, '[')));        // a quote behind an escaped backslash does
}

}  // namespace
}  // namespace angel_ptm
