// Cluster files: errors name everything that is missing, out of range or contradictory, all at once.
#include "angel_ptm/config/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <vector>

namespace angel_ptm {
namespace {

using ::testing::HasSubstr;

Cluster Valid() {
  const auto cluster = ParseCluster(R"(
      name: "two nodes of two"
      nodes: 2
      devices_per_node: 2
      device {
        bytes: 40000000000 reserve_bytes: 1000000000 memory_bytes_per_second: 1e12
        matrix { type: BF16 peak_flops_per_second: 3e14 at { work: 1e9 per_second: 1e13 } at { work: 1e12 per_second: 2e14 } }
      }
      host { bytes: 1000000000000 cores: 64 memory_bytes_per_second: 2e11 adamw_bytes_per_second: 1e11 }
      link { to_device_bytes_per_second: 2e10 to_host_bytes_per_second: 2e10 }
      file { bytes: 4000000000000 read_bytes_per_second: 3e9 write_bytes_per_second: 2e9 both_bytes_per_second: 4e9 }
      inside_node { bytes_per_second: 2e11 }
      between_nodes { bytes_per_second: 1e11 }
  )",
                                    "valid");
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return *cluster;
}

TEST(ClusterTest, TextComesBack) {
  const Cluster cluster = Valid();
  const auto again = ParseCluster(ToText(cluster), "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(ToText(*again), ToText(cluster));
}

TEST(ClusterTest, SyntaxErrorsHavePlaces) {
  const absl::Status status = ParseCluster("nodes: 2\n  nodez: 3\n", "c.textproto").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("c.textproto:2:"));
  EXPECT_EQ(LoadCluster("/does/not/exist").status().code(), absl::StatusCode::kNotFound);
}

// Each change of a valid cluster gives one sentence.
TEST(ClusterTest, SaysWhatContradictsItself) {
  const std::vector<std::pair<std::function<void(Cluster&)>, std::string>> cases = {
      {[](Cluster& c) { c.mutable_device()->set_reserve_bytes(40'000'000'000); }, "which leaves nothing"},
      {[](Cluster& c) { c.mutable_host()->set_reserve_bytes(int64_t{2} << 40); }, "host.reserve_bytes is 2.00 TiB"},
      {[](Cluster& c) { c.clear_inside_node(); }, "inside_node: wanted a network, as there are 2 devices in a node"},
      {[](Cluster& c) { c.clear_between_nodes(); }, "between_nodes: wanted a network, as there are 2 nodes"},
      {[](Cluster& c) {
         c.mutable_device()->set_kind(ClusterDevice::HOST), c.mutable_host()->set_bytes(50'000'000'000);
       },
       "2 devices of 37.3 GiB are more than the host's 46.6 GiB"},
      {[](Cluster& c) { c.mutable_link()->set_to_host_bytes_per_second(3e11); },
       "link.to_host_bytes_per_second is 300 G/s, more than the host's memory has, 200 G/s"},
      {[](Cluster& c) { c.mutable_file()->set_both_bytes_per_second(6e9); }, "more than reads (3.00 G/s) and writes"},
      {[](Cluster& c) { c.mutable_file()->clear_write_bytes_per_second(); },
       "file.write_bytes_per_second: wanted more than 0, got 0"},
      {[](Cluster& c) { c.mutable_device()->mutable_matrix(0)->set_peak_flops_per_second(1e14); },
       "more than the peak of 100 T/s"},
      {[](Cluster& c) { c.mutable_device()->mutable_matrix(0)->mutable_at(1)->set_work(1e8); },
       "wanted more than the 1.00 G of the point before"},
      {[](Cluster& c) { c.mutable_device()->mutable_matrix(0)->mutable_at(0)->set_per_second(1e11); },
       "device.matrix[0].at[1]: 1.00 T at 200 T/s take less time than 1.00 G at 100 G/s, which cannot be"},
      {[](Cluster& c) { *c.mutable_device()->add_matrix() = c.device().matrix(0); }, "a second rate for BF16"},
      {[](Cluster& c) { c.mutable_device()->clear_matrix(); }, "wanted the rate of at least one type"},
      {[](Cluster& c) { c.mutable_device()->add_kernel()->set_name("Swiglu"); }, "at least one point, got none"},
      {[](Cluster& c) { c.mutable_host()->set_cores(-1); }, "host.cores: wanted more than 0, got -1"},
      {[](Cluster& c) { c.set_nodes(0); }, "nodes: wanted more than 0, got 0"},
  };
  for (const auto& [change, sentence] : cases) {
    Cluster cluster = Valid();
    change(cluster);
    const absl::Status status = ValidateCluster(cluster);
    EXPECT_THAT(std::string(status.message()), HasSubstr(sentence));
    EXPECT_EQ(std::string(status.message()).find('\n'), std::string::npos) << status;
  }
}

TEST(ClusterTest, SaysAllAtOnce) {
  Cluster cluster = Valid();
  cluster.clear_inside_node();
  cluster.mutable_host()->set_cores(0);
  const std::string message(ParseCluster(ToText(cluster), "c").status().message());
  EXPECT_THAT(message, HasSubstr("c: host.cores"));
  EXPECT_THAT(message, HasSubstr("\nc: inside_node"));
}

TEST(ClusterTest, ShippedOnesAreValid) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CONFIGS_DIRECTORY "/../clusters")) {
    const auto cluster = LoadCluster(entry.path().string());
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    ++files;
  }
  EXPECT_GE(files, 6);
}

}  // namespace
}  // namespace angel_ptm
