#include "angel_ptm/data/images/tar_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/base/status.h"

namespace angel_ptm {
namespace {

constexpr int64_t kBlock = 512;
constexpr int64_t kLongNameMax = 1 << 16;
using Block = std::array<char, kBlock>;

std::string_view Field(const Block& block, size_t at, size_t size) {
  const std::string_view field(block.data() + at, size);
  return field.substr(0, field.find('\0'));
}

// Reads an octal number, or a binary one if the top bit is set; -1 if it is neither.
int64_t Number(const Block& block, size_t at, size_t size) {
  int64_t value = 0;
  if (static_cast<uint8_t>(block[at]) == 0x80) {
    for (size_t i = size - 8; i < size; ++i) value = value << 8 | static_cast<uint8_t>(block[at + i]);
    return value;
  }
  std::string_view digits = Field(block, at, size);
  while (digits.starts_with(' ')) digits.remove_prefix(1);
  while (digits.ends_with(' ')) digits.remove_suffix(1);
  for (const char digit : digits) {
    if (digit < '0' || digit > '7') return -1;
    value = value * 8 + (digit - '0');
  }
  return value;
}

bool ChecksumIsRight(const Block& block) {
  int64_t sum = 0;
  for (size_t i = 0; i < block.size(); ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<uint8_t>(block[i]);
  return sum == Number(block, 148, 8);
}

// The value of "path" in a pax header, which has records of "<length> key=value\n"; empty if there is none.
std::string PaxPath(std::string_view records) {
  while (!records.empty()) {
    const size_t space = records.find(' ');
    size_t length = 0;
    if (space == std::string_view::npos || !absl::SimpleAtoi(absl::string_view(records.data(), space), &length) ||
        length <= space || length > records.size()) {
      return "";
    }
    const std::string_view record = records.substr(space + 1, length - space - 1);
    if (record.starts_with("path=")) return std::string(record.substr(5, record.size() - 6));
    records.remove_prefix(length);
  }
  return "";
}

}  // namespace

absl::StatusOr<std::vector<TarMember>> ListTar(const FileReader& file) {
  std::vector<TarMember> members;
  std::string long_name;
  for (int64_t at = 0; at + kBlock <= file.size();) {
    Block block;
    RETURN_IF_ERROR(file.ReadAt(at, std::as_writable_bytes(std::span(block))));
    if (std::all_of(block.begin(), block.end(), [](char c) { return c == 0; })) return members;
    const int64_t bytes = Number(block, 124, 12), begin = at + kBlock;
    if (!ChecksumIsRight(block)) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(),
                                                     at == 0 ? " is not a tar file" : " is a damaged tar file",
                                                     ": the header at byte ", at, " has another checksum"));
    }
    if (bytes < 0 || bytes > file.size() - begin) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), " is a damaged tar file: the member at byte ", at,
                                                     " should end by byte ", file.size(), ", its size is ", bytes));
    }
    const char type = block[156];
    if (type == 'L' || type == 'x') {
      std::string content(static_cast<size_t>(std::min(bytes, kLongNameMax)), '\0');
      RETURN_IF_ERROR(file.ReadAt(begin, std::as_writable_bytes(std::span(content))));
      long_name = type == 'x' ? PaxPath(content) : content.substr(0, content.find('\0'));
    } else {
      std::string name = std::exchange(long_name, std::string());
      if (name.empty()) {
        const std::string prefix(Field(block, 257, 5) == "ustar" ? Field(block, 345, 155) : std::string_view());
        name = absl::StrCat(prefix, prefix.empty() ? "" : "/", std::string(Field(block, 0, 100)));
      }
      if (type == '0' || type == '\0') members.push_back({.name = std::move(name), .offset = begin, .bytes = bytes});
    }
    at = begin + (bytes + kBlock - 1) / kBlock * kBlock;
  }
  if (file.size() % kBlock != 0 || members.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), " is not a whole tar file of ", file.size(), " bytes"));
  }
  return members;
}

}  // namespace angel_ptm
