// Numbers on command lines.
#include "launch/arguments.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace angel_ptm {
namespace {

absl::StatusOr<uint64_t> Seed(const std::string& text) {
  const absl::StatusOr<Arguments> arguments = Arguments::Parse({"--seed", text}, {.flags = {"seed"}});
  RETURN_IF_ERROR(arguments.status());
  return arguments->GetUint("seed", 1);
}

TEST(Arguments, SeedsHaveAllOf64Bits) {
  EXPECT_EQ(*Seed("0"), 0u);
  EXPECT_EQ(*Seed("9223372036854775808"), uint64_t{1} << 63);
  EXPECT_EQ(*Seed("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  for (const char* text : {"18446744073709551616", "-1", "1.5", "", "many"}) {
    EXPECT_EQ(Seed(text).status().message(),
              std::string("--seed: wanted a whole number from 0 to 18446744073709551615, got ") + text);
  }
  EXPECT_EQ(*Arguments::Parse({}, {.flags = {"seed"}})->GetUint("seed", 7), 7u);
}

}  // namespace
}  // namespace angel_ptm
