// The activity that a rank publishes names the op, the unit or the buffer that it works on. Of a rank that hangs,
// nothing else is known.
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "comm/local.h"
#include "tests/exec/tiny_trainer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text.h"

namespace angel_ptm {
namespace {

TEST(ActivityTest, EveryKindOfMoveNamesWhatItMoves) {
  const TemporaryFolder folder;
  LocalWorld world(1);
  const auto communicator = world.Create(0);
  std::mutex mutex;
  std::set<std::string> activities;
  // So little device memory that activations and micro-batch gradients leave the device, too.
  TinyTrainer trainer(TinyConfig(PrepareTinyText(folder.path()), "memory { page_bytes: 4096 device_bytes: 400000 }"),
                      *communicator, [&](int64_t, std::string_view activity) {
                        const std::lock_guard<std::mutex> lock(mutex);
                        activities.insert(std::string(activity));
                      });
  trainer.Step();
  for (const char* what : {"move head gradients", "move embedding.y", "move embedding.y on host",
                           "move embedding micro-batch gradient", "move embedding micro-batch gradient on host"}) {
    EXPECT_TRUE(activities.contains(what)) << what;
  }
}

}  // namespace
}  // namespace angel_ptm
