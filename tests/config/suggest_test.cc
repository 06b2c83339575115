#include "angel_ptm/config/suggest.h"

#include <gtest/gtest.h>

namespace angel_ptm {
namespace {

TEST(Suggest, EditDistance) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("flaw", "lawn"), 2u);
  EXPECT_EQ(EditDistance("same", "same"), 0u);
}

TEST(Suggest, NearestName) {
  EXPECT_EQ(SuggestName("bate1", {"beta1", "beta2"}), "did you mean 'beta1'? valid names: beta1, beta2");
  EXPECT_EQ(SuggestName("beta2x", {"beta1", "beta2"}), "did you mean 'beta2'? valid names: beta1, beta2");
  EXPECT_EQ(SuggestName("cosine", {"LINEAR", "COSINE"}), "did you mean 'COSINE'? valid names: LINEAR, COSINE");
  EXPECT_EQ(SuggestName("learning", {"beta1", "learning_rate"}),
            "did you mean 'learning_rate'? valid names: beta1, learning_rate");
}

TEST(Suggest, NothingNear) {
  EXPECT_EQ(SuggestName("zzzzzzzz", {"beta1"}), "valid names: beta1");
  EXPECT_EQ(SuggestName("", {"beta1"}), "valid names: beta1");
}

TEST(NearestName, OfSeveralThatBeginSoTheShortest) {
  EXPECT_EQ(*NearestName("resum", {"resume-from", "resume"}), "resume");
  EXPECT_EQ(*NearestName("resume", {"resume-from", "resume"}), "resume");
  EXPECT_EQ(*NearestName("resume-", {"resume-from", "resume"}), "resume-from");
}

}  // namespace
}  // namespace angel_ptm
