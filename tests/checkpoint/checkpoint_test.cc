#include "angel_ptm/checkpoint/checkpoint.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>

#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/support/file_opens.h"
#include "tests/support/ranks.h"

namespace angel_ptm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

void SaveWithRanks(const CheckpointOptions& options, const Graph& graph, int64_t step, int size,
                   bool whole_vectors = false) {
  RunRanks(size, [&](Communicator& comm) { return Save(options, graph, step, comm, whole_vectors).status(); });
}

TEST(CheckpointTest, ReadsBackAtAnyWorldSize) {
  const Graph graph = SmallGraph();
  for (int written : {1, 2, 3, 4, 8}) {
    const TemporaryFolder dir;
    const CheckpointOptions options{.directory = dir / "run/checkpoints",
                                    .model_config = "hidden_size: 64\n# \xC3\xA9 \"quoted\"\n",
                                    .files = {{"tokenizer.json", "{\"model\": 1}\n"}}};
    SaveWithRanks(options, graph, 123, written);

    const auto latest = FindLatestCheckpoint(options.directory);
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(latest->path, dir / "run/checkpoints/step-00000123");
    EXPECT_EQ(latest->warning, "");
    auto reader = CheckpointReader::Open(latest->path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(reader->manifest().step, 123);
    EXPECT_EQ(reader->manifest().world_size, written);
    EXPECT_EQ(reader->manifest().graph_hash, Hash(graph));
    EXPECT_EQ(reader->manifest().model_config, options.model_config);
    EXPECT_EQ(reader->manifest().trainer_state, "{\"samples\":984}");
    EXPECT_EQ(reader->ReadCopiedFile("tokenizer.json").value(), "{\"model\": 1}\n");
    EXPECT_FALSE(reader->ReadCopiedFile("other.json").ok());
    const absl::Status fits = reader->Fit(*graph.table);
    EXPECT_TRUE(fits.ok()) << fits;
    EXPECT_TRUE(reader->Verify().ok()) << reader->Verify();
    for (int size : {1, 2, 3, 4, 8}) {
      const absl::Status status = ExpectState(*reader, graph, 123, size);
      EXPECT_TRUE(status.ok()) << written << " -> " << size << ": " << status;
    }
  }
}

TEST(CheckpointTest, UnalignedRangesAndChunkBorders) {
  // Two and a half checksum chunks per rank.
  const int64_t elements = 5 * kChecksumChunkElements - 1234;
  const Graph graph = MakeGraph({{"big", {{elements}}}});
  const TemporaryFolder dir;
  SaveWithRanks({.directory = dir.path()}, graph, 1, 2);
  const auto reader = CheckpointReader::Open(dir / "step-00000001");
  ASSERT_TRUE(reader.ok()) << reader.status();
  const int64_t slice = SliceUnit(elements, 2).slice_elements;
  for (const auto& [begin, n] : std::vector<std::pair<int64_t, int64_t>>{{0, 1},
                                                                         {kChecksumChunkElements - 1, 2},
                                                                         {slice - 3, 7},
                                                                         {17, 3 * kChecksumChunkElements},
                                                                         {elements - 2, 5},
                                                                         {elements, 4},
                                                                         {elements + 100, 4},
                                                                         {5, 0}}) {
    std::vector<float> out(static_cast<size_t>(n), NAN);
    ASSERT_TRUE(reader->ReadRange(0, "moment2", begin, out).ok());
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(out[i], begin + i < elements ? StateValue(0, "moment2", begin + i, 1) : 0.0f) << begin + i;
    }
  }
}

