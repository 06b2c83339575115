// The samples that a run makes of itself while it trains: <output>/samples/step-00000500.
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
  // Of one or more buckets. All must outlive it. `control`: the ranks' communicator for what they tell each other.
  // `output`: the run's directory.
  SampleMaker(std::vector<Sampler*> samplers, Communicator& control, std::string output);

  // Collective, between steps, `step` of which are done: each rank makes its share of the samples, rank 0 writes all.
  // Changes nothing that the run goes on with. Allocates only to write. Returns rank 0's sentence for people: where the
  // samples are, or what kept them from being written. Errors: the executor's and the communicator's.
  absl::StatusOr<std::string> Make(int64_t step);

 private:
  struct Bucket {
    Sampler* sampler;
    std::vector<int64_t> numbers;
    std::vector<float> all;  // of all ranks, in the order of their numbers
  };
  absl::Status MakeAll(Bucket& bucket, int64_t step);

  std::vector<Bucket> buckets_;
  Communicator& control_;
  const std::string output_;
};

// <output>/samples/step-00000500.
std::string SamplesFolder(const std::string& output, int64_t step);

// Such folders of steps behind `step`, which a run that goes on from there makes again or not at all. Errors: those of
// files.
absl::StatusOr<std::vector<std::string>> NewerSamples(const std::string& output, int64_t step);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TRAIN_SAMPLE_H_
