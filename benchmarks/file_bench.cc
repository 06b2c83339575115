// How near the file store is to what fio reaches on the same drive.
//
//   file_bench [--json FILE] DIRECTORY [MiB]
//
// Both move MiB (512 unless given) past the page cache by io_uring, in requests of the same size and depth, one after
// the other in the same run; the store sums and checks every 64 KiB besides. A call of the store waits for all of its
// bytes and is made again with the same memory, as fio reuses its buffers. "both" reads one half of the file while the
// other is written. Rates are medians of five.
//
//   file_bench mix DIRECTORY READ WRITE CALL
//
// Only the store's seconds for reading READ bytes while WRITE other ones are written, in calls of CALL bytes one after
// the other and with a checksum every 4 KiB, as lanes move pages: the least, the median and the most of five.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/memory/calls_file.h"
#include "angel_ptm/memory/file_store.h"
#include "angel_ptm/memory/scratch_file.h"
#include "angel_ptm/memory/tier.h"
#include "benchmarks/bench_record.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBlock = 64 << 10;
constexpr int kRepeats = 5, kModes = 3;
constexpr const char* kModeNames[kModes] = {"write", "read", "both"};

// As a run's host tier has it: on huge pages, of which a request needs fewer pieces than most drives take at once.
struct Memory {
  explicit Memory(int64_t n)
      : bytes(n), arena(std::move(MakeHostArena(TierKind::kHost, n)).value()), data(arena->data()) {
    uint64_t state = 1;
    for (int64_t at = 0; at < n; at += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      std::memcpy(data + at, &state, 8);
    }
  }
  const int64_t bytes;
  const std::unique_ptr<Tier> arena;
  std::byte* const data;
};

void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(1);
}

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Stretch {
  int64_t begin, end;
};

// Of the file, in calls one after the other, each with the next memory of one half of `memory`: reads have the first.
void Pass(FileStore& store, const Memory& memory, bool write, const Stretch& where, int64_t call) {
  const int64_t half = memory.bytes / 2;
  for (int64_t at = where.begin; at < where.end; at += call) {
    std::byte* const place = memory.data + (write ? half : 0) + (at - where.begin) / call * call % half;
    const int64_t n = std::min(call, where.end - at);
    Must(write ? store.Write(at, place, n) : store.Read(at, place, n));
  }
}

void PassBoth(FileStore& store, const Memory& memory, const Stretch& read, const Stretch& written, int64_t call) {
  std::thread writer([&] { Pass(store, memory, true, written, call); });
  Pass(store, memory, false, read, call);
  writer.join();
}

// Bytes per second. memory: of two calls.
double StoreRate(FileStore& store, const Memory& memory, int mode) {
  const int64_t call = memory.bytes / 2, all = store.bytes();
  const double seconds = Seconds([&] {
    if (mode < 2) return Pass(store, memory, mode == 0, {0, all}, call);
    PassBoth(store, memory, {0, all / 2}, {all / 2, all}, call);
  });
  return static_cast<double>(all) / seconds;
}

// Bytes per second of fio, its buffers on huge pages too; 0 where there is none. It keeps its file until the end.
double FioRate(const std::string& path, int64_t bytes, int mode, int64_t request, int depth) {
  const std::string common = absl::StrCat(
      "GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --minimal --ioengine=io_uring --fixedbufs=1 --registerfiles=1 "
      "--direct=1 --group_reporting --thread "
      "--filename=",
      path, " --filesize=", bytes, " --bs=", request, " --iodepth=", depth);
  const int64_t half = bytes / 2;
  const std::string jobs = mode < 2 ? absl::StrCat(" --name=one --size=", bytes, " --rw=", kModeNames[mode])
                                    : absl::StrCat(" --name=reader --rw=read --size=", half,
                                                   " --name=writer --rw=write --offset=", half, " --size=", half);
  std::FILE* const output = popen((common + jobs + " 2>/dev/null").c_str(), "r");
  if (output == nullptr) return 0;
  std::string text;
  for (int c; (c = std::fgetc(output)) != EOF;) text += static_cast<char>(c);
  if (pclose(output) != 0) return 0;
  // Version 3 of its terse format: bytes read and written and the milliseconds each took.
  const std::vector<std::string> fields = absl::StrSplit(text, ';');
  double kib = 0, milliseconds = 0;
  for (const size_t first : {size_t{5}, size_t{46}}) {
    double moved = 0, took = 0;
    if (fields.size() < 60 || !absl::SimpleAtod(fields[first], &moved) || !absl::SimpleAtod(fields[first + 3], &took)) {
      return 0;
    }
    kib += moved;
    milliseconds = std::max(milliseconds, took);
  }
  return kib * 1024 / (milliseconds * 1e-3);
}

double Median(std::array<double, kRepeats> values) {
  std::nth_element(values.begin(), values.begin() + kRepeats / 2, values.end());
  return values[kRepeats / 2];
}

struct Row {
  int64_t request;
  int depth;
  int64_t call_bytes;
  bool calls;  // by pread and pwrite instead of io_uring
  int64_t block_bytes = kBlock;
};