TEST(CheckpointTest, FilesDoNotDependOnTheZeroStage) {
  const Graph graph = SmallGraph();
  const TemporaryFolder sharded, whole;
  SaveWithRanks({.directory = sharded.path()}, graph, 5, 3, /*whole_vectors=*/false);
  SaveWithRanks({.directory = whole.path()}, graph, 5, 3, /*whole_vectors=*/true);
  const std::vector<std::string> names = NamesIn(sharded / "step-00000005");
  EXPECT_THAT(names, ElementsAre("manifest.json", "rank-00000-of-00003.safetensors", "rank-00001-of-00003.safetensors",
                                 "rank-00002-of-00003.safetensors"));
  for (const std::string& name : names) {
    EXPECT_EQ(Slurp(sharded / ("step-00000005/" + name)), Slurp(whole / ("step-00000005/" + name))) << name;
  }
}

TEST(CheckpointTest, KeepsTheLastAndReplacesTheSameStep) {
  const Graph graph = SmallGraph();
  const TemporaryFolder dir;
  const CheckpointOptions options{.directory = dir.path(), .keep_last = 2};
  for (int64_t step : {10, 20, 30}) SaveWithRanks(options, graph, step, 2);
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000020", "step-00000030"));
  // The same step again, with another world size.
  SaveWithRanks(options, graph, 30, 1);
  EXPECT_THAT(NamesIn(dir.path()), ElementsAre("step-00000020", "step-00000030"));
  EXPECT_EQ(CheckpointReader::Open(dir / "step-00000030")->manifest().world_size, 1);
  // A run that was resumed from an early checkpoint saves while later ones exist: the new one is never pruned.
  SaveWithRanks(options, graph, 15, 1);
  EXPECT_TRUE(CheckpointReader::Open(dir / "step-00000015").ok());
}

TEST(CheckpointTest, TemporariesAndIncompleteDirectoriesAreIgnored) {
  const Graph graph = SmallGraph();
  const TemporaryFolder dir;
  EXPECT_EQ(FindLatestCheckpoint(dir / "none")->path, "");
  EXPECT_EQ(FindLatestCheckpoint(dir.path())->path, "");
  SaveWithRanks({.directory = dir.path()}, graph, 7, 1);
  std::filesystem::copy(dir / "step-00000007", dir / "step-00000009.tmp");
  std::filesystem::create_directory(dir / "step-00000011");
  std::filesystem::create_directory(dir / "step-12");
  const auto latest = FindLatestCheckpoint(dir.path());
  ASSERT_TRUE(latest.ok());
  EXPECT_EQ(latest->path, dir / "step-00000007");
  EXPECT_THAT(latest->warning, HasSubstr("step-00000011"));
  EXPECT_EQ(latest->warning.find("step-00000009"), std::string::npos);
  EXPECT_THAT(std::string(CheckpointReader::Open(dir / "step-00000011").status().message()),
              HasSubstr("not a complete checkpoint"));
  // The next save removes what a killed run left.
  SaveWithRanks({.directory = dir.path()}, graph, 8, 1);
  EXPECT_FALSE(Exists(dir / "step-00000009.tmp"));
}

// Resuming from an older checkpoint instead would in time replace the newest.
TEST(CheckpointTest, ANewestThatCannotBeLookedIntoIsAnError) {
  const Graph graph = SmallGraph();
  const TemporaryFolder dir;
  SaveWithRanks({.directory = dir.path()}, graph, 7, 1);
  std::filesystem::create_symlink("step-00000009", dir / "step-00000009");
  const auto newest = FindLatestCheckpoint(dir.path());
  EXPECT_THAT(std::string(newest.status().message()),
              HasSubstr("cannot look for " + (dir / "step-00000009/manifest.json")));
  // An older one that cannot be read is skipped.
  std::filesystem::create_symlink("step-00000003", dir / "step-00000003");
  std::filesystem::remove(dir / "step-00000009");
  const auto older = FindLatestCheckpoint(dir.path());
  ASSERT_TRUE(older.ok()) << older.status();
  EXPECT_EQ(older->path, dir / "step-00000007");
  EXPECT_THAT(older->warning, HasSubstr("ignored " + (dir / "step-00000003: cannot look for")));
  // The whole directory cannot be read.
  std::filesystem::create_symlink("loop", dir / "loop");
  EXPECT_FALSE(FindLatestCheckpoint(dir / "loop/checkpoints").ok());
  EXPECT_FALSE(CheckpointReader::Open(dir / "loop/checkpoints").ok());
  EXPECT_EQ(FindLatestCheckpoint(dir / "none/checkpoints")->path, "");
}

