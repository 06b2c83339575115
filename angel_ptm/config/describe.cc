#include "angel_ptm/config/describe.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "angel_ptm/base/check.h"

namespace angel_ptm {

// Generated at build time: a FileDescriptorSet of train_config.proto with its comments. (The descriptors compiled into
// the generated code have none.)
extern const std::size_t kTrainConfigDescriptorBytes;
extern const unsigned char kTrainConfigDescriptor[];

namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

std::string TypeName(const FieldDescriptor& field) {
  std::string type = field.type_name();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    std::vector<std::string> names;
    for (int i = 0; i < field.enum_type()->value_count(); ++i) names.push_back(field.enum_type()->value(i)->name());
    type = absl::StrJoin(names, "|");
  }
  return field.is_repeated() ? type + ", repeated" : type;
}

// "<meaning> Unit: <unit>. Default: <default>. Advice: <advice>"
FieldDescription Describe(const std::string& path, const FieldDescriptor& field) {
  google::protobuf::SourceLocation location;
  APTM_CHECK(field.GetSourceLocation(&location), path, " has no source location");
  std::string comment = location.leading_comments;
  absl::RemoveExtraAsciiWhitespace(&comment);
  const std::string unit = " Unit: ", default_value = ". Default: ", advice = ". Advice: ";
  const size_t unit_at = comment.find(unit), default_at = comment.find(default_value), advice_at = comment.find(advice);
  APTM_CHECK(unit_at < default_at && default_at < advice_at && advice_at != std::string::npos, path,
             ": the comment in train_config.proto lacks Unit, Default or Advice");
  const size_t unit_end = unit_at + unit.size(), default_end = default_at + default_value.size();
  return {.path = path,
          .type = TypeName(field),
          .meaning = comment.substr(0, unit_at),
          .unit = comment.substr(unit_end, default_at - unit_end),
          .default_value = comment.substr(default_end, advice_at - default_end),
          .advice = comment.substr(advice_at + advice.size())};
}

void AppendFields(const Descriptor& message, const std::string& prefix, std::vector<FieldDescription>* fields) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    const std::string path = prefix + field.name();
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      AppendFields(*field.message_type(), path + ".", fields);
    } else {
      fields->push_back(Describe(path, field));
    }
  }
}

std::string FirstSentence(const std::string& text) {
  const size_t end = text.find(". ");
  return end == std::string::npos ? text : text.substr(0, end + 1);
}

}  // namespace

std::vector<FieldDescription> ListFields() {
  google::protobuf::FileDescriptorSet files;
  APTM_CHECK(files.ParseFromArray(kTrainConfigDescriptor, static_cast<int>(kTrainConfigDescriptorBytes)),
             "the embedded descriptor of train_config.proto does not parse");
  google::protobuf::DescriptorPool pool;
  for (const auto& file : files.file()) APTM_CHECK(pool.BuildFile(file) != nullptr, file.name());
  const Descriptor* root = pool.FindMessageTypeByName("angel_ptm.TrainConfig");
  APTM_CHECK(root != nullptr);
  std::vector<FieldDescription> fields;
  AppendFields(*root, "", &fields);
  return fields;
}

std::string DescribeFields() {
  std::string text;
  for (const FieldDescription& field : ListFields()) {
    absl::StrAppend(&text, field.path, "  (", field.type, "; default ", field.default_value);
    if (field.unit != "none") absl::StrAppend(&text, "; in ", field.unit);
    absl::StrAppend(&text, ")\n    ", FirstSentence(field.meaning), "\n");
  }
  return text;
}

}  // namespace angel_ptm
