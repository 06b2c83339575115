#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/memory/page_table.h"
#include "angel_ptm/memory/tier.h"

namespace angel_ptm {
namespace {

// Two slices of 10,000 bytes on pages of 4,096 bytes: three pages each, the last one short.
class PageTableTest : public testing::Test {
 protected:
  PageTableTest() : vector_(table_.AddVector(10000, 2, 4096, {TierKind::kHost, 50000})) {}
  PageTable table_;
  const int vector_;
};

TEST_F(PageTableTest, PagesNeverStraddleSlices) {
  EXPECT_EQ(table_.page_count(vector_), 6);
  EXPECT_EQ(table_.PageAt(vector_, 0), 0);
  EXPECT_EQ(table_.PageAt(vector_, 4095), 0);
  EXPECT_EQ(table_.PageAt(vector_, 8192), 2);
  EXPECT_EQ(table_.PageAt(vector_, 9999), 2);
  EXPECT_EQ(table_.PageAt(vector_, 10000), 3);
  EXPECT_EQ(table_.PageAt(vector_, 19999), 5);
}

TEST_F(PageTableTest, StartsAtHomeAndComesHome) {
  table_.ExpectAllHome();
  table_.SetNewest(vector_, 4096, 4096, {TierKind::kDevice, 256});
  table_.ExpectNewest(vector_, 4096, 4096, {TierKind::kDevice, 256});
  table_.ExpectNewest(vector_, 0, 4096, {TierKind::kHost, 50000});
  table_.SetNewest(vector_, 4096, 4096, {TierKind::kHost, 54096});
  table_.ExpectAllHome();
}

// When a guest's page comes home, its host's page there is gone; when the host's page is written anew, the guest's is
// gone.
TEST_F(PageTableTest, AGuestAndItsHostTakeTurnsAtHome) {
  const int guest = table_.AddGuest(vector_);
  table_.ExpectAllHome();
  table_.SetNewest(guest, 0, 4096, {TierKind::kDevice, 256});
  table_.ExpectNewest(vector_, 0, 4096, {TierKind::kHost, 50000});
  table_.SetNewest(guest, 0, 4096, {TierKind::kHost, 50000});
  table_.ExpectNewest(guest, 0, 4096, {TierKind::kHost, 50000});
  table_.ExpectNewest(vector_, 0, 4096, Frame());
  table_.ExpectAllHome();
  table_.SetNewest(vector_, 0, 4096, {TierKind::kHost, 50000});
  table_.ExpectNewest(guest, 0, 4096, Frame());
  table_.ExpectAllHome();
}

using PageTableDeathTest = PageTableTest;

TEST_F(PageTableDeathTest, FindsAGuestThatDidNotComeHome) {
  const int guest = table_.AddGuest(vector_);
  table_.SetNewest(guest, 8192, 1808, {TierKind::kDevice, 0});
  EXPECT_DEATH(table_.ExpectAllHome(), "page 2 of vector 0 is newest at host 58192, of its guest 1 at device 0");
}

TEST_F(PageTableDeathTest, FindsAStalePage) {
  table_.SetNewest(vector_, 10000, 10000, {TierKind::kDevice, 0});
  EXPECT_DEATH(table_.ExpectNewest(vector_, 10000, 4096, {TierKind::kHost, 60000}),
               "page 3 of vector 0 is newest at device 0");
}

TEST_F(PageTableDeathTest, FindsAPageThatDidNotComeHome) {
  table_.SetNewest(vector_, 8192, 1808, {TierKind::kDevice, 0});
  EXPECT_DEATH(table_.ExpectAllHome(), "page 2 of vector 0 is newest at device 0");
}

TEST_F(PageTableDeathTest, RefusesPartsOfPages) {
  EXPECT_DEATH(table_.SetNewest(vector_, 100, 4096, {TierKind::kDevice, 0}), "not a page border");
  EXPECT_DEATH(table_.SetNewest(vector_, 0, 5000, {TierKind::kDevice, 0}), "ends inside a page");
}

TEST(HostArenaTest, HoldsWhatWasWritten) {
  auto arena = MakeHostArena(TierKind::kDevice, 1 << 20);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->kind(), TierKind::kDevice);
  EXPECT_EQ((*arena)->bytes(), 1 << 20);
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*arena)->data()) % 4096, 0u);
  const std::vector<int32_t> written = {1, 2, 3};
  ASSERT_TRUE((*arena)->Write(4096, written.data(), 12).ok());
  std::vector<int32_t> read(3);
  ASSERT_TRUE((*arena)->Read(4096, read.data(), 12).ok());
  EXPECT_EQ(read, written);
}

