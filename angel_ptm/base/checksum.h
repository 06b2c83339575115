// Checksums of the project's files, computed with the xxHash library and seed 0: XXH3-64 for checkpoints and pages,
// XXH64 for datasets.
#ifndef ANGEL_PTM_BASE_CHECKSUM_H_
#define ANGEL_PTM_BASE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace angel_ptm {

uint64_t Xxh3(std::span<const std::byte> bytes);
inline uint64_t Xxh3(std::string_view text) { return Xxh3(std::as_bytes(std::span(text))); }

uint64_t Xxh64(const void* data, size_t bytes);
inline uint64_t Xxh64(std::string_view text) { return Xxh64(text.data(), text.size()); }

// Formats a checksum as 16 hexadecimal digits, and parses that form; parsing returns false for any other text.
std::string ChecksumText(uint64_t checksum);
bool ParseChecksumText(std::string_view text, uint64_t* checksum);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_CHECKSUM_H_
