// The samples that a run makes of its own model while it trains: <output>/samples/step-00000500.
#ifndef ANGEL_PTM_TRAIN_SAMPLE_H_
#define ANGEL_PTM_TRAIN_SAMPLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "angel_ptm/base/status.h"
#include "angel_ptm/train/task.h"
#include "comm/communicator.h"

namespace angel_ptm {

class SampleMaker {
 public:
  // `samplers`: one per sampled bucket, at least one; not owned. `control`: the communicator for what ranks tell each
  // other. `output`: the run's directory. The samplers and `control` must outlive the SampleMaker.
  SampleMaker(std::vector<Sampler*> samplers, Communicator& control, std::string output);

  // Collective. Called between steps, after `step` steps. Each rank makes its share of the samples, and rank 0 writes
  // all of them. Does not change the run's state. Allocates only to write. Returns rank 0's message for people: where
  // the samples are, or why they could not be written. Errors: those of the executor and the communicator.
  absl::StatusOr<std::string> Make(int64_t step);

 private:
  struct Bucket {
    Sampler* sampler;
    std::vector<int64_t> numbers;
    std::vector<float> all;  // samples of all ranks, in the order of their numbers
  };
  absl::Status MakeAll(Bucket& bucket, int64_t step);

  std::vector<Bucket> buckets_;
  Communicator& control_;
  const std::string output_;
};

// <output>/samples/step-00000500.
std::string SamplesFolder(const std::string& output, int64_t step);

// Lists the sample folders of steps after `step`. A run that continues from `step` makes these again or not at all.
// Errors: those of reading the file system.
absl::StatusOr<std::vector<std::string>> NewerSamples(const std::string& output, int64_t step);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_SAMPLE_H_
