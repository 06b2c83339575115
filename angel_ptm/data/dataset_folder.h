// How the files of a dataset take the place of an earlier one's in its folder: all of them, or none. They are written
// to <folder>/.unfinished; once all are on the disk that folder is renamed to .whole, which is the instant at which the
// dataset changes; then they move to their places one by one. A file in .whole is read before one of the same name
// beside it, so a kill at any instant leaves the one dataset or the other.
#ifndef ANGEL_PTM_DATA_DATASET_FOLDER_H_
#define ANGEL_PTM_DATA_DATASET_FOLDER_H_

#include <string>
#include <string_view>
#include <utility>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// In the order in which they take their places. A dataset of text has tokens, one of images has images.
inline constexpr std::string_view kDatasetFiles[] = {"tokenizer.json",    "tokenizer_config.json", "train.tokens",
                                                     "validation.tokens", "train.images",          "validation.images",
                                                     "dataset.json"};

// Where a file of the dataset in `folder` lies now; it need not exist.
absl::StatusOr<std::string> DatasetFilePath(const std::string& folder, std::string_view name);

// A dataset that is being written. Destroyed before Publish, it leaves the folder as it was.
class UnfinishedDataset {
 public:
  // Makes `folder`; finishes or removes what a killed process left in it. Errors: another process writes to it.
  static absl::StatusOr<UnfinishedDataset> Create(const std::string& folder);
  UnfinishedDataset(UnfinishedDataset&& other) noexcept;
  UnfinishedDataset& operator=(UnfinishedDataset&&) = delete;
  ~UnfinishedDataset();

  // Where to write a file, one of kDatasetFiles.
  std::string Path(std::string_view name) const;
  // All files are written and synced: they become the folder's dataset. An error that says so came after that.
  absl::Status Publish();

 private:
  UnfinishedDataset(std::string folder, int lock) : folder_(std::move(folder)), lock_(lock) {}

  std::string folder_;  // empty once published or moved from
  int lock_;            // the folder, open and locked
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_DATASET_FOLDER_H_
