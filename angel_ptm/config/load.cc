#include "angel_ptm/config/load.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/config/override.h"
#include "angel_ptm/config/suggest.h"

namespace angel_ptm {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::TextFormat;

// The n-th (from 0) part of `text` between double quotes; empty if there are fewer.
std::string Quoted(const std::string& text, int n) {
  size_t end = std::string::npos;
  for (int i = 0; i <= n; ++i) {
    const size_t begin = text.find('"', end + 1);
    if (begin == std::string::npos) return "";
    end = text.find('"', begin + 1);
    if (end == std::string::npos) return "";
    if (i == n) return text.substr(begin + 1, end - begin - 1);
  }
  return "";
}

// The enum field called `name` in `message` or below, or nullptr.
const FieldDescriptor* FindEnumField(const Descriptor& message, const std::string& name) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor* field = message.field(i);
    if (field->name() == name && field->enum_type() != nullptr) return field;
    if (field->message_type() == nullptr) continue;
    if (const FieldDescriptor* found = FindEnumField(*field->message_type(), name)) return found;
  }
  return nullptr;
}

// A position in the text as protobuf's tokenizer counts it: both from 0, a tab ends at the next multiple of 8.
struct TextPosition {
  int line = 0, column = 0;
};

TextPosition Next(TextPosition position, char c) {
  if (c == '\n') return {position.line + 1, 0};
  return {position.line, c == '\t' ? position.column / 8 * 8 + 8 : position.column + 1};
}

// protobuf reports an unknown name at the token behind it; gives the name's own position.
TextPosition PositionOfNameBefore(const std::string& text, const std::string& name, TextPosition behind) {
  size_t end = 0;  // offset of `behind`
  for (TextPosition at; end < text.size() && (at.line < behind.line || at.column < behind.column); ++end) {
    at = Next(at, text[end]);
  }
  const size_t begin = end < name.size() ? std::string::npos : text.rfind(name, end - name.size());
  if (name.empty() || begin == std::string::npos) return behind;
  TextPosition position;
  for (size_t i = 0; i < begin; ++i) position = Next(position, text[i]);
  return position;
}

// One error of protobuf's parser. `unknown_name` is the name that is no field or enum value, if that is the error.
struct ParseError {
  std::string message, unknown_name;
};

// Adds the valid names to protobuf's messages about unknown names; other messages stay unchanged.
ParseError WithSuggestion(const std::string& message) {
  std::vector<std::string> valid;
  if (message.find("has no field named") != std::string::npos) {
    const Descriptor* type = TrainConfig::descriptor()->file()->pool()->FindMessageTypeByName(Quoted(message, 0));
    for (int i = 0; type != nullptr && i < type->field_count(); ++i) valid.push_back(type->field(i)->name());
    const std::string name = Quoted(message, 1);
    if (!valid.empty()) return {absl::StrCat("no field '", name, "' here; ", SuggestName(name, valid)), name};
  }
  if (message.find("Unknown enumeration value") != std::string::npos) {
    const FieldDescriptor* field = FindEnumField(*TrainConfig::descriptor(), Quoted(message, 1));
    for (int i = 0; field != nullptr && i < field->enum_type()->value_count(); ++i) {
      valid.push_back(field->enum_type()->value(i)->name());
    }
    const std::string name = Quoted(message, 0);
    if (!valid.empty()) {
      return {absl::StrCat("no value '", name, "' for ", field->name(), "; ", SuggestName(name, valid)), name};
    }
  }
  return {message, ""};
}

class ErrorLines : public google::protobuf::io::ErrorCollector {
 public:
  // `text` is what is parsed and must outlive this.
  ErrorLines(std::string name, const std::string& text) : name_(std::move(name)), text_(text) {}
  void AddError(int line, int column, const std::string& message) override {
    const ParseError error = WithSuggestion(message);
    TextPosition position{line, column};
    if (!error.unknown_name.empty()) position = PositionOfNameBefore(text_, error.unknown_name, position);
    // protobuf counts from 0, people from 1.
    lines_.push_back(absl::StrCat(name_, ":", position.line + 1, ":", position.column + 1, ": ", error.message));
  }
  std::string Text() const { return absl::StrJoin(lines_, "\n"); }

 private:
  std::string name_;
  const std::string& text_;
  std::vector<std::string> lines_;
};

// Collects the unknown fields that a lenient parser reports. An unknown enum value is still an error for it.
class UnknownNames : public google::protobuf::io::ErrorCollector {
 public:
  explicit UnknownNames(ErrorLines& errors) : errors_(errors) {}
  void AddError(int line, int column, const std::string& message) override {
    if (message.find("Unknown enumeration value") != std::string::npos && assignment_.empty()) {
      assignment_ = absl::StrCat(Quoted(message, 1), ": ", Quoted(message, 0));
    }
    errors_.AddError(line, column, message);
  }
  void AddWarning(int, int, const std::string& message) override {
    const std::string type = Quoted(message, 0);
    fields_.push_back(absl::StrCat(type.substr(type.rfind('.') + 1), ".", Quoted(message, 1)));
  }
  const std::vector<std::string>& fields() const { return fields_; }
  // The first unknown enum value, as ToText writes it ("kind: POLYNOMIAL"); empty if there is none.
  const std::string& unknown_assignment() const { return assignment_; }

 private:
  ErrorLines& errors_;
  std::vector<std::string> fields_;
  std::string assignment_;
};

// Far more than any configuration, which takes a few kilobytes.
constexpr size_t kConfigBytesMax = size_t{16} << 20;

