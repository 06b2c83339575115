#include "angel_ptm/data/sealed_json.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"

namespace angel_ptm {
namespace {

constexpr char kLineBegin[] = "{\"checksum\": \"", kLineEnd[] = "\",\n";

}  // namespace

std::string SealJson(std::string_view object) {
  APTM_CHECK(object.starts_with("{\n"));
  const std::string body = absl::StrCat(std::string(object.substr(2)), "\n");
  return absl::StrCat(kLineBegin, ChecksumText(Xxh64(body)), kLineEnd, body);
}

std::string WrongSeal(std::string_view text, bool* sealed) {
  *sealed = text.starts_with(kLineBegin);
  if (!*sealed) return "";
  text.remove_prefix(std::strlen(kLineBegin));
  const size_t end = text.find(kLineEnd);
  if (end == std::string_view::npos) return "its first line is damaged";
  const std::string wanted(text.substr(0, end)), got = ChecksumText(Xxh64(text.substr(end + std::strlen(kLineEnd))));
  return wanted == got ? "" : absl::StrCat("it is damaged: its checksum is ", got, ", its first line says ", wanted);
}

}  // namespace angel_ptm
