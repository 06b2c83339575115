#include "angel_ptm/data/patterns/normal_form.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "angel_ptm/base/check.h"

namespace angel_ptm {

bool HasPatternLibraries() { return true; }

std::string NormalFormC(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  APTM_CHECK(size >= 0, utf8proc_errmsg(size));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  return std::string(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
}

}  // namespace angel_ptm
