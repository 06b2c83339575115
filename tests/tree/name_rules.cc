#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/tree/reach.h"
#include "tests/tree/tree_rules.h"

namespace angel_ptm::tree {
namespace {

// A header, and the names of its library that this tree takes from it. A name may be in several rows; a name in no row
// is a finding, so that the table stays complete.
struct Declarer {
  std::string_view header;
  std::string_view names;
};

constexpr Declarer kStandard[] = {
    {"algorithm",
     "all_of any_of binary_search clamp copy copy_if copy_n count count_if equal equal_range fill fill_n find find_if "
     "includes inplace_merge is_sorted lower_bound max max_element min min_element minmax_element mismatch none_of "
     "nth_element partial_sort partition_point pop_heap push_heap ranges replace reverse rotate shuffle sort "
     "stable_partition stable_sort swap_ranges transform unique upper_bound"},
    {"array", "array begin end get size"},
    {"atomic",
     "atomic atomic_flag memory_order_acquire memory_order_release memory_order_relaxed memory_order_acq_rel"},
    {"barrier", "barrier"},
    {"bit", "bit_cast bit_width countl_zero countr_zero endian has_single_bit rotr"},
    {"cctype", "isalnum isspace isupper isxdigit tolower toupper"},
    {"charconv", "from_chars to_chars"},
    {"chrono", "chrono micro milli"},
    {"cmath",
     "abs acos atan2 ceil cos erfc exp exp2 expm1 fabs floor fma fmin hypot ilogb isfinite isinf isnan ldexp llround "
     "log "
     "log2 lrint lround nan nanf nearbyint nextafter pow round signbit sin sqrt tanh"},
    {"compare", "strong_ordering"},
    {"concepts", "convertible_to"},
    {"condition_variable", "condition_variable condition_variable_any"},
    {"csignal", "raise signal"},
    {"cstdarg", "va_list"},
    {"cstddef", "byte ptrdiff_t size_t"},
    {"cstdint", "int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t uintmax_t uintptr_t intptr_t"},
    {"cstdio",
     "FILE fclose ferror fflush fgetc fgets fopen fprintf fputs fread fwrite printf remove rename size_t snprintf"},
    {"cstdlib",
     "_Exit abort abs aligned_alloc atoi atoll calloc exit free getenv llabs malloc realloc strtod strtoll strtoull "
     "system"},
    {"cstring", "memchr memcmp memcpy memmove memset size_t strchr strcmp strerror strlen strncmp strrchr strstr"},
    {"ctime", "strftime time time_t tm"},
    {"deque", "deque"},
    {"exception", "current_exception exception rethrow_exception set_terminate"},
    {"filesystem", "filesystem"},
    {"fstream", "fstream ifstream ios istream ofstream ostream"},
    {"functional", "function less less_equal"},
    {"initializer_list", "initializer_list"},
    {"ios", "hex ios"},
    {"iostream", "cerr cout"},
    {"iterator", "back_inserter begin distance end istreambuf_iterator next prev size"},
    {"latch", "latch"},
    {"limits", "numeric_limits"},
    {"map", "erase_if map"},
    {"memory", "align default_delete make_shared make_unique shared_ptr unique_ptr weak_ptr"},
    {"mutex", "call_once lock_guard mutex once_flag unique_lock"},
    {"new", "align_val_t bad_alloc set_new_handler"},
    {"numbers", "numbers"},
    {"numeric", "accumulate inner_product iota"},
    {"optional", "nullopt optional"},
    {"ostream", "ostream"},
    {"queue", "priority_queue"},
    {"random", "mt19937 mt19937_64 normal_distribution"},
    {"ratio", "micro milli"},
    {"regex", "regex regex_match regex_replace regex_search smatch sregex_iterator"},
    {"set", "erase_if multiset set"},
    {"source_location", "source_location"},
    {"span", "as_bytes as_writable_bytes span"},
    {"sstream", "ios istringstream ostream ostringstream"},
    {"stop_token", "stop_token"},
    {"string", "begin end erase_if getline size stod stoi stoll string string_literals to_string u32string"},
    {"string_view", "begin end size string_view string_view_literals"},
    {"system_error", "errc error_code system_error"},
    {"thread", "jthread this_thread thread"},
    {"tuple", "get tie tuple"},
    {"type_traits",
     "conditional_t false_type has_unique_object_representations_v integral_constant invoke_result_t is_same_v "
     "is_trivially_copyable_v is_void_v true_type type_identity_t"},
    {"unordered_set", "unordered_set"},
    {"utility", "exchange get integer_sequence make_integer_sequence move pair swap"},
    {"variant", "get variant"},
    {"vector", "begin end erase_if size vector"},
};

constexpr Declarer kAbseil[] = {
    {"absl/cleanup/cleanup.h", "Cleanup"},
    {"absl/container/flat_hash_map.h", "flat_hash_map"},
    {"absl/container/flat_hash_set.h", "flat_hash_set"},
    {"absl/container/inlined_vector.h", "InlinedVector"},
    {"absl/functional/function_ref.h", "FunctionRef"},
    {"absl/status/status.h",
     "AlreadyExistsError CancelledError DataLossError DeadlineExceededError ErrnoToStatus FailedPreconditionError "
     "InternalError InvalidArgumentError IsAlreadyExists IsCancelled IsDeadlineExceeded IsFailedPrecondition "
     "IsInvalidArgument IsNotFound IsResourceExhausted IsUnavailable NotFoundError OkStatus OutOfRangeError "
     "PermissionDeniedError ResourceExhaustedError Status StatusCode UnavailableError UnimplementedError UnknownError"},
    {"absl/status/statusor.h", "StatusOr"},
    {"absl/strings/ascii.h",
     "AsciiStrToLower RemoveExtraAsciiWhitespace StripAsciiWhitespace ascii_isalnum ascii_iscntrl ascii_isdigit"},
    {"absl/strings/escaping.h", "Base64Escape CEscape CHexEscape"},
    {"absl/strings/match.h", "EndsWith EndsWithIgnoreCase StartsWith StrContains"},
    {"absl/strings/numbers.h", "SimpleAtod SimpleAtoi SimpleHexAtoi"},
    {"absl/strings/str_cat.h", "AlphaNum Hex StrAppend StrCat kZeroPad16 kZeroPad8 string_view"},
    {"absl/strings/str_format.h", "FPrintF FormatSpec StrAppendFormat StrFormat"},
    {"absl/strings/str_join.h", "StrJoin"},
    {"absl/strings/str_replace.h", "StrReplaceAll"},
    {"absl/strings/str_split.h", "ByAnyChar MaxSplits SkipEmpty SkipWhitespace StrSplit string_view"},
    {"absl/strings/string_view.h", "string_view"},
    {"absl/strings/strip.h", "ConsumePrefix StripSuffix"},
};

using HeadersOfName = std::map<std::string, std::set<std::string>, std::less<>>;

void Append(std::span<const Declarer> table, const std::string& prefix, HeadersOfName* headers) {
  for (const Declarer& declarer : table) {
    std::string_view left = declarer.names;
    while (!left.empty()) {
      const std::size_t end = std::min(left.find(' '), left.size());
      (*headers)[prefix + std::string(left.substr(0, end))].emplace(declarer.header);
      left.remove_prefix(std::min(end + 1, left.size()));
    }
  }
}

// Names of both libraries, and other names that precompiled headers would provide: GoogleTest's macros, integers
// without std::.
const HeadersOfName& Declarers() {
  static const HeadersOfName headers = [] {
    HeadersOfName all;
    Append(kStandard, "std::", &all);
    Append(kAbseil, "absl::", &all);
    for (const char* name :
         {"int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t"}) {
      all[name] = {"cstdint", "stdint.h"};
    }
    for (const char* name : {"TEST", "TEST_F", "TEST_P", "EXPECT_EQ", "EXPECT_TRUE", "ASSERT_TRUE", "ASSERT_EQ"}) {
      all[name] = {"gtest/gtest.h", "gmock/gmock.h"};
    }
    for (const char* name : {"EXPECT_THAT", "ASSERT_THAT", "MATCHER_P"}) all[name] = {"gmock/gmock.h"};
    all["nlohmann::"] = {"nlohmann/json.hpp", "nlohmann/json_fwd.hpp"};
    return all;
  }();
  return headers;
}

// For a source that reaches `reached` and uses `name`: the header it must include, or that the table lacks the name; ""
// if nothing is missing.
std::string WhatLacks(const std::string& name, const std::set<std::string>& reached) {
  const auto declarers = Declarers().find(name);
  if (declarers == Declarers().end()) {
    const bool is_of_a_library = name.starts_with("std::") || name.starts_with("absl::");
    return is_of_a_library ? name + " is in no row of tests/tree/name_rules.cc" : "";
  }
  const std::set<std::string>& headers = declarers->second;
  const bool is_reached =
      std::any_of(headers.begin(), headers.end(), [&](const std::string& header) { return reached.contains(header); });
  return is_reached ? "" : name + " wants an include of <" + *headers.begin() + ">";
}

}  // namespace

std::vector<Finding> CheckNames(const std::vector<SourceFile>& files) {
  // A library's name with its first component, one of GoogleTest's macros, or an integer type.
  static const std::regex names(R"((^|[^:\w])((std|absl)::[A-Za-z_]\w*|nlohmann::|u?int(8|16|32|64)_t\b|)"
                                R"([A-Z]+_(THAT|P|F|EQ|TRUE)(?=\()|TEST(?=\()))");
  std::vector<Finding> findings;
  Reach reach(files);
  for (const SourceFile& file : files) {
    if (!IsCpp(file.path)) continue;
    std::set<std::string> seen;
    for (std::size_t i = 0; i < file.code_lines.size(); ++i) {
      const std::string& line = file.code_lines[i];
      for (std::sregex_iterator match(line.begin(), line.end(), names), end; match != end; ++match) {
        if (!seen.insert((*match)[2]).second) continue;
        const std::string lacks = WhatLacks((*match)[2], reach.Of(file.path));
        if (!lacks.empty()) findings.push_back({file.path, static_cast<int>(i) + 1, lacks});
      }
    }
  }
  return findings;
}

}  // namespace angel_ptm::tree
