// Tokens that stand for a fixed text wherever it occurs, such as the end of a text or the roles of a chat.
#ifndef ANGEL_PTM_DATA_ADDED_TOKENS_H_
#define ANGEL_PTM_DATA_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace angel_ptm {

class AddedTokens {
 public:
  struct Found {
    size_t at = 0;    // the size of the text if there is none
    size_t size = 0;  // 0 if none
    int32_t id = -1;  // -1 if none
  };

  // `text` must not be empty.
  void Add(std::string text, int32_t id);
  bool empty() const { return tokens_.empty(); }
  // Finds the leftmost token in `text`; of several that begin there, the longest.
  Found FindFirst(std::string_view text) const;

 private:
  struct Token {
    std::string text;
    int32_t id;
  };
  std::vector<Token> tokens_;
  std::string first_bytes_;                         // each of them once
  std::array<std::vector<uint32_t>, 256> by_byte_;  // indices of tokens_ by first byte, longest first
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_ADDED_TOKENS_H_
