// angel-ptm doctor: what of this machine helps or hinders, and its rates as a cluster file.
#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/cluster.h"
#include "comm/mpi_environment.h"
#include "launch/calibrate.h"
#include "launch/commands.h"
#include "launch/isa_choice.h"
#include "launch/machine_checks.h"
#include "launch/machine_memory.h"
#include "launch/machine_rates.h"

namespace angel_ptm {
namespace {

constexpr double kGiga = 1e-9;

struct DoctorRequest {
  CalibrationOptions calibration;
  double seconds = 0;
  std::string isa, output;
};

absl::StatusOr<DoctorRequest> RequestFrom(const Arguments& arguments) {
  DoctorRequest request;
  ASSIGN_OR_RETURN(request.seconds, arguments.GetDouble("seconds", 50));
  ASSIGN_OR_RETURN(const int64_t ranks, arguments.GetInt("ranks", 1));
  constexpr double kSecondsMin = 1, kSecondsMax = 3600;
  if (!(request.seconds >= kSecondsMin && request.seconds <= kSecondsMax)) {
    return absl::InvalidArgumentError(absl::StrCat("--seconds: wanted 1 to 3600, got ", request.seconds));
  }
  const RunFacts facts = MachineFacts();
  constexpr int64_t kRanksMax = 64;
  if (ranks < 1 || ranks > kRanksMax) {
    return absl::InvalidArgumentError(absl::StrCat("--ranks: wanted 1 to ", kRanksMax, ", got ", ranks));
  }
  const int own_cores = std::max(1, facts.cores / static_cast<int>(ranks));
  const int most =
      facts.kernel_threads_max > 0 ? std::max(1, facts.kernel_threads_max / static_cast<int>(ranks)) : 1024;
  ASSIGN_OR_RETURN(const int64_t threads, arguments.GetInt("threads-per-rank", std::min(own_cores, most)));
  if (threads < 1 || threads > most) {
    return absl::InvalidArgumentError(absl::StrCat("--threads-per-rank: wanted 1 to ", most, ", got ", threads));
  }
  request.calibration = {.ranks = static_cast<int>(ranks),
                         .threads = static_cast<int>(threads),
                         .directory = arguments.Get("directory", ""),
                         .allow_buffered = arguments.Has("allow-buffered")};
  request.isa = arguments.Get("isa", "");
  request.output = arguments.Get("out", "");
  return request;
}

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "a processor";
}

// Prints a row per shape; of square ones the rates go into the file.
void MatrixRates(const DoctorRequest& request, const KernelTable& kernels, DType type, ClusterDevice* device) {
  const CalibrationOptions& o = request.calibration;
  ClusterMatrixRate& matrix = *device->add_matrix();
  matrix.set_type(type == DType::kBFloat16 ? ClusterMatrixRate::BF16 : ClusterMatrixRate::FP32);
  double peak = 0, longest = 0;
  const std::vector<ProductShape> shapes = {{64, 64, 64},       {128, 128, 128},  {256, 256, 256},  {512, 512, 512},
                                            {1024, 1024, 1024}, {16, 1024, 1024}, {512, 4096, 512}, {1024, 256, 4096}};
  for (const ProductShape& shape : shapes) {
    const double rate = MatrixRate(kernels, type, shape, o.ranks, o.threads, request.seconds * 0.004);
    std::printf("%-5s product %5lld x %5lld x %5lld  %8.1f GFLOP/s\n", Name(type), static_cast<long long>(shape.m),
                static_cast<long long>(shape.n), static_cast<long long>(shape.k), rate * kGiga);
    std::fflush(stdout);
    peak = std::max(peak, rate);
    if (shape.m != shape.n || shape.n != shape.k || rate <= 0) continue;
    longest = std::max(longest, shape.flops() / rate);
    ClusterRatePoint& point = *matrix.add_at();
    point.set_work(shape.flops());
    point.set_per_second(shape.flops() / longest);
  }
  matrix.set_peak_flops_per_second(peak);
}

absl::Status FileRates(const DoctorRequest& request, ClusterFile* file) {
  const std::string& directory = request.calibration.directory;
  ASSIGN_OR_RETURN(const std::vector<FileRate> rates, MeasureFiles(directory, request.calibration.allow_buffered));
  for (const FileRate& rate : rates) {
    std::printf("file  requests of %-8s depth %-3d  write %6.2f  read %6.2f  both %6.2f GB/s, %.2f cores\n",
                FormatBytes(rate.request_bytes).c_str(), rate.depth, rate.write * kGiga, rate.read * kGiga,
                rate.both * kGiga, rate.cores);
  }
  const FileRate& used = rates.back();  // as the file tier has them
  struct statvfs system = {};
  if (statvfs(directory.c_str(), &system) != 0) return FileError("ask for the room on", directory, errno);
  file->set_bytes(static_cast<int64_t>(system.f_bavail) * static_cast<int64_t>(system.f_frsize));
  file->set_read_bytes_per_second(used.read);
  file->set_write_bytes_per_second(used.write);
  file->set_both_bytes_per_second(std::min(used.both, used.read + used.write));
  file->set_cores(used.cores);
  return absl::OkStatus();
}

// The rate of the largest step of that name.
double LastRate(const ClusterDevice& device, const std::string& name, double otherwise) {
  for (const ClusterKernelRate& kernel : device.kernel()) {
    if (kernel.name() == name) return kernel.at(kernel.at_size() - 1).per_second();
  }
  return otherwise;
}

absl::Status StepRates(const DoctorRequest& request, double seconds, Cluster* cluster) {
  ClusterDevice& device = *cluster->mutable_device();
  StepSamples samples;
  std::vector<double> launch;
  for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
    CalibrationOptions options = request.calibration;
    options.seconds = seconds / 2;
    ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa(request.isa, type));
    RETURN_IF_ERROR(Calibrate(options, choice.isa->kernels(), type, &samples, &launch));
  }
  AddKernelRates(samples, &device);
  if (!launch.empty()) device.set_launch_seconds(*std::min_element(launch.begin(), launch.end()));
  for (const ClusterKernelRate& kernel : device.kernel()) {
    std::printf("%-5s step %-28s", kernel.type() == ClusterMatrixRate::BF16 ? "BF16" : "F32", kernel.name().c_str());
    for (const int i : {0, kernel.at_size() - 1}) {
      std::printf("  %8s at %9s/s", FormatCount(kernel.at(i).work()).c_str(),
                  FormatCount(kernel.at(i).per_second()).c_str());
    }
    std::printf("\n");
  }
  return absl::OkStatus();
}