// Reads pipes, too: --config <(...) is handy in scripts.
absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  const auto failed = [&path] {
    const int error = errno;
    return absl::ErrnoToStatus(error, absl::StrCat("cannot read the config file '", path, "'"));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (file == nullptr) return failed();
  std::string text;
  char buffer[1 << 14];
  for (;;) {
    const size_t bytes = std::fread(buffer, 1, sizeof(buffer), file.get());
    text.append(buffer, bytes);
    if (bytes < sizeof(buffer)) break;
    if (text.size() > kConfigBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat("the config file '", path,
                                                     "' is no configuration: wanted at most ", kConfigBytesMax,
                                                     " bytes of text, got more"));
    }
  }
  if (std::ferror(file.get())) return failed();
  return text;
}

// Returns the text without a UTF-8 byte-order mark, which some editors add; kInvalidArgument for other encodings.
absl::StatusOr<std::string> WithoutByteOrderMark(std::string text, const std::string& name) {
  if (absl::StartsWith(text, "\xEF\xBB\xBF")) return text.substr(3);
  const bool is_utf16 = absl::StartsWith(text, "\xFE\xFF") || absl::StartsWith(text, "\xFF\xFE");
  const size_t zero = text.find('\0');
  if (!is_utf16 && zero == std::string::npos) return text;
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": wanted text in UTF-8, got ",
      is_utf16 ? "text in UTF-16 (it begins with that encoding's mark)" : absl::StrCat("a zero byte at byte ", zero)));
}

// Getting an unset field returns its default, so setting the field to that value makes the default explicit.
void MakeExplicit(const FieldDescriptor* field, Message* message) {
  const Reflection& r = *message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return r.SetInt32(message, field, r.GetInt32(*message, field));
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetInt64(message, field, r.GetInt64(*message, field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return r.SetUInt64(message, field, r.GetUInt64(*message, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.SetDouble(message, field, r.GetDouble(*message, field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.SetBool(message, field, r.GetBool(*message, field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return r.SetEnum(message, field, r.GetEnum(*message, field));
    case FieldDescriptor::CPPTYPE_STRING:
      return r.SetString(message, field, r.GetString(*message, field));
    default:
      APTM_CHECK(false, field->full_name(), ": FillDefaults does not know this field type");
  }
}

void FillMessage(Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  const Reflection& reflection = *message->GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const bool unchosen = field->containing_oneof() != nullptr && !reflection.HasField(*message, field);
    if (field->is_repeated() || unchosen) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      FillMessage(reflection.MutableMessage(message, field));
    } else {
      MakeExplicit(field, message);
    }
  }
}

}  // namespace

void FillDefaults(TrainConfig* config) { FillMessage(config); }

absl::StatusOr<TrainConfig> ParseTrainConfig(const std::string& given, const std::string& name,
                                             const std::vector<std::string>& overrides) {
  ASSIGN_OR_RETURN(const std::string text, WithoutByteOrderMark(given, name));
  TrainConfig config;
  ErrorLines errors(name, text);
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  google::protobuf::io::ArrayInputStream input(text.data(), static_cast<int>(text.size()));
  if (!parser.Parse(&input, &config)) return absl::InvalidArgumentError(errors.Text());
  std::vector<std::string> wrong;
  for (const std::string& assignment : overrides) {
    const absl::Status status = ApplyOverride(assignment, &config);
    if (!status.ok()) wrong.emplace_back(status.message());
  }
  if (!wrong.empty()) return absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
  FillDefaults(&config);
  return config;
}

namespace {

// Where `text` has the assignment, and not as a part of other names or of a string that is it. npos if nowhere.
size_t FindAssignment(const std::string& text, const std::string& assignment) {
  const auto belongs = [&](size_t at) {
    return at < text.size() && (absl::ascii_isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_' ||
                                text[at] == '"' || text[at] == '\'');
  };
  size_t at = text.find(assignment);
  while (at != std::string::npos && ((at > 0 && belongs(at - 1)) || belongs(at + assignment.size()))) {
    at = text.find(assignment, at + 1);
  }
  return at;
}

}  // namespace

absl::StatusOr<TrainConfig> ParseStoredConfig(const std::string& stored, const std::string& name,
                                              std::vector<std::string>* unknown) {
  unknown->clear();
  // Every iteration removes one unknown enum value.
  for (std::string text = stored;;) {
    TrainConfig config;
    ErrorLines errors(name, text);
    UnknownNames names(errors);
    TextFormat::Parser parser;
    parser.RecordErrorsTo(&names);
    parser.AllowUnknownField(true);
    google::protobuf::io::ArrayInputStream input(text.data(), static_cast<int>(text.size()));
    if (parser.Parse(&input, &config)) {
      unknown->insert(unknown->end(), names.fields().begin(), names.fields().end());
      FillDefaults(&config);
      return config;
    }
    const std::string& assignment = names.unknown_assignment();
    const size_t at = assignment.empty() ? std::string::npos : FindAssignment(text, assignment);
    if (at == std::string::npos) return absl::InvalidArgumentError(errors.Text());
    text.erase(at, assignment.size());
    unknown->push_back(assignment);
  }
}

absl::StatusOr<TrainConfig> LoadTrainConfig(const std::string& path, const std::vector<std::string>& overrides) {
  ASSIGN_OR_RETURN(const std::string text, ReadConfigFile(path));
  return ParseTrainConfig(text, path, overrides);
}

std::string ToText(const TrainConfig& config) {
  std::string text;
  APTM_CHECK(TextFormat::PrintToString(config, &text));
  return text;
}

}  // namespace angel_ptm
