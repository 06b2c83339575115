#include "angel_ptm/config/compare.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace angel_ptm {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::TextFormat;

std::string ValueText(const Message& message, const FieldDescriptor& field) {
  std::string text;
  if (!field.is_repeated()) {
    TextFormat::PrintFieldValueToString(message, &field, -1, &text);
    return text;
  }
  const int count = message.GetReflection()->FieldSize(message, &field);
  for (int i = 0; i < count; ++i) {
    std::string element;
    TextFormat::PrintFieldValueToString(message, &field, i, &element);
    absl::StrAppend(&text, i == 0 ? "" : ", ", element);
  }
  return absl::StrCat("[", text, "]");
}

std::string ChosenMember(const Message& message, const OneofDescriptor& oneof) {
  const FieldDescriptor* field = message.GetReflection()->GetOneofFieldDescriptor(message, &oneof);
  return field == nullptr ? "none" : std::string(field->name());
}

void Compare(const Message& before, const Message& after, const std::string& prefix,
             std::vector<FieldDifference>& differences) {
  const Descriptor& type = *before.GetDescriptor();
  for (int i = 0; i < type.oneof_decl_count(); ++i) {
    const OneofDescriptor& oneof = *type.oneof_decl(i);
    const std::string a = ChosenMember(before, oneof), b = ChosenMember(after, oneof);
    if (a != b) differences.push_back({absl::StrCat(prefix, std::string(oneof.name())), a, b});
  }
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string path = absl::StrCat(prefix, std::string(field.name()));
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field.is_repeated()) {
      // A member of a oneof is compared only if both have chosen it.
      const bool one_has_it =
          before.GetReflection()->HasField(before, &field) != after.GetReflection()->HasField(after, &field);
      if (field.containing_oneof() != nullptr && one_has_it) continue;
      Compare(before.GetReflection()->GetMessage(before, &field), after.GetReflection()->GetMessage(after, &field),
              path + ".", differences);
      continue;
    }
    const std::string a = ValueText(before, field), b = ValueText(after, field);
    if (a != b) differences.push_back({path, a, b});
  }
}

}  // namespace

std::vector<FieldDifference> ConfigDifferences(const TrainConfig& before, const TrainConfig& after) {
  std::vector<FieldDifference> differences;
  Compare(before, after, "", differences);
  return differences;
}

bool IsBelow(std::string_view path, std::span<const std::string_view> fields) {
  return std::any_of(fields.begin(), fields.end(), [&](std::string_view field) {
    return path == field || (path.size() > field.size() && path.starts_with(field) && path[field.size()] == '.');
  });
}

std::vector<std::string> ModelDifferences(const TrainConfig& wanted, const TrainConfig& got,
                                          std::span<const std::string_view> may_differ) {
  constexpr std::string_view kModel[] = {"model"};
  std::vector<std::string> differences;
  for (const FieldDifference& d : ConfigDifferences(wanted, got)) {
    if (!IsBelow(d.path, kModel) || IsBelow(d.path, may_differ)) continue;
    differences.push_back(absl::StrCat(d.path, ": wanted ", d.before, ", got ", d.after));
  }
  return differences;
}

}  // namespace angel_ptm
