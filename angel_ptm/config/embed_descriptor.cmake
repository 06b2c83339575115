# Writes OUTPUT, a C++ source that holds the bytes of INPUT (declared in angel_ptm/config/describe.cc).
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR bytes "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," list "${hex}")
file(WRITE ${OUTPUT} "#include <cstddef>
namespace angel_ptm {
extern const std::size_t kTrainConfigDescriptorBytes;
extern const unsigned char kTrainConfigDescriptor[];
const std::size_t kTrainConfigDescriptorBytes = ${bytes};
const unsigned char kTrainConfigDescriptor[] = {${list}};
}  // namespace angel_ptm
")
