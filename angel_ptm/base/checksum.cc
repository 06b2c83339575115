// xxHash is a header-only library; only this file includes it.
#define XXH_INLINE_ALL
#include "angel_ptm/base/checksum.h"

#include <xxhash.h>

#include <bit>
#include <charconv>
#include <system_error>

#include "absl/strings/str_format.h"

namespace angel_ptm {

// All files of the project are little-endian: the checksums as well as the data they cover.
static_assert(std::endian::native == std::endian::little);

uint64_t Xxh3(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t Xxh64(const void* data, size_t bytes) { return XXH64(data, bytes, /*seed=*/0); }

std::string ChecksumText(uint64_t checksum) { return absl::StrFormat("%016x", checksum); }

bool ParseChecksumText(std::string_view text, uint64_t* checksum) {
  const char* const end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data(), end, *checksum, 16);
  return text.size() == 16 && error == std::errc() && parsed == end;
}

}  // namespace angel_ptm
