// Replaces the dataset in a folder by a new one atomically. The files are written to <folder>/.unfinished. Once all are
// on disk, that folder is renamed to .whole; at this instant the dataset changes. Then the files move to their places
// one by one. A file in .whole takes precedence over one of the same name beside it, so a kill at any instant leaves
// either the old dataset or the new one.
#ifndef ANGEL_PTM_DATA_DATASET_FOLDER_H_
#define ANGEL_PTM_DATA_DATASET_FOLDER_H_

#include <string>
#include <string_view>
#include <utility>

#include "angel_ptm/base/status.h"

namespace angel_ptm {

// In the order in which they move to their places. A text dataset has the .tokens files, an image dataset the .images
// files.
inline constexpr std::string_view kDatasetFiles[] = {"tokenizer.json",    "tokenizer_config.json", "train.tokens",
                                                     "validation.tokens", "train.images",          "validation.images",
                                                     "dataset.json"};

// The current path of a file of the dataset in `folder`. The file need not exist.
absl::StatusOr<std::string> DatasetFilePath(const std::string& folder, std::string_view name);

// A dataset that is being written. If it is destroyed before Publish, the folder keeps what it had.
class UnfinishedDataset {
 public:
  // Creates `folder`, and finishes or removes what a killed process left in it. Errors: another process is writing to
  // it.
  static absl::StatusOr<UnfinishedDataset> Create(const std::string& folder);
  UnfinishedDataset(UnfinishedDataset&& other) noexcept;
  UnfinishedDataset& operator=(UnfinishedDataset&&) = delete;
  ~UnfinishedDataset();

  // Where to write a file; `name` is one of kDatasetFiles.
  std::string Path(std::string_view name) const;
  // Makes the files the folder's dataset. All must be written and synced. An error may come after the switch, and then
  // says so.
  absl::Status Publish();

 private:
  UnfinishedDataset(std::string folder, int lock) : folder_(std::move(folder)), lock_(lock) {}

  std::string folder_;  // empty once published or moved from
  int lock_;            // the folder, open and locked
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_DATASET_FOLDER_H_