// A renamed folder would be taken for an older or newer checkpoint than it is.
TEST(CheckpointTest, ARenamedOrSwappedOneIsRefused) {
  const Graph graph = SmallGraph();
  const TemporaryFolder dir;
  for (int64_t step : {2, 4, 6}) SaveWithRanks({.directory = dir.path()}, graph, step, 1);
  const auto error = [&](const std::string& name) {
    return std::string(CheckpointReader::Open(dir / name).status().message());
  };
  std::filesystem::rename(dir / "step-00000002", dir / "step-00000099");
  EXPECT_EQ(FindLatestCheckpoint(dir.path())->path, dir / "step-00000099");
  EXPECT_THAT(error("step-00000099"), HasSubstr("step-00000099 is named 99, holds step 2"));
  EXPECT_THAT(error("step-00000099/"), HasSubstr("is named 99, holds step 2"));
  std::filesystem::rename(dir / "step-00000004", dir / "aside");
  std::filesystem::rename(dir / "step-00000006", dir / "step-00000004");
  std::filesystem::rename(dir / "aside", dir / "step-00000006");
  EXPECT_THAT(error("step-00000004"), HasSubstr("is named 4, holds step 6"));
  EXPECT_THAT(error("step-00000006"), HasSubstr("is named 6, holds step 4"));
  // Folders whose names are not a checkpoint's are never found, but open if asked for, unless the name states another
  // step.
  std::filesystem::rename(dir / "step-00000099", dir / "step-99");
  EXPECT_THAT(FindLatestCheckpoint(dir.path())->warning,
              HasSubstr("step-99: a checkpoint of step 99 would be named step-00000099"));
  EXPECT_THAT(error("step-99"), HasSubstr("is named 99, holds step 2"));
  std::filesystem::rename(dir / "step-99", dir / "kept");
  EXPECT_TRUE(CheckpointReader::Open(dir / "kept").ok());
  std::filesystem::rename(dir / "kept", dir / "step-2");
  EXPECT_TRUE(CheckpointReader::Open(dir / "step-2").ok());
}

TEST(CheckpointTest, ARefusalNamesTheNewestOlderOneThatIsWhole) {
  const Graph graph = SmallGraph();
  const TemporaryFolder dir;
  for (int64_t step : {2, 4, 6, 8, 10}) SaveWithRanks({.directory = dir.path()}, graph, step, 1);
  const auto damage = [&](const std::string& file) {
    std::string bytes = Slurp(dir / file);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    Spill(dir / file, bytes);
  };
  damage("step-00000008/manifest.json");
  damage("step-00000006/rank-00000-of-00001.safetensors");
  std::filesystem::rename(dir / "step-00000002", dir / "aside");
  std::filesystem::rename(dir / "step-00000010", dir / "step-00000002");
  std::filesystem::rename(dir / "aside", dir / "step-00000010");
  const auto refusal = [&](const std::string& name) {
    const absl::Status error = CheckpointReader::Open(dir / name).status();
    return std::string(WithOlderCheckpoint(error, dir / name).message());
  };
  EXPECT_THAT(refusal("step-00000010"), AllOf(HasSubstr("is named 10, holds step 2"),
                                              HasSubstr("; the checkpoint of step 4 is whole: to go on from it, "
                                                        "resume with --resume-from 4")));
  EXPECT_THAT(refusal("step-00000008"), HasSubstr("resume with --resume-from 4"));
  EXPECT_THAT(refusal("step-00000002"), Not(HasSubstr("--resume-from")));
  EXPECT_TRUE(WithOlderCheckpoint(absl::OkStatus(), dir / "step-00000010").ok());
}

