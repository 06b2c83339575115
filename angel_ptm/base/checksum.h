// The checksums of our files, by the xxHash library: XXH3-64 of checkpoints and pages, XXH64 of datasets; seed 0.
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

// 16 hexadecimal digits, and back; false if `text` is anything else.
std::string ChecksumText(uint64_t checksum);
bool ParseChecksumText(std::string_view text, uint64_t* checksum);

}  // namespace angel_ptm

#endif  // ANGEL_PTM_BASE_CHECKSUM_H_
