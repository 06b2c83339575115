// Reads a checkpoint written by format version 1 and kept in the repository, so that no change of the code can silently
// change the format. Run with --write_testdata=<directory> to write one for a new version.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstring>

#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/checkpoint.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

constexpr int64_t kStep = 7;

Graph FormatGraph() { return MakeGraph({{"layers.0.dense", {{30, 40}, {17}}}, {"norm", {{5}}}}); }

void WriteTestData(const std::string& directory) {
  const CheckpointOptions options{.directory = directory,
                                  .model_config = "name: \"test\"\n",
                                  .files = {{"tokenizer.json", "{\"version\": \"1.0\"}\n"}}};
  RunRanks(2, [&](Communicator& comm) { return Save(options, FormatGraph(), kStep, comm).status(); });
}

TEST(FormatTest, ReadsVersion1) {
  const std::string path = std::string(ANGEL_PTM_TESTDATA) + "/version1/step-00000007";
  auto reader = CheckpointReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->manifest().version, 1);
  EXPECT_EQ(reader->manifest().step, kStep);
  EXPECT_EQ(reader->manifest().world_size, 2);
  EXPECT_EQ(reader->manifest().model_config, "name: \"test\"\n");
  EXPECT_EQ(reader->manifest().trainer_state, "{\"samples\":56}");
  EXPECT_EQ(reader->ReadCopiedFile("tokenizer.json").value(), "{\"version\": \"1.0\"}\n");
  const absl::Status fits = reader->Fit(*FormatGraph().table);
  EXPECT_TRUE(fits.ok()) << fits;
  EXPECT_TRUE(reader->Verify().ok()) << reader->Verify();
  const absl::Status state = ExpectState(*reader, FormatGraph(), kStep, 3);
  EXPECT_TRUE(state.ok()) << state;
}

// Today's writer still gives the bytes that were kept when slices became multiples of 2,048 elements. Only the graph's
// digest may differ, since the graph's definition may change.
TEST(FormatTest, WritesVersion1) {
  const TemporaryFolder dir;
  WriteTestData(dir.path());
  const std::string kept = std::string(ANGEL_PTM_TESTDATA) + "/version1_slices_of_2048/step-00000007";
  const std::vector<std::string> names = NamesIn(kept);
  EXPECT_EQ(NamesIn(dir / "step-00000007"), names);
  for (const std::string& name : names) {
    std::string want = Slurp(kept + "/" + name), got = Slurp(dir / ("step-00000007/" + name));
    if (name == "manifest.json") {
      for (std::string* text : {&want, &got}) {
        text->erase(0, text->find('\n'));
        text->erase(text->find("\"hash\": ") + 8, 18);
      }
    }
    EXPECT_EQ(want, got) << name;
  }
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  constexpr char kFlag[] = "--write_testdata=";
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], kFlag, sizeof(kFlag) - 1) != 0) continue;
    angel_ptm::WriteTestData(argv[i] + sizeof(kFlag) - 1);
    return 0;
  }
  return RUN_ALL_TESTS();
}