// A run that continues may prune what a reader has just found.
TEST(CheckpointTest, AReaderBesideAPruningRunLooksAgain) {
  const Graph graph = MakeGraph({{"a", {{3000}}}});
  const TemporaryFolder dir;
  const CheckpointOptions options{.directory = dir.path(), .keep_last = 1};
  SaveWithRanks(options, graph, 1, 1);
  std::vector<std::string> seen;
  const auto find = [&]() -> absl::StatusOr<std::string> {
    ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(dir.path()));
    EXPECT_EQ(latest.warning, "");
    return latest.path;
  };
  int64_t step = 1;
  const auto read = [&](const std::string& path) -> absl::Status {
    seen.push_back(path);
    // The checkpoint is removed before it is opened, then replaced by one of the same step, then removed while it is
    // read, and then left alone.
    if (seen.size() == 1) SaveWithRanks(options, graph, ++step, 1);
    if (seen.size() == 2) std::filesystem::remove(path + "/manifest.json");
    if (seen.size() == 2) SaveWithRanks(options, graph, step, 2);
    ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(path));
    if (seen.size() == 2) return absl::DataLossError("half of the old one and half of the new one");
    if (seen.size() == 3) SaveWithRanks(options, graph, ++step, 1);
    return reader.Verify();
  };
  const absl::Status status = ReadCheckpointBesideRun(find, read);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(seen,
              ElementsAre(dir / "step-00000001", dir / "step-00000002", dir / "step-00000002", dir / "step-00000003"));
  // A checkpoint that is damaged and stays is read only once.
  std::filesystem::remove(dir / "step-00000003/rank-00000-of-00001.safetensors");
  int reads = 0;
  const absl::Status damaged = ReadCheckpointBesideRun(find, [&](const std::string& path) {
    ++reads;
    return CheckpointReader::Open(path).status();
  });
  EXPECT_THAT(std::string(damaged.message()), HasSubstr("is missing"));
  EXPECT_EQ(reads, 1);
}

// When ranks open a checkpoint together, each file is examined by one of them; each rank still verifies what it reads
// later.
TEST(CheckpointTest, RanksShareTheLooksAtFiles) {
  const Graph graph = MakeGraph({{"a", {{30000}}}});
  const TemporaryFolder dir;
  const CheckpointOptions options{.directory = dir.path(), .files = {{"notes.txt", "notes"}}};
  for (const int lost : {0, 1, 2, 3}) {
    SaveWithRanks(options, graph, 1, 3);
    const std::string path = dir / "step-00000001";
    const std::string name = lost == 3 ? "notes.txt" : absl::StrCat("rank-0000", lost, "-of-00003.safetensors");
    std::filesystem::remove(path + "/" + name);
    for (const int ranks : {1, 2, 4, 7}) {
      int found = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto reader = CheckpointReader::Open(path, {}, {.rank = rank, .ranks = ranks});
        if (!reader.ok()) {
          EXPECT_THAT(std::string(reader.status().message()), HasSubstr(name + " is missing"));
          ++found;
        } else if (lost < 3) {
          std::vector<float> all(30000);
          EXPECT_FALSE(reader->ReadRange(0, "parameters", 0, all).ok());
        }
      }
      EXPECT_EQ(found, 1) << name << " of " << ranks;
    }
  }
}

TEST(CheckpointTest, WhatIsHeldIsReadThoughItIsPruned) {
  const Graph graph = MakeGraph({{"a", {{30000}}}});
  for (const bool held : {false, true}) {
    const TemporaryFolder dir;
    SaveWithRanks({.directory = dir.path()}, graph, 1, 3);
    const auto reader = CheckpointReader::Open(dir / "step-00000001");
    ASSERT_TRUE(reader.ok()) << reader.status();
    if (held) {
      EXPECT_EQ(reader->HoldFiles(), absl::OkStatus());
    }
    std::filesystem::remove_all(reader->path());
    std::vector<float> all(30000);
    EXPECT_EQ(reader->ReadRange(0, "parameters", 0, all).ok(), held);
  }
}

