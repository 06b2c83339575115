// The fixed blocks of rows over which a sample's sums are computed, whatever the number of threads.
#ifndef ANGEL_PTM_KERNELS_CPU_SAMPLE_BLOCKS_H_
#define ANGEL_PTM_KERNELS_CPU_SAMPLE_BLOCKS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace angel_ptm {

// Blocks of B samples of S rows. No block has rows of two samples. There are about kTokenBlocksMax blocks, or one per
// sample if there are more samples.
struct SampleBlocks {
  int64_t sample_rows, rows, per_sample, samples;

  SampleBlocks(int64_t b, int64_t s)
      : sample_rows(s),
        rows(std::min(s, std::max(kTokenBlockMin, (b * s + kTokenBlocksMax - 1) / kTokenBlocksMax))),
        per_sample((s + rows - 1) / rows),
        samples(b) {}
  int64_t count() const { return samples * per_sample; }
  int64_t begin(int64_t block) const { return block / per_sample * sample_rows + block % per_sample * rows; }
  int64_t end(int64_t block) const { return std::min(begin(block) + rows, (block / per_sample + 1) * sample_rows); }
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_KERNELS_CPU_SAMPLE_BLOCKS_H_
