// TensorBoard's event files: a run's numbers as scalars, for `tensorboard --logdir <output>` and other readers of this
// format.
#ifndef ANGEL_PTM_TRAIN_REPORT_EVENT_FILE_H_
#define ANGEL_PTM_TRAIN_REPORT_EVENT_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/report/append_file.h"

namespace angel_ptm {

// CRC-32C (Castagnoli) of the bytes, as in RFC 3720, B.4.
uint32_t Crc32c(std::string_view bytes);

// A record of the TFRecord format: length, masked CRC of the length, data, masked CRC of the data; all little-endian.
// mask(crc) = rotate_right(crc, 15) + 0xa282ead8.
std::string TfRecord(std::string_view data);

class EventFile {
 public:
  // Creates <directory>/tensorboard/events.out.tfevents.<time>.<host>.<process>, a new file. It makes readers discard
  // what the other files in this directory say about `first_step` and later steps. Errors are those of
  // angel_ptm/base/file.h.
  static absl::StatusOr<EventFile> Create(const std::string& directory, int64_t first_step);

  // Values may be NaN or infinite. Errors: those of AppendFile::Append.
  absl::Status Append(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);
  const std::string& path() const { return file_.path(); }

 private:
  explicit EventFile(AppendFile file) : file_(std::move(file)) {}

  AppendFile file_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_REPORT_EVENT_FILE_H_
