#include "angel_ptm/data/pieces/sentence_piece_model.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "angel_ptm/data/utf8.h"

namespace angel_ptm {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // stands for a space
constexpr float kUnknownPenalty = 10;

// Iterates over the fields of a protobuf message. Callers ignore fields that they do not want.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}

  // Returns false at the end, and if the message is damaged.
  bool Next() {
    uint64_t key = 0;
    if (at_ == bytes_.size()) return false;
    if (!Varint(&key)) return Damaged();
    number_ = static_cast<int64_t>(key >> 3), value_ = 0, text_ = {};
    switch (key & 7) {
      case 0:
        return Varint(&value_) || Damaged();
      case 1:
        return Take(8) || Damaged();
      case 2:
        return (Varint(&value_) && value_ <= bytes_.size() && Take(static_cast<size_t>(value_))) || Damaged();
      case 5:
        return Take(4) || Damaged();
      default:
        return Damaged();
    }
  }
  bool damaged() const { return damaged_; }
  int64_t number() const { return number_; }
  uint64_t value() const { return value_; }
  std::string_view text() const { return text_; }
  float real() const {
    float value = 0;
    if (text_.size() == sizeof(value)) std::memcpy(&value, text_.data(), sizeof(value));
    return value;
  }

 private:
  bool Damaged() {
    damaged_ = true;
    return false;
  }
  bool Take(size_t n) {
    if (n > bytes_.size() - at_) return false;
    text_ = bytes_.substr(at_, n);
    at_ += n;
    return true;
  }
  bool Varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) return false;
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const std::string_view bytes_;
  size_t at_ = 0;
  bool damaged_ = false;
  int64_t number_ = 0;
  uint64_t value_ = 0;
  std::string_view text_;
};

// Decodes a unit of darts-clone's double array.
uint32_t OffsetOf(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

size_t CharacterBytes(std::string_view valid_text) {
  size_t at = 0;
  NextCodePoint(valid_text, &at);
  return at;
}

absl::Status Damaged(const std::string& name, const std::string& what) {
  return absl::DataLossError(absl::StrCat(name, " is no SentencePiece model: ", what));
}

}  // namespace

absl::Status SentencePieceModel::ReadPieces(std::string_view bytes, const std::string& name) {
  byte_ids_.fill(-1);
  Fields model(bytes);
  while (model.Next()) {
    if (model.number() == 2) {
      Fields trainer(model.text());
      while (trainer.Next()) {
        if (trainer.number() == 3 && trainer.value() != 1) {
          return absl::InvalidArgumentError(absl::StrCat(name, ": wanted a unigram model, got another kind"));
        }
        if (trainer.number() == 35) byte_fallback_ = trainer.value() != 0;
      }
      if (trainer.damaged()) return Damaged(name, "its trainer's fields are damaged");
    }
    if (model.number() != 1) continue;
    Token token;
    Fields fields(model.text());
    while (fields.Next()) {
      if (fields.number() == 1) token.text = fields.text();
      if (fields.number() == 2) token.score = fields.real();
      if (fields.number() == 3) token.type = static_cast<int>(fields.value());
    }
    if (fields.damaged()) return Damaged(name, absl::StrCat("piece ", pieces_.size(), " is damaged"));
    pieces_.push_back(std::move(token));
  }
  if (model.damaged()) return Damaged(name, "its fields are damaged");
  float lowest = std::numeric_limits<float>::max();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Token& token = pieces_[i];
    const auto id = static_cast<int32_t>(i);
    if (token.type == kUnknown) unknown_id_ = id;
    if (uint32_t byte = 0;
        token.type == kByte && token.text.size() == 6 && absl::SimpleHexAtoi(token.text.substr(3, 2), &byte)) {
      byte_ids_[byte & 0xff] = id;
    }
    if (token.type == kNormal) lowest = std::min(lowest, token.score);
    if (token.type != kNormal && token.type != kUserDefined) continue;
    ids_[token.text] = id;
    piece_bytes_max_ = std::max(piece_bytes_max_, token.text.size());
  }
  if (unknown_id_ < 0 || ids_.empty()) return Damaged(name, "it has no pieces, or none for what is unknown");
  if (byte_fallback_ && std::ranges::count(byte_ids_, -1) > 0) return Damaged(name, "it lacks pieces for some bytes");
  unknown_score_ = lowest - kUnknownPenalty;
  return absl::OkStatus();
}

absl::Status SentencePieceModel::ReadRules(std::string_view bytes, const std::string& name) {
  Fields model(bytes);
  while (model.Next()) {
    if (model.number() != 3) continue;
    Fields rules(model.text());
    while (rules.Next()) {
      if (rules.number() == 3) dummy_prefix_ = rules.value() != 0;
      if (rules.number() == 4) remove_extra_spaces_ = rules.value() != 0;
      if (rules.number() == 5) escape_spaces_ = rules.value() != 0;
      if (rules.number() != 2 || rules.text().empty()) continue;
      const std::string_view map = rules.text();
      uint32_t trie_bytes = 0;
      if (map.size() >= sizeof(trie_bytes)) std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
      if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > map.size() - 4 || map.back() != '\0') {
        return Damaged(name, "its map of characters is damaged");
      }
      trie_.resize(trie_bytes / 4);
      std::memcpy(trie_.data(), map.data() + 4, trie_bytes);
      replacements_ = map.substr(4 + trie_bytes);
      if (ValidUtf8Prefix(replacements_) != replacements_.size()) {
        return Damaged(name, "its map of characters is not UTF-8");
      }
    }
    if (rules.damaged()) return Damaged(name, "its normaliser's fields are damaged");
  }
  return absl::OkStatus();
}

