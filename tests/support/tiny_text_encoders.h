// Text encoders with random weights, as small as possible, in the file formats that libraries export.
#ifndef ANGEL_PTM_TESTS_SUPPORT_TINY_TEXT_ENCODERS_H_
#define ANGEL_PTM_TESTS_SUPPORT_TINY_TEXT_ENCODERS_H_

#include <cstdint>
#include <string>

namespace angel_ptm {

inline constexpr int64_t kTinyBertWidth = 8, kTinyT5Width = 16;  // of their states
extern const char* const kTinyBertConfig;                        // text_encoder/config.json

// Writes a diffusers pipeline with a Bert, an mT5 and their tokenizers into `folder`, which must exist; `spiece` is a
// spiece.model of at most 60 pieces. CHECK-fails if it cannot.
void WriteTinyTextEncoders(const std::string& folder, const std::string& spiece);

// Replaces the Bert's weights by other random ones.
void WriteTinyBertWeights(const std::string& folder, uint32_t seed);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_TINY_TEXT_ENCODERS_H_
