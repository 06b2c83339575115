#include "angel_ptm/config/cluster.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/base/text.h"

namespace angel_ptm {
namespace {

using google::protobuf::TextFormat;

class Positions : public google::protobuf::io::ErrorCollector {
 public:
  explicit Positions(std::string name) : name_(std::move(name)) {}
  void AddError(int line, int column, const std::string& message) override {
    lines_.push_back(absl::StrCat(name_, ":", line + 1, ":", column + 1, ": ", message));
  }
  std::string Text() const { return absl::StrJoin(lines_, "\n"); }

 private:
  const std::string name_;
  std::vector<std::string> lines_;
};

std::string Rate(double per_second) { return absl::StrCat(FormatCount(per_second), "/s"); }

// Relative tolerance, because rates are written with few digits.
constexpr double kRounding = 1e-3;

class ClusterChecks {
 public:
  std::vector<std::string> Run(const Cluster& c) {
    Positive("nodes", static_cast<double>(c.nodes()));
    Positive("devices_per_node", static_cast<double>(c.devices_per_node()));
    Device(c);
    Host(c);
    Link(c);
    if (c.has_file()) File(c.file());
    Networks(c);
    return std::move(wrong_);
  }

 private:
  template <typename... Parts>
  void Say(const Parts&... parts) {
    wrong_.push_back(absl::StrCat(parts...));
  }
  // Values from 1e30 on are taken for typing mistakes. NaN fails, too.
  bool Positive(const std::string& field, double value) {
    if (value > 0 && value < 1e30) return true;
    Say(field, ": wanted more than 0, got ", value);
    return false;
  }
  void NotNegative(const std::string& field, double value) {
    if (!(value >= 0 && value < 1e30)) Say(field, ": wanted at least 0, got ", value);
  }
  void Reserve(const std::string& of, int64_t bytes, int64_t reserve) {
    NotNegative(absl::StrCat(of, ".reserve_bytes"), static_cast<double>(reserve));
    if (bytes > 0 && reserve >= bytes) {
      Say(of, ".reserve_bytes is ", FormatBytes(reserve), " of ", of, ".bytes ", FormatBytes(bytes),
          ", which leaves nothing");
    }
  }

  void Points(const std::string& field, const google::protobuf::RepeatedPtrField<ClusterRatePoint>& points) {
    if (points.empty()) Say(field, ".at: wanted at least one point, got none");
    for (int i = 0; i < points.size(); ++i) {
      const std::string at = absl::StrCat(field, ".at[", i, "]");
      if (!Positive(at + ".work", points[i].work()) || !Positive(at + ".per_second", points[i].per_second())) return;
      if (i == 0) continue;
      const ClusterRatePoint &less = points[i - 1], &more = points[i];
      if (more.work() <= less.work()) {
        Say(at, ".work is ", FormatCount(more.work()), ", wanted more than the ", FormatCount(less.work()),
            " of the point before");
      } else if (more.work() / more.per_second() < less.work() / less.per_second() * (1 - kRounding)) {
        Say(at, ": ", FormatCount(more.work()), " at ", Rate(more.per_second()), " take less time than ",
            FormatCount(less.work()), " at ", Rate(less.per_second()), ", which cannot be");
      }
    }
  }

  void Device(const Cluster& c) {
    const ClusterDevice& d = c.device();
    Positive("device.bytes", static_cast<double>(d.bytes()));
    Reserve("device", d.bytes(), d.reserve_bytes());
    Positive("device.memory_bytes_per_second", d.memory_bytes_per_second());
    NotNegative("device.launch_seconds", d.launch_seconds());
    Positive("device.threads", d.threads());
    if (d.matrix().empty()) Say("device.matrix: wanted the rate of at least one type, got none");
    std::set<int> types;
    for (int i = 0; i < d.matrix_size(); ++i) {
      const ClusterMatrixRate& rate = d.matrix(i);
      const std::string field = absl::StrCat("device.matrix[", i, "]");
      if (!types.insert(rate.type()).second) {
        Say(field, ": a second rate for ", ClusterMatrixRate::Type_Name(rate.type()));
      }
      Points(field, rate.at());
      if (!Positive(field + ".peak_flops_per_second", rate.peak_flops_per_second())) continue;
      for (const ClusterRatePoint& point : rate.at()) {
        if (point.per_second() <= rate.peak_flops_per_second()) continue;
        Say(field, ": products of ", FormatCount(point.work()), " FLOPs have ", Rate(point.per_second()),
            ", more than the peak of ", Rate(rate.peak_flops_per_second()));
      }
    }
    std::set<std::pair<std::string, int>> kernels;
    for (int i = 0; i < d.kernel_size(); ++i) {
      const ClusterKernelRate& kernel = d.kernel(i);
      const std::string field = absl::StrCat("device.kernel[", i, "]");
      if (kernel.name().empty()) Say(field, ".name: wanted a kind of op, got none");
      if (!kernels.insert({kernel.name(), kernel.type()}).second) {
        Say(field, ": a second rate for ", kernel.name(), " in ", ClusterMatrixRate::Type_Name(kernel.type()));
      }
      Points(field, kernel.at());
    }
  }