TEST(CheckpointTest, ReadersWhileARunSavesAndPrunes) {
  const Graph graph = MakeGraph({{"a", {{3000}}}});
  const TemporaryFolder dir;
  const CheckpointOptions options{.directory = dir.path(), .keep_last = 1};
  SaveWithRanks(options, graph, 1, 1);
  std::jthread run([&](const std::stop_token& stop) {
    for (int64_t step = 2; !stop.stop_requested(); ++step) SaveWithRanks(options, graph, step, 1);
  });
  for (int i = 0; i < 100; ++i) {
    const absl::Status status = ReadCheckpointBesideRun(
        [&]() -> absl::StatusOr<std::string> {
          ASSIGN_OR_RETURN(const LatestCheckpoint latest, FindLatestCheckpoint(dir.path()));
          if (!latest.warning.empty()) return absl::UnknownError(latest.warning);
          return latest.path;
        },
        [&](const std::string& path) -> absl::Status {
          ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(path));
          return reader.Verify();
        });
    ASSERT_TRUE(status.ok()) << status;
  }
}

// Rank 1's machine does not see the new directory immediately.
TEST(CheckpointTest, ADirectorySeenLateIsLookedForAgain) {
  const Graph graph = SmallGraph();
  const TemporaryFolder dir;
  const auto save = [&](int looks, double* waited) {
    return StatusOfRanks(2, [&](Communicator& inner) {
      CheckpointOptions options{.directory = dir.path()};
      // Rank 1 looks through a link that leads to the shared directory only from the last look on.
      if (inner.rank() == 1) {
        options.directory = dir / "late";
        options.patience.sleep = [&, left = looks](double seconds) mutable {
          *waited += seconds;
          if (--left == 0) std::filesystem::create_symlink(".", dir / "late");
        };
      }
      return Save(options, graph, 7, inner).status();
    });
  };
  double waited = 0;
  for (const absl::Status& status : save(1000, &waited)) {
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("rank 1: cannot see " + (dir / "late/step-00000007.tmp")),
                      HasSubstr("after 10 seconds: the directory must be shared")));
  }
  EXPECT_DOUBLE_EQ(waited, 10);
  waited = 0;
  for (const absl::Status& status : save(5, &waited)) EXPECT_TRUE(status.ok()) << status;
  EXPECT_LT(waited, 3);
  // A reader learns of a checkpoint that its machine does not show yet.
  std::filesystem::rename(dir / "step-00000007", dir / "hidden");
  const Patience patience = {.seconds = 1, .sleep = [&](double) {
                               if (Exists(dir / "hidden"))
                                 std::filesystem::rename(dir / "hidden", dir / "step-00000007");
                             }};
  EXPECT_FALSE(CheckpointReader::Open(dir / "step-00000007").ok());
  EXPECT_TRUE(CheckpointReader::Open(dir / "step-00000007", patience).ok());
}

