// Law 5: reading and writing pages allocates nothing. The counter replaces malloc in the whole program.
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "angel_ptm/memory/calls_file.h"
#include "angel_ptm/memory/file_store.h"
#include "angel_ptm/memory/scratch_file.h"
#include "tests/exec/allocation_counter.h"
#include "tests/memory/aligned_bytes.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"

namespace angel_ptm {
namespace {

void ExpectNoAllocations(FileStore& store) {
  const int64_t half = store.bytes() / 2;
  AlignedBytes written(half), read(half);
  OrDie(store.Write(0, written.data(), half));
  OrDie(store.Read(0, read.data(), half));
  const int64_t before = AllocationCalls();
  for (int i = 0; i < 3; ++i) {
    OrDie(store.Write(half, written.data(), half));
    OrDie(store.Read(0, read.data(), half));
    OrDie(store.Read(half, read.data(), half));
  }
  EXPECT_EQ(AllocationCalls() - before, 0) << store.description();
}

TEST(FileStoreAllocationsTest, NoneAfterCreate) {
  const TemporaryFolder folder;
  const FileStoreOptions options = {.directory = folder.path(),
                                    .name = "pages",
                                    .bytes = 64 * kFileAlignment,
                                    .block_bytes = kFileAlignment,
                                    .allow_buffered = true,
                                    .queue_depth = 4,
                                    .request_bytes = 3 * kFileAlignment};
  ExpectNoAllocations(*OrDie(FileStore::Create(options)));
  ScratchFile file = OrDie(ScratchFile::Create(
      {.directory = folder.path(), .name = "pages", .bytes = options.bytes, .allow_buffered = true}));
  ExpectNoAllocations(*FileStore::CreateOn(options, MakeCallsFile(std::move(file), options.queue_depth)));
}

}  // namespace
}  // namespace angel_ptm