std::unique_ptr<FileStore> MakeStore(const std::string& directory, int64_t bytes, const Memory& memory,
                                     const Row& row) {
  const FileStoreOptions options = {.directory = directory,
                                    .name = "the benchmark's pages",
                                    .bytes = bytes,
                                    .block_bytes = std::min(row.block_bytes, row.request),
                                    .queue_depth = row.depth,
                                    .request_bytes = row.request};
  if (row.calls) {
    auto file = ScratchFile::Create({.directory = directory, .name = options.name, .bytes = options.bytes});
    Must(file.status());
    return FileStore::CreateOn(options, MakeCallsFile(*std::move(file), row.depth));
  }
  auto store = FileStore::Create(options);
  Must(store.status());
  if (const absl::Status status = (*store)->RegisterBuffer(memory.data, memory.bytes); !status.ok()) {
    std::printf("%s\n", std::string(status.message()).c_str());
  }
  return *std::move(store);
}

void MeasureMix(const std::string& directory, int64_t read, int64_t write, int64_t call) {
  // More than caches hold, as a run's pages on their way are.
  const Memory memory(2 * call * std::max<int64_t>(1, (int64_t{64} << 20) / call));
  const int64_t half = std::max(read, write);
  const auto store = MakeStore(directory, 2 * half, memory, {int64_t{1} << 20, 32, call, false, kFileAlignment});
  Pass(*store, memory, true, {0, store->bytes()}, call);
  std::array<double, kRepeats> seconds;
  int64_t from = 0, to = half;
  for (double& s : seconds) {
    s = Seconds([&] { PassBoth(*store, memory, {from, from + read}, {to, to + write}, call); });
    std::swap(from, to);  // what a step reads, the one before has written
  }
  std::sort(seconds.begin(), seconds.end());
  std::printf("%.6f %.6f %.6f\n", seconds.front(), seconds[kRepeats / 2], seconds.back());
}

int Mix(int argc, char** argv) {
  std::array<int64_t, 3> bytes = {};
  bool sound = argc == 6;
  for (size_t i = 0; sound && i < bytes.size(); ++i) {
    sound = absl::SimpleAtoi(argv[i + 3], &bytes[i]) && bytes[i] >= (i == 2 ? kFileAlignment : 0) &&
            bytes[i] % kFileAlignment == 0;
  }
  if (!sound || bytes[0] + bytes[1] == 0) {
    std::fprintf(stderr, "usage: file_bench mix DIRECTORY READ WRITE CALL, bytes in multiples of %lld\n",
                 static_cast<long long>(kFileAlignment));
    return 2;
  }
  MeasureMix(argv[2], bytes[0], bytes[1], bytes[2]);
  return 0;
}

void Measure(const std::string& directory, int64_t bytes, const Row& row, BenchRecord& record) {
  const Memory memory(2 * row.call_bytes);
  const std::string fio_file = directory + "/file_bench.fio";
  const auto store = MakeStore(directory, bytes, memory, row);
  StoreRate(*store, memory, 0);  // the first writes to reserved room are slower
  std::array<std::array<double, kRepeats>, kModes> ours, fio;
  for (int r = 0; r < kRepeats; ++r) {
    for (int mode = 0; mode < kModes; ++mode) {
      ours[mode][r] = StoreRate(*store, memory, mode);
      fio[mode][r] = row.calls ? 0 : FioRate(fio_file, bytes, mode, row.request, row.depth);
    }
  }
  const std::string request = FormatBytes(row.request), call = FormatBytes(row.call_bytes);
  std::printf("%-9s %5d %-9s", request.c_str(), row.depth, call.c_str());
  for (int mode = 0; mode < kModes; ++mode) {
    const double a = Median(ours[mode]), b = Median(fio[mode]);
    std::printf("  %5.2f %5.2f %4.0f%%", a * 1e-9, b * 1e-9, b > 0 ? 100 * a / b : 0);
    if (b > 0) {
      record.Add(absl::StrCat(kModeNames[mode], ", ", row.depth, " of ", request, ", calls of ", call),
                 "share of fio's rate", Better::kMore, a / b);
    }
  }
  std::printf("  %s\n", store->description().c_str());
  std::fflush(stdout);
}

}  // namespace
}  // namespace angel_ptm

int main(int argc, char** argv) {
  using namespace angel_ptm;
  if (argc > 1 && std::strcmp(argv[1], "mix") == 0) return Mix(argc, argv);
  BenchRecord record("file_bench", &argc, argv);
  const int64_t mib = argc > 2 ? std::atoll(argv[2]) : 512;
  if (argc < 2 || mib < 64 || mib % 64 != 0) {
    std::fprintf(stderr, "usage: file_bench [--json FILE] DIRECTORY [MiB, a multiple of 64]\n");
    return 2;
  }
  const std::string directory = argv[1];
  const int64_t bytes = mib << 20;
  std::printf("GB/s of %lld MiB: the store, fio (0: none), the store's share of fio's\n", static_cast<long long>(mib));
  std::printf("%-9s %5s %-9s  %-17s  %-17s  %s\n", "request", "depth", "call", "write", "read", "both");
  for (const int64_t request : {int64_t{64} << 10, int64_t{1} << 20, int64_t{4} << 20}) {
    for (const int depth : {1, 8, 32}) {
      // Much more than is in flight, so that its end counts little.
      const int64_t call = std::clamp(4 * depth * request, int64_t{32} << 20, bytes / 2);
      Measure(directory, bytes, {request, depth, call, false}, record);
    }
  }
  // As a player of pages calls it, and without io_uring.
  Measure(directory, bytes, {int64_t{1} << 20, 32, int64_t{4} << 20, false}, record);
  Measure(directory, bytes, {int64_t{1} << 20, 32, int64_t{128} << 20, true}, record);
  std::remove((directory + "/file_bench.fio").c_str());
}