TEST(CheckpointTest, AnotherModelIsNamedByItsFirstDifference) {
  const TemporaryFolder dir;
  const Graph graph = SmallGraph();
  SaveWithRanks({.directory = dir.path()}, graph, 1, 2);
  auto reader = CheckpointReader::Open(dir / "step-00000001");
  ASSERT_TRUE(reader.ok());
  const auto message = [&](const std::vector<UnitShape>& units) {
    const absl::Status status = reader->Fit(*MakeGraph(units).table);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return std::string(status.message());
  };
  const UnitShape embedding{"embedding", {{100, 48}}}, layer{"layers.0.dense", {{64, 64}, {64}, {33, 64}}},
      norm{"final_norm", {{48}}}, head{"head", {{130, 64}}};
  EXPECT_THAT(message({{"embedding", {{100, 64}}}, layer, norm, head}),
              HasSubstr("wanted parameter embedding.w0 of shape [100, 64], got [100, 48]"));
  EXPECT_THAT(message({embedding, {"layers.0.dense", {{64, 64}, {64}, {64, 33}}}, norm, head}),
              HasSubstr("wanted parameter layers.0.dense.w2 of shape [64, 33], got [33, 64]"));
  EXPECT_THAT(message({embedding, {"layers.0.dense", {{64, 64}, {64}, {33, 64}, {5}}}, norm, head}),
              HasSubstr("parameter layers.0.dense.w3 of shape [5] is missing"));
  EXPECT_THAT(message({embedding, {"layers.0.dense", {{64, 64}, {64}}}, norm, head}),
              HasSubstr("it has a parameter layers.0.dense.w2 that the model has not"));
  EXPECT_THAT(message({embedding, {"layers.0.moe", {{64, 64}, {64}, {33, 64}}}, norm, head}),
              HasSubstr("wanted parameter layers.0.moe.w0, got layers.0.dense.w0"));
  EXPECT_THAT(message({embedding, layer, norm}), HasSubstr("wanted 3 units, got 4"));
}

// The same parameters, all in one unit or each in a unit of its own.
Graph ExpertsGraph(bool split) {
  GraphBuilder builder("experts");
  const UnitId before = builder.AddUnit("dense");
  builder.AddParameter(before, "w", {10, 7}, {}, true, {});
  const UnitId unit = builder.AddUnit(split ? "experts.gate_up" : "experts", split);
  builder.AddParameter(unit, "gate_up", {4, 1000}, {}, true, {});
  builder.AddParameter(split ? builder.AddUnit("experts.down", split) : unit, "down", {4, 501}, {}, true, {});
  return builder.Build();
}

TEST(CheckpointTest, OtherUnitsOfTheSameParametersAreRead) {
  for (const bool split : {false, true}) {
    const TemporaryFolder dir;
    const Graph stored = ExpertsGraph(split), wanted = ExpertsGraph(!split);
    SaveWithRanks({.directory = dir.path()}, stored, 1, 2);
    auto reader = CheckpointReader::Open(dir / "step-00000001");
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_EQ(reader->Fit(*wanted.table), absl::OkStatus());
    // Counts by unit are those of the stored unit that has its parameters; the first one for units split from it.
    using Counts = std::vector<int64_t>;
    EXPECT_EQ(reader->OfUnits(split ? Counts{5, 7, 9} : Counts{5, 7}), split ? (Counts{5, 7}) : (Counts{5, 7, 7}));
    EXPECT_EQ(reader->OfUnits({}), Counts());
    for (size_t p = 0; p < wanted.parameters().size(); ++p) {
      const Parameter &here = wanted.parameters()[p], &there = stored.parameters()[p];
      EXPECT_TRUE(reader->Holds(here.unit, "moment1"));
      std::vector<float> all(static_cast<size_t>(wanted.units()[here.unit].elements), -1.0f);
      ASSERT_EQ(reader->ReadRange(here.unit, "moment1", 0, all), absl::OkStatus());
      std::vector<float> part(10, -1.0f);
      ASSERT_EQ(reader->ReadRange(here.unit, "moment1", here.unit_offset + 33, part), absl::OkStatus());
      for (int64_t i = 0; i < here.shape.elements(); ++i) {
        const float want = StateValue(there.unit, "moment1", there.unit_offset + i, 1);
        ASSERT_EQ(all[here.unit_offset + i], want) << here.name << " " << i;
        if (i >= 33 && i < 43) {
          EXPECT_EQ(part[i - 33], want) << here.name << " " << i;
        }
      }
    }
    // Elements that belong to no parameter (padding between parameters and at the unit's end) are zero.
    if (split) {
      std::vector<float> gap(16, -1.0f);
      const Unit& unit = wanted.units()[1];
      ASSERT_EQ(reader->ReadRange(1, "parameters", unit.elements, gap), absl::OkStatus());
      EXPECT_EQ(gap, std::vector<float>(16, 0.0f));
    }
    EXPECT_EQ(reader->Verify(), absl::OkStatus());
  }
}

