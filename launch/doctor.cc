#include "launch/doctor.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/cluster.h"
#include "launch/isa_choice.h"
#include "launch/machine_checks.h"
#include "launch/machine_memory.h"
#include "launch/machine_rates.h"

namespace angel_ptm {
namespace {

constexpr double kGiga = 1e-9;

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "a processor";
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "a machine without a name";
}

double MedianOf(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// The rate of the largest step of that name.
double LastRate(const ClusterDevice& device, const std::string& name, double otherwise) {
  for (const ClusterKernelRate& kernel : device.kernel()) {
    if (kernel.name() == name) return kernel.at(kernel.at_size() - 1).per_second();
  }
  return otherwise;
}

class Doctor {
 public:
  Doctor(const DoctorRequest& request, Communicator& world, Communicator& node, std::FILE* out)
      : request_(request), world_(world), node_(node), nodes_(world.size() / node.size()), out_(out) {}

  absl::Status Examine() {
    RETURN_IF_ERROR(FindMachines());
    RETURN_IF_ERROR(CheckMachines());
    Cluster cluster;
    Describe(&cluster);
    RETURN_IF_ERROR(Measure(&cluster));
    RETURN_IF_ERROR(ValidateCluster(cluster));
    return AgreeOn(Write(cluster), world_);
  }

 private:
  template <typename... Args>
  void Say(const absl::FormatSpec<Args...>& format, const Args&... args) const {
    if (world_.rank() != 0) return;
    absl::FPrintF(out_, format, args...);
    std::fflush(out_);
  }

  absl::Status FindMachines() {
    ASSIGN_OR_RETURN(hosts_, TextsOf(HostName(), world_));
    ASSIGN_OR_RETURN(const std::vector<double> sizes, ValuesOf(node_.size(), world_));
    for (size_t rank = 0; rank < sizes.size(); ++rank) {
      if (sizes[rank] == sizes[0]) continue;
      return absl::FailedPreconditionError(absl::StrCat("doctor: ", hosts_[0], " has ", sizes[0], " ranks, ",
                                                        hosts_[rank], " has ", sizes[rank],
                                                        ": a cluster file is of equal nodes"));
    }
    return absl::OkStatus();
  }

  // Reports rank 0's machine in full, and problems of the other machines.
  absl::Status CheckMachines() {
    std::string text;
    int bad = 0;
    if (node_.rank() == 0) {
      const CalibrationOptions& o = request_.calibration;
      for (const MachineCheck& check : CheckMachine(
               {.ranks = node_.size(), .threads = o.threads, .cores = request_.cores}, o.directory, o.allow_buffered)) {
        bad += check.verdict == MachineCheck::Verdict::kBad ? 1 : 0;
        if (world_.rank() == 0) {
          Say("%s\n", ToText(check));
        } else if (check.verdict != MachineCheck::Verdict::kOk) {
          absl::StrAppend(&text, ToText(check), ", on ", hosts_[static_cast<size_t>(world_.rank())], "\n");
        }
      }
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> texts, TextsOf(text, world_));
    for (const std::string& others : texts) Say("%s", others);
    ASSIGN_OR_RETURN(const std::vector<double> bad_of_ranks, ValuesOf(bad, world_));
    int all = 0;
    for (const double of_rank : bad_of_ranks) all += static_cast<int>(of_rank);
    if (all == 0) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat("doctor: ", all, " of these keep runs from starting"));
  }

  void Describe(Cluster* cluster) const {
    const int ranks = node_.size(), threads = request_.calibration.threads;
    cluster->set_name(absl::StrCat(ProcessorName(), ", ", ranks, " x ", threads, " threads"));
    cluster->set_nodes(nodes_);
    cluster->set_devices_per_node(ranks);
    ClusterDevice& device = *cluster->mutable_device();
    device.set_kind(ClusterDevice::HOST);
    device.set_threads(threads);
    const int64_t memory = MachineMemoryBytes();
    ClusterHost& host = *cluster->mutable_host();
    host.set_bytes(memory);
    host.set_reserve_bytes(memory / 5);  // the share that memory.host_bytes = 0 leaves
    host.set_cores(request_.cores);
    device.set_bytes((memory - memory / 5) / ranks);
  }

  absl::Status Measure(Cluster* cluster) {
    const auto begin = std::chrono::steady_clock::now();
    for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
      RETURN_IF_ERROR(MeasureProducts(type, cluster->mutable_device()));
    }
    RETURN_IF_ERROR(MeasureCopies(cluster));
    if (!request_.calibration.directory.empty()) RETURN_IF_ERROR(MeasureDrives(cluster->mutable_file()));
    RETURN_IF_ERROR(MeasureNetworks(cluster));
    const double used = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    RETURN_IF_ERROR(MeasureSteps(std::max(request_.seconds / 4, request_.seconds - used), cluster->mutable_device()));
    cluster->mutable_host()->set_adamw_bytes_per_second(
        LastRate(cluster->device(), "AdamW on the host", cluster->link().to_host_bytes_per_second()) * node_.size());
    return absl::OkStatus();
  }

