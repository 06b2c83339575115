#include "angel_ptm/train/report/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "angel_ptm/train/report/events.pb.h"

namespace angel_ptm {
namespace {

constexpr uint32_t kReversedPolynomial = 0x82f63b78;

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

void AppendLittleEndian(uint64_t value, int bytes, std::string* out) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

void AppendMaskedCrc(std::string_view bytes, std::string* out) {
  AppendLittleEndian(std::rotr(Crc32c(bytes), 15) + 0xa282ead8u, 4, out);
}

double SecondsSince1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

std::string TfRecord(std::string_view data) {
  std::string record;
  AppendLittleEndian(data.size(), 8, &record);
  AppendMaskedCrc(std::string(record), &record);
  record += data;
  AppendMaskedCrc(data, &record);
  return record;
}

absl::StatusOr<EventFile> EventFile::Create(const std::string& directory, int64_t first_step) {
  std::array<char, 256> host = {};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {"host"};
  const double now = SecondsSince1970();
  // Readers sort by name and do not return to files that sort before the one they are reading, so the name begins with
  // the time.
  ASSIGN_OR_RETURN(AppendFile file,
                   AppendFile::Open(absl::StrCat(directory, "/tensorboard/events.out.tfevents.",
                                                 static_cast<int64_t>(now), ".", host.data(), ".", getpid())));
  events::Event version, start;
  version.set_wall_time(now);
  version.set_file_version("brain.Event:2");
  start.set_wall_time(now);
  start.set_step(first_step);
  start.mutable_session_log()->set_status(events::SessionLog::START);
  RETURN_IF_ERROR(file.Append(TfRecord(version.SerializeAsString()) + TfRecord(start.SerializeAsString())));
  return EventFile(std::move(file));
}

absl::Status EventFile::Append(int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  events::Event event;
  event.set_wall_time(SecondsSince1970());
  event.set_step(step);
  for (const auto& [tag, number] : scalars) {
    events::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(tag);
    value.set_simple_value(static_cast<float>(number));
  }
  return file_.Append(TfRecord(event.SerializeAsString()));
}

}  // namespace angel_ptm
