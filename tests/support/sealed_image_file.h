// An image file with correct checksums, whatever its numbers say: what an attacker would write.
#ifndef ANGEL_PTM_TESTS_SUPPORT_SEALED_IMAGE_FILE_H_
#define ANGEL_PTM_TESTS_SUPPORT_SEALED_IMAGE_FILE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "angel_ptm/base/checksum.h"

namespace angel_ptm {

inline constexpr size_t kImageHeaderBytes = 4096, kImageOwnHeader = 64, kImageOwnHeaderBytes = 56;

// `own_header` is the header of the image format itself; at most 256 bytes of it are used.
inline std::string SealImageFile(std::string_view own_header, std::string_view content) {
  constexpr size_t kChunk = 1 << 20;
  std::string file(kImageHeaderBytes, '\0');
  const auto put = [&](size_t at, auto value) { std::memcpy(file.data() + at, &value, sizeof(value)); };
  own_header.substr(0, 256).copy(file.data() + kImageOwnHeader, 256);
  file += content;
  std::string checksums;
  for (size_t at = 0; at < content.size(); at += kChunk) {
    const uint64_t checksum = Xxh64(content.substr(at, kChunk));
    checksums.append(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  }
  file += checksums;
  std::memcpy(file.data(), "APTMIMGS", 8);
  put(8, uint32_t{1});
  put(12, uint32_t{kChunk});
  put(16, uint64_t{kImageHeaderBytes + content.size()});
  put(24, Xxh64(checksums));
  put(32, uint64_t{file.size()});
  put(kImageHeaderBytes - 8, Xxh64(file.data(), kImageHeaderBytes - 8));
  return file;
}

}  // namespace angel_ptm

#endif  // ANGEL_PTM_TESTS_SUPPORT_SEALED_IMAGE_FILE_H_