absl::Status Measure(const DoctorRequest& request, Cluster* cluster) {
  const CalibrationOptions& o = request.calibration;
  const auto begin = std::chrono::steady_clock::now();
  ClusterDevice& device = *cluster->mutable_device();
  for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
    ASSIGN_OR_RETURN(const IsaChoice choice, ChooseIsa(request.isa, type));
    MatrixRates(request, choice.isa->kernels(), type, &device);
  }
  const MemoryRates memory = MeasureMemory(o.ranks, o.threads);
  std::printf("memory %.2f GB/s read and written by all, a copy by one thread %.2f GB/s\n", memory.node * kGiga,
              memory.copy * kGiga);
  std::fflush(stdout);
  ClusterHost& host = *cluster->mutable_host();
  host.set_memory_bytes_per_second(memory.node);
  device.set_memory_bytes_per_second(memory.node / o.ranks);
  const double copy = std::min(memory.copy, memory.node / o.ranks);
  cluster->mutable_link()->set_to_device_bytes_per_second(copy);
  cluster->mutable_link()->set_to_host_bytes_per_second(copy);
  if (!o.directory.empty()) RETURN_IF_ERROR(FileRates(request, cluster->mutable_file()));
  const double used = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  RETURN_IF_ERROR(StepRates(request, std::max(request.seconds / 4, request.seconds - used), cluster));
  host.set_adamw_bytes_per_second(LastRate(device, "AdamW on the host", memory.copy) * o.ranks);
  if (o.ranks > 1) cluster->mutable_inside_node()->set_bytes_per_second(LastRate(device, "all-gather", copy));
  return absl::OkStatus();
}

}  // namespace

absl::Status DoctorCommand(const std::vector<std::string>& words) {
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words, {.flags = {"directory", "isa", "out", "ranks", "seconds", "threads-per-rank"},
                               .switches = {"allow-buffered"}}));
  const auto [launcher, processes] = LaunchedProcesses([](const char* name) { return std::getenv(name); });
  if (processes > 1) {
    return absl::FailedPreconditionError(absl::StrCat("doctor: ", launcher, " says that ", processes,
                                                      " processes were started; ranks are measured as threads of one, "
                                                      "so start one alone, with --ranks ",
                                                      processes));
  }
  ASSIGN_OR_RETURN(const DoctorRequest request, RequestFrom(arguments));
  const CalibrationOptions& o = request.calibration;
  int bad = 0;
  for (const MachineCheck& check : CheckMachine(o.ranks, o.threads, o.directory, o.allow_buffered)) {
    std::printf("%s\n", ToText(check).c_str());
    bad += check.verdict == MachineCheck::Verdict::kBad ? 1 : 0;
  }
  std::fflush(stdout);
  if (bad > 0) return absl::FailedPreconditionError(absl::StrCat("doctor: ", bad, " of these keep runs from starting"));
  Cluster cluster;
  cluster.set_name(absl::StrCat(ProcessorName(), ", ", o.ranks, " x ", o.threads, " threads"));
  cluster.set_devices_per_node(o.ranks);
  ClusterDevice& device = *cluster.mutable_device();
  device.set_kind(ClusterDevice::HOST);
  device.set_threads(o.threads);
  const int64_t memory = MachineMemoryBytes();
  cluster.mutable_host()->set_bytes(memory);
  cluster.mutable_host()->set_reserve_bytes(memory / 5);  // as memory.host_bytes has it
  cluster.mutable_host()->set_cores(MachineFacts().cores);
  device.set_bytes((memory - memory / 5) / o.ranks);
  RETURN_IF_ERROR(Measure(request, &cluster));
  RETURN_IF_ERROR(ValidateCluster(cluster));
  if (request.output.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(WriteFile(request.output, absl::StrCat("# Measured by angel-ptm doctor. What its fields mean: "
                                                         "angel_ptm/config/cluster.proto.\n",
                                                         ToText(cluster))));
  std::printf("wrote %s\n", request.output.c_str());
  return absl::OkStatus();
}

}  // namespace angel_ptm