  absl::StatusOr<const KernelTable*> KernelsFor(DType type) {
    const auto rate = [type](const CpuIsa& isa) { return MatmulRate(isa, type); };
    ASSIGN_OR_RETURN(const IsaChoice choice, AgreeOnIsa(request_.isa, type, RunnableCpuIsas(), rate, world_));
    return &choice.isa->kernels();
  }

  // Prints a row for each shape; the rates of square shapes go into the file.
  absl::Status MeasureProducts(DType type, ClusterDevice* device) {
    ASSIGN_OR_RETURN(const KernelTable* const kernels, KernelsFor(type));
    ClusterMatrixRate& matrix = *device->add_matrix();
    matrix.set_type(type == DType::kBFloat16 ? ClusterMatrixRate::BF16 : ClusterMatrixRate::FP32);
    double peak = 0, longest = 0;
    const std::vector<ProductShape> shapes = {{64, 64, 64},     {128, 128, 128},    {256, 256, 256},
                                              {512, 512, 512},  {1024, 1024, 1024}, {16, 1024, 1024},
                                              {512, 4096, 512}, {1024, 256, 4096}};
    for (const ProductShape& shape : shapes) {
      ASSIGN_OR_RETURN(const std::vector<double> rates, MatrixRates(*kernels, type, shape, request_.calibration.threads,
                                                                    request_.seconds * 0.004, world_));
      double rate = 0;
      for (const double of_rank : rates) rate += of_rank / world_.size();
      Say("%-5s product %5d x %5d x %5d  %8.1f GFLOP/s\n", Name(type), shape.m, shape.n, shape.k, rate * kGiga);
      peak = std::max(peak, rate);
      if (shape.m == 1024 && shape.k == 1024) NameTheSlow(absl::StrCat(Name(type), " products"), rates);
      if (shape.m != shape.n || shape.n != shape.k || rate <= 0) continue;
      longest = std::max(longest, shape.flops() / rate);
      ClusterRatePoint& point = *matrix.add_at();
      point.set_work(shape.flops());
      point.set_per_second(shape.flops() / longest);
      peak = std::max(peak, point.per_second());  // may be one rounding above the rate that gave the time
    }
    matrix.set_peak_flops_per_second(peak);
    return absl::OkStatus();
  }

  // All others wait for a rank that is slower than they are, which a file of equal nodes does not show.
  void NameTheSlow(const std::string& what, const std::vector<double>& rates) const {
    constexpr double kSlow = 0.9;
    const double typical = MedianOf(rates);
    for (size_t rank = 0; rank < rates.size(); ++rank) {
      if (rates[rank] >= kSlow * typical) continue;
      Say("note  %s: rank %d on %s reaches %.0f %% of the median of all ranks, which wait for it\n", what, rank,
          hosts_[rank], 100 * rates[rank] / typical);
    }
  }

  absl::Status MeasureCopies(Cluster* cluster) {
    const int ranks = node_.size();
    ASSIGN_OR_RETURN(const MemoryRates memory, MeasureMemory(request_.calibration.threads, node_));
    Say("memory %.2f GB/s read and written by all, a copy by one thread %.2f GB/s\n", memory.node * kGiga,
        memory.copy * kGiga);
    ASSIGN_OR_RETURN(const std::vector<double> all, ValuesOf(memory.node, world_));
    NameTheSlow("memory", all);
    cluster->mutable_host()->set_memory_bytes_per_second(memory.node);
    cluster->mutable_device()->set_memory_bytes_per_second(memory.node / ranks);
    const double copy = std::min(memory.copy, memory.node / ranks);
    cluster->mutable_link()->set_to_device_bytes_per_second(copy);
    cluster->mutable_link()->set_to_host_bytes_per_second(copy);
    return absl::OkStatus();
  }

