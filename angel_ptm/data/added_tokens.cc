#include "angel_ptm/data/added_tokens.h"

#include <algorithm>
#include <utility>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

void AddedTokens::Add(std::string text, int32_t id) {
  APTM_CHECK(!text.empty(), "token ", id);
  const unsigned char first = static_cast<unsigned char>(text[0]);
  std::vector<uint32_t>& same = by_byte_[first];
  if (same.empty()) first_bytes_.push_back(text[0]);
  const auto longer = [&](uint32_t token) { return tokens_[token].text.size() > text.size(); };
  same.insert(std::partition_point(same.begin(), same.end(), longer), static_cast<uint32_t>(tokens_.size()));
  tokens_.push_back({std::move(text), id});
}

AddedTokens::Found AddedTokens::FindFirst(std::string_view text) const {
  // Usually all tokens share one first byte, and finding a single byte is much faster.
  const auto next = [&](size_t from) {
    return first_bytes_.size() == 1 ? text.find(first_bytes_[0], from) : text.find_first_of(first_bytes_, from);
  };
  for (size_t at = next(0); at != std::string_view::npos; at = next(at + 1)) {
    for (const uint32_t token : by_byte_[static_cast<unsigned char>(text[at])]) {
      const std::string& wanted = tokens_[token].text;
      if (text.substr(at).starts_with(wanted)) return {at, wanted.size(), tokens_[token].id};
    }
  }
  return {.at = text.size()};
}

}  // namespace angel_ptm