absl::StatusOr<SentencePieceModel> SentencePieceModel::Parse(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  RETURN_IF_ERROR(model.ReadPieces(bytes, name));
  RETURN_IF_ERROR(model.ReadRules(bytes, name));
  return model;
}

// Returns the replacement of the longest prefix that the map knows, else the first character unchanged.
SentencePieceModel::Replaced SentencePieceModel::ReplaceFirst(std::string_view text) const {
  Replaced longest{text.substr(0, CharacterBytes(text)), CharacterBytes(text)};
  if (trie_.empty()) return longest;
  uint32_t node = OffsetOf(trie_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= trie_.size() || (trie_[node] & (0x80000000u | 0xffu)) != byte) break;
    const uint32_t unit = trie_[node];
    node ^= OffsetOf(unit);
    if ((unit >> 8 & 1) == 0) continue;
    const uint32_t place = node < trie_.size() ? trie_[node] & 0x7fffffffu : 0;
    // Only a damaged file has an offset inside a character.
    if (place >= replacements_.size() || (static_cast<uint8_t>(replacements_[place]) & 0xC0) == 0x80) continue;
    longest = {replacements_.c_str() + place, i + 1};
  }
  return longest;
}

SentencePieceModel::Normalised SentencePieceModel::Normalise(std::string_view text) const {
  Normalised result;
  const auto add = [&](std::string_view part, size_t origin) {
    result.text += part;
    result.origin.resize(result.text.size(), origin);
  };
  const std::string_view space = escape_spaces_ ? kSpace : " ";
  bool after_space = remove_extra_spaces_;
  bool begun = !remove_extra_spaces_;
  for (size_t at = 0; at < text.size();) {
    const Replaced replaced = ReplaceFirst(text.substr(at));
    std::string_view by = replaced.by;
    while (after_space && by.starts_with(' ')) by.remove_prefix(1);
    if (!by.empty() || begun) {
      if (result.text.empty() && dummy_prefix_) add(space, at);
      begun = true;
    }
    for (const char& c : by) add(c == ' ' ? space : std::string_view(&c, 1), at);
    if (!by.empty()) after_space = remove_extra_spaces_ && by.ends_with(' ');
    at += replaced.consumed;
  }
  while (remove_extra_spaces_ && result.text.ends_with(space)) {
    result.text.resize(result.text.size() - space.size());
    result.origin.resize(result.text.size());
  }
  return result;
}

std::vector<SentencePieceModel::Piece> SentencePieceModel::Encode(std::string_view text) const {
  struct Best {
    float score = 0;
    int64_t begin = -1;
    int32_t id = -1;
  };
  const Normalised normal = Normalise(text);
  const size_t n = normal.text.size();
  std::vector<Best> best(n + 1);  // of the texts that end before a byte
  const auto offer = [&](size_t begin, size_t end, int32_t id, float score) {
    const float sum = best[begin].score + score;
    if (best[end].begin < 0 || sum > best[end].score) best[end] = {sum, static_cast<int64_t>(begin), id};
  };
  for (size_t begin = 0; begin < n;) {
    const size_t character = CharacterBytes(std::string_view(normal.text).substr(begin));
    bool alone = false;
    for (size_t end = begin + character; end <= std::min(n, begin + piece_bytes_max_);) {
      const auto found = ids_.find(normal.text.substr(begin, end - begin));
      if (found != ids_.end()) {
        offer(begin, end, found->second, pieces_[static_cast<size_t>(found->second)].score);
        alone |= end == begin + character;
      }
      if (end == n) break;
      end += CharacterBytes(std::string_view(normal.text).substr(end));
    }
    if (!alone) offer(begin, begin + character, unknown_id_, unknown_score_);
    begin += character;
  }
  std::vector<Piece> pieces;
  for (size_t end = n; end > 0; end = static_cast<size_t>(best[end].begin)) {
    const auto begin = static_cast<size_t>(best[end].begin);
    if (best[end].id == unknown_id_ && byte_fallback_) {
      for (size_t i = end; i > begin; --i) {
        pieces.push_back({byte_ids_[static_cast<uint8_t>(normal.text[i - 1])], normal.origin[begin]});
      }
    } else if (best[end].id == unknown_id_ && !pieces.empty() && pieces.back().id == unknown_id_) {
      pieces.back().begin = normal.origin[begin];  // adjacent unknown pieces become one
    } else {
      pieces.push_back({best[end].id, normal.origin[begin]});
    }
  }
  std::ranges::reverse(pieces);
  return pieces;
}

int32_t SentencePieceModel::IdOf(std::string_view piece) const {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (pieces_[i].text == piece) return static_cast<int32_t>(i);
  }
  return -1;
}

}  // namespace angel_ptm