  void Host(const Cluster& c) {
    const ClusterHost& h = c.host();
    Positive("host.bytes", static_cast<double>(h.bytes()));
    Reserve("host", h.bytes(), h.reserve_bytes());
    Positive("host.cores", h.cores());
    const bool has_rate = Positive("host.memory_bytes_per_second", h.memory_bytes_per_second());
    Positive("host.adamw_bytes_per_second", h.adamw_bytes_per_second());
    const bool on_host = c.device().kind() == ClusterDevice::HOST;
    if (on_host && c.device().bytes() > h.bytes() / std::max<int64_t>(1, c.devices_per_node())) {
      Say("device.kind is HOST, but ", c.devices_per_node(), " devices of ", FormatBytes(c.device().bytes()),
          " are more than the host's ", FormatBytes(h.bytes()));
    }
    if (has_rate && !on_host) {
      for (const auto& [field, rate] : {std::pair("to_device", c.link().to_device_bytes_per_second()),
                                        std::pair("to_host", c.link().to_host_bytes_per_second())}) {
        if (rate <= h.memory_bytes_per_second()) continue;
        Say("link.", field, "_bytes_per_second is ", Rate(rate), ", more than the host's memory has, ",
            Rate(h.memory_bytes_per_second()));
      }
    }
  }

  void Link(const Cluster& c) {
    Positive("link.to_device_bytes_per_second", c.link().to_device_bytes_per_second());
    Positive("link.to_host_bytes_per_second", c.link().to_host_bytes_per_second());
    NotNegative("link.latency_seconds", c.link().latency_seconds());
  }

  void File(const ClusterFile& f) {
    Positive("file.bytes", static_cast<double>(f.bytes()));
    const bool read = Positive("file.read_bytes_per_second", f.read_bytes_per_second());
    const bool write = Positive("file.write_bytes_per_second", f.write_bytes_per_second());
    NotNegative("file.both_bytes_per_second", f.both_bytes_per_second());
    NotNegative("file.latency_seconds", f.latency_seconds());
    NotNegative("file.cores", f.cores());
    NotNegative("file.endurance_bytes_per_day", f.endurance_bytes_per_day());
    if (read && write && f.both_bytes_per_second() > f.read_bytes_per_second() + f.write_bytes_per_second()) {
      Say("file.both_bytes_per_second is ", Rate(f.both_bytes_per_second()), ", more than reads (",
          Rate(f.read_bytes_per_second()), ") and writes (", Rate(f.write_bytes_per_second()), ") alone have together");
    }
  }

  void Network(const std::string& field, bool wanted, int64_t count, const std::string& of, bool given,
               const ClusterNetwork& n) {
    if (wanted && !given) Say(field, ": wanted a network, as there are ", count, " ", of, ", got none");
    if (!given) return;
    Positive(absl::StrCat(field, ".bytes_per_second"), n.bytes_per_second());
    NotNegative(absl::StrCat(field, ".latency_seconds"), n.latency_seconds());
  }

  void Networks(const Cluster& c) {
    Network("inside_node", c.devices_per_node() > 1, c.devices_per_node(), "devices in a node", c.has_inside_node(),
            c.inside_node());
    Network("between_nodes", c.nodes() > 1, c.nodes(), "nodes", c.has_between_nodes(), c.between_nodes());
  }

  std::vector<std::string> wrong_;
};

}  // namespace

absl::Status ValidateCluster(const Cluster& cluster) {
  const std::vector<std::string> wrong = ClusterChecks().Run(cluster);
  return wrong.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
}

absl::StatusOr<Cluster> ParseCluster(const std::string& text, const std::string& name) {
  Cluster cluster;
  Positions errors(name);
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  if (!parser.ParseFromString(text, &cluster)) return absl::InvalidArgumentError(errors.Text());
  std::vector<std::string> wrong = ClusterChecks().Run(cluster);
  for (std::string& line : wrong) line = absl::StrCat(name, ": ", line);
  if (!wrong.empty()) return absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
  return cluster;
}

absl::StatusOr<Cluster> LoadCluster(const std::string& path) {
  constexpr int64_t kBytesMax = int64_t{16} << 20;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kBytesMax));
  return ParseCluster(text, path);
}

std::string ToText(const Cluster& cluster) {
  std::string text;
  APTM_CHECK(TextFormat::PrintToString(cluster, &text));
  return text;
}

}  // namespace angel_ptm