TEST(CheckpointTest, VerifyOpensEveryFileOnce) {
  constexpr int kWritten = 80;  // more than are kept open
  const Graph graph = MakeGraph({{"a", {{2048, 80}}}, {"b", {{79, 2048}, {17}}}});
  const TemporaryFolder dir;
  SaveWithRanks({.directory = dir.path()}, graph, 1, kWritten);
  const auto reader = CheckpointReader::Open(dir / "step-00000001");
  ASSERT_TRUE(reader.ok()) << reader.status();
  FileOpens opens(reader->path());
  EXPECT_EQ(reader->Verify(), absl::OkStatus());
  const std::map<std::string, int> seen = opens.Take();
  EXPECT_EQ(seen.size(), static_cast<size_t>(kWritten));
  for (const auto& [name, count] : seen) EXPECT_EQ(count, 1) << name;
}

// A range is cut where the next file begins. Read piece by piece it is the same, whatever units the files have.
TEST(CheckpointTest, RangesAreCutByFile) {
  for (const bool split : {false, true}) {
    const TemporaryFolder dir;
    const Graph stored = ExpertsGraph(false), wanted = ExpertsGraph(split);
    SaveWithRanks({.directory = dir.path()}, stored, 1, 3);
    auto reader = CheckpointReader::Open(dir / "step-00000001");
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_EQ(reader->Fit(*wanted.table), absl::OkStatus());
    for (UnitId unit = 0; unit < static_cast<UnitId>(wanted.units().size()); ++unit) {
      for (const int64_t begin : {int64_t{0}, int64_t{1500}, wanted.units()[unit].elements + 3}) {
        const int64_t end = wanted.units()[unit].elements + 20;
        if (begin >= end) continue;
        std::vector<float> whole(static_cast<size_t>(end - begin), -1.0f), parts = whole;
        ASSERT_EQ(reader->ReadRange(unit, "parameters", begin, whole), absl::OkStatus());
        int64_t at = begin;
        for (const CheckpointReader::StoredRange& range : reader->StoredRangesOf(unit, begin, end)) {
          EXPECT_EQ(range.begin, at);
          EXPECT_GT(range.count, 0);
          at += range.count;
          ASSERT_LE(at, end);
          const auto part =
              std::span(parts).subspan(static_cast<size_t>(range.begin - begin), static_cast<size_t>(range.count));
          ASSERT_EQ(reader->ReadRange(unit, "parameters", range.begin, part), absl::OkStatus());
        }
        EXPECT_EQ(at, end);
        EXPECT_EQ(parts, whole) << split << " " << unit << " " << begin;
      }
    }
  }
}

TEST(CheckpointTest, StateThatWasNotSavedIsAnError) {
  const TemporaryFolder dir;
  const Graph graph = SmallGraph();
  RunRanks(1, [&](Communicator& comm) {
    const OwnState state(graph, 0, 1, 1);
    std::vector<StateSlice> parameters;
    for (const StateSlice& s : state.slices()) {
      if (s.state == "parameters") parameters.push_back(s);
    }
    return WriteCheckpoint({.directory = dir.path()}, graph, parameters, {.step = 1}, comm).status();
  });
  const auto reader = CheckpointReader::Open(dir / "step-00000001");
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<float> out(3);
  EXPECT_TRUE(reader->ReadRange(0, "parameters", 0, out).ok());
  EXPECT_EQ(reader->ReadRange(0, "moment1", 0, out).code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace angel_ptm
