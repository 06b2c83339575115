# cmake -D INPUT=... -D OUTPUT=... -D NAME=... -P EmbedFile.cmake: writes a C++ source that holds the bytes of INPUT, as
# `extern const unsigned char <NAME>[]` and `extern const std::size_t <NAME>Bytes` of namespace angel_ptm.
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR bytes "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," list "${hex}")
file(WRITE ${OUTPUT} "#include <cstddef>
namespace angel_ptm {
extern const std::size_t ${NAME}Bytes;
extern const unsigned char ${NAME}[];
const std::size_t ${NAME}Bytes = ${bytes};
const unsigned char ${NAME}[] = {${list}};
}  // namespace angel_ptm
")