  absl::Status MeasureDrives(ClusterFile* file) {
    const std::string& directory = request_.calibration.directory;
    // A machine's files are unknown to the others, so all must agree on an error.
    const auto rates = MeasureFiles(directory, request_.calibration.allow_buffered, node_);
    RETURN_IF_ERROR(AgreeOn(rates.status(), world_));
    for (const FileRate& rate : *rates) {
      Say("file  requests of %-8s depth %-3d  write %6.2f  read %6.2f  both %6.2f GB/s, %.2f cores\n",
          FormatBytes(rate.request_bytes), rate.depth, rate.write * kGiga, rate.read * kGiga, rate.both * kGiga,
          rate.cores);
    }
    const FileRate& used = rates->back();  // with the parameters of the file tier
    ASSIGN_OR_RETURN(const std::vector<double> reads, ValuesOf(used.read, world_));
    NameTheSlow("reads of files", reads);
    ASSIGN_OR_RETURN(const std::vector<double> writes, ValuesOf(used.write, world_));
    NameTheSlow("writes of files", writes);
    struct statvfs system = {};
    const bool known = statvfs(directory.c_str(), &system) == 0;
    RETURN_IF_ERROR(AgreeOn(known ? absl::OkStatus() : FileError("ask for the room on", directory, errno), world_));
    file->set_bytes(static_cast<int64_t>(system.f_bavail) * static_cast<int64_t>(system.f_frsize));
    file->set_read_bytes_per_second(used.read);
    file->set_write_bytes_per_second(used.write);
    file->set_both_bytes_per_second(std::min(used.both, used.read + used.write));
    file->set_cores(used.cores);
    return absl::OkStatus();
  }

  // `receives`: bytes per second that a rank or node receives from others in a gather among `size`; `latency`: of the
  // gather, which is divided by its rounds.
  void SetNetwork(const std::string& between, int size, double receives, double latency,
                  ClusterNetwork* network) const {
    network->set_bytes_per_second(receives);
    network->set_latency_seconds(std::max(0.0, latency) / std::ceil(std::log2(size)));
    Say("network between %d %s: %.2f GB/s, latency %.1f us\n", size, between, receives * kGiga,
        network->latency_seconds() * 1e6);
  }

  absl::Status MeasureNetworks(Cluster* cluster) const {
    double latency_inside = 0;
    if (node_.size() > 1) {
      ASSIGN_OR_RETURN(const NetworkRate rate, MeasureNetwork(node_, world_));
      latency_inside = rate.latency_seconds;
      SetNetwork("ranks of a node", node_.size(), rate.bytes_per_second * (node_.size() - 1) / node_.size(),
                 latency_inside, cluster->mutable_inside_node());
    }
    if (nodes_ > 1) {
      // All ranks of a node communicate at the same time: each with the ranks at its place in other nodes or, if nodes
      // are not contiguous, with all.
      const CommunicatorLevels* const levels = world_.levels();
      Communicator& ranks = levels == nullptr ? world_ : *levels->across;
      ASSIGN_OR_RETURN(const NetworkRate rate, MeasureNetwork(ranks, world_));
      SetNetwork("nodes", nodes_, rate.bytes_per_second * (nodes_ - 1) / nodes_ * node_.size(),
                 rate.latency_seconds - (levels == nullptr ? latency_inside : 0), cluster->mutable_between_nodes());
    }
    return absl::OkStatus();
  }

  absl::Status MeasureSteps(double seconds, ClusterDevice* device) {
    StepSamples samples;
    std::vector<double> launch;
    for (const DType type : {DType::kFloat32, DType::kBFloat16}) {
      CalibrationOptions options = request_.calibration;
      options.seconds = seconds / 2;
      ASSIGN_OR_RETURN(const KernelTable* const kernels, KernelsFor(type));
      RETURN_IF_ERROR(Calibrate(options, *kernels, type, world_, &samples, &launch));
    }
    if (world_.rank() == 0) AddKernelRates(samples, device);
    if (!launch.empty()) device->set_launch_seconds(*std::min_element(launch.begin(), launch.end()));
    for (const ClusterKernelRate& kernel : device->kernel()) {
      Say("%-5s step %-28s", kernel.type() == ClusterMatrixRate::BF16 ? "BF16" : "F32", kernel.name());
      for (const int i : {0, kernel.at_size() - 1}) {
        Say("  %8s at %9s/s", FormatCount(kernel.at(i).work()), FormatCount(kernel.at(i).per_second()));
      }
      Say("\n");
    }
    return absl::OkStatus();
  }

  // Only rank 0 has the complete cluster.
  absl::Status Write(const Cluster& cluster) const {
    if (world_.rank() != 0 || request_.output.empty()) return absl::OkStatus();
    RETURN_IF_ERROR(
        WriteFile(request_.output, absl::StrCat("# Measured by angel-ptm doctor. The fields are described in "
                                                "angel_ptm/config/cluster.proto.\n",
                                                ToText(cluster))));
    Say("wrote %s\n", request_.output);
    return absl::OkStatus();
  }

  const DoctorRequest& request_;
  Communicator& world_;
  Communicator& node_;
  const int nodes_;
  std::FILE* const out_;
  std::vector<std::string> hosts_;  // by rank
};

}  // namespace

absl::Status ExamineMachines(const DoctorRequest& request, Communicator& world, Communicator& node, std::FILE* out) {
  return Doctor(request, world, node, out).Examine();
}

}  // namespace angel_ptm
