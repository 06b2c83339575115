// GPT-2's printable stand-ins for bytes. Printable Latin-1 bytes stand for themselves; the others are represented, in
// order, by the code points from U+0100 on.
#ifndef ANGEL_PTM_DATA_BYTE_ALPHABET_H_
#define ANGEL_PTM_DATA_BYTE_ALPHABET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "angel_ptm/data/utf8.h"

namespace angel_ptm {

class ByteAlphabet {
 public:
  static const ByteAlphabet& Get() {
    static const ByteAlphabet alphabet;
    return alphabet;
  }

  std::string Write(std::string_view text) const {
    std::string result;
    for (char c : text) AppendUtf8(code_points_[static_cast<unsigned char>(c)], &result);
    return result;
  }

  // Returns false if `text` has a character that stands for no byte.
  bool Read(std::string_view text, std::string* result) const {
    result->clear();
    for (size_t at = 0; at < text.size();) {
      const uint32_t code_point = NextCodePoint(text, &at);
      if (code_point >= 512 || bytes_[code_point] < 0) return false;
      result->push_back(static_cast<char>(bytes_[code_point]));
    }
    return true;
  }

 private:
  ByteAlphabet() {
    for (int32_t& byte : bytes_) byte = -1;
    uint32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      code_points_[b] = printable ? b : next++;
      bytes_[code_points_[b]] = b;
    }
  }

  uint32_t code_points_[256];
  int32_t bytes_[512];  // by code point; -1: none
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_BYTE_ALPHABET_H_
