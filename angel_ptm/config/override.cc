#include "angel_ptm/config/override.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/text.h"
#include "angel_ptm/config/suggest.h"

namespace angel_ptm {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::vector<std::string> FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) names.push_back(message.field(i)->name());
  return names;
}

// All paths below `message` whose last name is `name`.
void FindPaths(const Descriptor& message, const std::string& prefix, const std::string& name,
               std::vector<std::string>* paths) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (field.name() == name) paths->push_back(prefix + name);
    if (field.message_type() != nullptr) {
      FindPaths(*field.message_type(), absl::StrCat(prefix, field.name(), "."), name, paths);
    }
  }
}

absl::Status NoSuchField(const std::string& parent, const Descriptor& message, const std::string& wrong,
                         const std::string& last_name) {
  const std::string where = parent.empty() ? "the config" : absl::StrCat("'", parent, "'");
  std::vector<std::string> elsewhere;
  FindPaths(*TrainConfig::descriptor(), "", last_name, &elsewhere);
  const std::string hint = elsewhere.empty() ? SuggestName(wrong, FieldNames(message))
                                             : absl::StrCat("did you mean '", absl::StrJoin(elsewhere, "' or '"), "'?");
  return absl::InvalidArgumentError(absl::StrCat(where, " has no field '", wrong, "'; ", hint));
}

absl::Status WrongValue(const std::string& wanted, const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat("wanted ", wanted, ", got '", text, "'"));
}

// Removes quotes around text, inside which \" and \\ stand for a quote and a backslash; other text stays as it is.
std::string Unquote(const std::string& text) {
  const bool quoted = text.size() >= 2 && text.front() == '"' && text.back() == '"';
  if (!quoted) return text;
  return absl::StrReplaceAll(text.substr(1, text.size() - 2), {{"\\\\", "\\"}, {"\\\"", "\""}});
}

absl::Status ParseEnum(const EnumDescriptor& type, const std::string& text, const EnumValueDescriptor** value) {
  *value = type.FindValueByName(text);
  if (*value != nullptr) return absl::OkStatus();
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return absl::InvalidArgumentError(absl::StrCat("no value '", text, "'; ", SuggestName(text, names)));
}

absl::Status SetSingular(const std::string& text, const FieldDescriptor& field, Message* message) {
  const Reflection& reflection = *message->GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t value;
      if (!absl::SimpleAtoi(text, &value)) return WrongValue("an integer of 32 bits", text);
      reflection.SetInt32(message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      const bool counts_bytes = absl::EndsWith(field.name(), "bytes");
      int64_t value = 0;
      const std::optional<int64_t> bytes = counts_bytes ? ParseBytes(text) : std::nullopt;
      if (counts_bytes && !bytes) return WrongValue("bytes as an integer or with a unit (512MiB, 1.5GiB, 80GB)", text);
      if (!counts_bytes && !absl::SimpleAtoi(text, &value)) return WrongValue("an integer", text);
      reflection.SetInt64(message, &field, bytes.value_or(value));
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t value;
      if (!absl::SimpleAtoi(text, &value)) return WrongValue("an integer of at least 0", text);
      reflection.SetUInt64(message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value;
      if (!absl::SimpleAtod(text, &value)) return WrongValue("a number", text);
      reflection.SetDouble(message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return WrongValue("true or false", text);
      reflection.SetBool(message, &field, text == "true");
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* value;
      RETURN_IF_ERROR(ParseEnum(*field.enum_type(), text, &value));
      reflection.SetEnum(message, &field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING:
      reflection.SetString(message, &field, Unquote(text));
      return absl::OkStatus();
    default:
      APTM_CHECK(false, field.full_name(), ": overrides do not know this field type");
      return absl::OkStatus();
  }
}

// Splits at commas outside quotes and drops empty items.
absl::StatusOr<std::vector<std::string>> SplitItems(const std::string& list) {
  std::vector<std::string> items;
  size_t begin = 0;
  bool quoted = false;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (quoted && i + 1 < list.size() && list[i] == '\\') {
      ++i;  // the escaped character ends nothing
      continue;
    }
    if (i < list.size() && list[i] == '"') quoted = !quoted;
    if (i < list.size() && (list[i] != ',' || quoted)) continue;
    std::string item(absl::StripAsciiWhitespace(list.substr(begin, i - begin)));
    if (quoted) return WrongValue("a quote that ends", item);
    if (!item.empty()) items.push_back(std::move(item));
    begin = i + 1;
  }
  return items;
}

absl::Status SetRepeatedString(const std::string& text, const FieldDescriptor& field, Message* message) {
  APTM_CHECK(field.cpp_type() == FieldDescriptor::CPPTYPE_STRING, field.full_name(),
             ": overrides of repeated fields know strings only");
  const Reflection& reflection = *message->GetReflection();
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') {
    reflection.AddString(message, &field, Unquote(text));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> items, SplitItems(text.substr(1, text.size() - 2)));
  reflection.ClearField(message, &field);
  for (const std::string& item : items) reflection.AddString(message, &field, Unquote(item));
  return absl::OkStatus();
}

absl::Status SetByPath(const std::string& path, const std::string& text, Message* message) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  std::string parent;
  for (size_t i = 0;; ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (field == nullptr) return NoSuchField(parent, *message->GetDescriptor(), names[i], names.back());
    absl::StrAppend(&parent, i == 0 ? "" : ".", names[i]);
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    const bool is_last = i + 1 == names.size();
    if (is_last && !is_message) {
      if (!field->is_repeated()) return SetSingular(text, *field, message);
      return SetRepeatedString(text, *field, message);
    }
    if (is_last) {
      return absl::InvalidArgumentError(absl::StrCat("'", parent, "' is a group of fields, wanted one of them: ",
                                                     absl::StrJoin(FieldNames(*field->message_type()), ", ")));
    }
    if (!is_message) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", parent, "' is a value and has no field '", names[i + 1], "'"));
    }
    // Choosing another member of a oneof would discard the fields that the file sets in the chosen one.
    const Reflection& reflection = *message->GetReflection();
    if (const auto* oneof = field->containing_oneof(); oneof != nullptr) {
      const FieldDescriptor* chosen = reflection.GetOneofFieldDescriptor(*message, oneof);
      if (chosen != nullptr && chosen != field) {
        return absl::InvalidArgumentError(absl::StrCat("the config has ", parent.substr(0, parent.rfind('.') + 1),
                                                       chosen->name(), ", wanted a field of it, got one of ", parent));
      }
    }
    message = reflection.MutableMessage(message, field);
  }
}

}  // namespace

absl::Status ApplyOverride(const std::string& assignment, TrainConfig* config) {
  const size_t equals = assignment.find('=');
  const std::string context = absl::StrCat("--set ", assignment, ": ");
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat(context, "wanted path.to.field=value"));
  }
  const std::string path(absl::StripAsciiWhitespace(assignment.substr(0, equals)));
  const std::string text(absl::StripAsciiWhitespace(assignment.substr(equals + 1)));
  const absl::Status status = SetByPath(path, text, config);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(context, status.message()));
}

}  // namespace angel_ptm