// Each thread takes pieces of 64 MiB; here there are three and a part. Every page is resident before the run needs it.
TEST(HostArenaTest, SeveralThreadsTouchEveryPage) {
  constexpr int64_t kBytes = (int64_t{200} << 20) + 4096;
  auto arena = MakeHostArena(TierKind::kHost, kBytes, 3);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::vector<unsigned char> resident(kBytes / 4096);
  ASSERT_EQ(mincore((*arena)->data(), kBytes, resident.data()), 0);
  EXPECT_EQ(std::count_if(resident.begin(), resident.end(), [](unsigned char page) { return (page & 1) == 0; }), 0);
}

TEST(HostArenaTest, MayBeEmpty) {
  auto arena = MakeHostArena(TierKind::kHost, 0);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->bytes(), 0);
}

TEST(HostArenaTest, TakesTheMemoryOfItsSourceAndItsErrors) {
  constexpr int64_t kBytes = 8192;
  std::weak_ptr<std::byte> given;
  {
    const auto arena = MakeHostArena(TierKind::kDevice, kBytes, 3, [&](int64_t bytes, int threads) {
      EXPECT_EQ(bytes, kBytes);
      EXPECT_EQ(threads, 3);
      const std::shared_ptr<std::byte> memory(new std::byte[kBytes](), std::default_delete<std::byte[]>());
      given = memory;
      return absl::StatusOr<std::shared_ptr<std::byte>>(memory);
    });
    ASSERT_TRUE(arena.ok()) << arena.status();
    EXPECT_EQ((*arena)->data(), given.lock().get());
  }
  EXPECT_TRUE(given.expired());
  // A rank that wants no memory still takes part, because the call may be collective.
  bool asked = false;
  const ArenaSource none = [&](int64_t, int) {
    asked = true;
    return absl::StatusOr<std::shared_ptr<std::byte>>(nullptr);
  };
  EXPECT_TRUE(MakeHostArena(TierKind::kDevice, 0, 1, none).ok());
  EXPECT_TRUE(asked);
  EXPECT_NE(MakeHostArena(TierKind::kDevice, kBytes, 1, none).value()->data(), nullptr);
  const auto lost = MakeHostArena(TierKind::kDevice, kBytes, 1, [](int64_t, int) {
    return absl::StatusOr<std::shared_ptr<std::byte>>(absl::UnavailableError("rank 1 died"));
  });
  EXPECT_EQ(lost.status(), absl::UnavailableError("rank 1 died"));
}

TEST(HostArenaTest, SaysWhatItCannotReserve) {
  const auto arena = MakeHostArena(TierKind::kHost, int64_t{1} << 60);
  ASSERT_FALSE(arena.ok());
  EXPECT_NE(arena.status().message().find("host tier"), std::string::npos) << arena.status();
}

TEST(HostArenaDeathTest, RefusesAccessBeyondItsEnd) {
  auto arena = MakeHostArena(TierKind::kHost, 4096);
  ASSERT_TRUE(arena.ok());
  char byte = 0;
  EXPECT_DEATH((void)(*arena)->Read(4096, &byte, 1), "check failed");
}

}  // namespace
}  // namespace angel_ptm
