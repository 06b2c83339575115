#include "angel_ptm/base/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace angel_ptm {
namespace {

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(NestsTooDeepTest, CountsListsAndObjectsOutsideStrings) {
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

TEST(ParseJsonTest, RefusesWhatIsNoJsonOrTooDeep) {
  EXPECT_EQ(ParseJson("{\"b\": 1, \"a\": [2]}").dump(), "{\"a\":[2],\"b\":1}");
  EXPECT_EQ(ParseOrderedJson("{\"b\": 1, \"a\": [2]}").dump(), "{\"b\":1,\"a\":[2]}");
  for (const std::string& text :
       {std::string(), std::string("{\"a\": "), std::string("[1] 2"), Nested(kJsonNestingMax + 1)}) {
    EXPECT_TRUE(ParseJson(text).is_discarded()) << text;
    EXPECT_TRUE(ParseOrderedJson(text).is_discarded()) << text;
  }
  EXPECT_TRUE(ParseJson(Nested(kJsonNestingMax)).is_array());
}

}  // namespace
}  // namespace angel_ptm
