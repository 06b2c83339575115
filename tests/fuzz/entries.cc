#include "tests/fuzz/entries.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "angel_ptm/base/check.h"
#include "angel_ptm/base/checksum.h"
#include "angel_ptm/checkpoint/manifest.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/config/load.h"
#include "angel_ptm/config/validate.h"
#include "angel_ptm/data/dataset.h"
#include "angel_ptm/data/images/image_dataset.h"
#include "angel_ptm/data/images/image_file.h"
#include "angel_ptm/data/token_file.h"
#include "angel_ptm/data/tokenizer.h"
#include "tests/support/sealed_image_file.h"

namespace angel_ptm {
namespace {

// A file in memory with a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    APTM_CHECK(fd_ >= 0);
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      APTM_CHECK(written > 0);
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return absl::StrCat("/proc/self/fd/", fd_); }

 private:
  int fd_;
};

}  // namespace

void FuzzConfig(std::string_view bytes) {
  const auto config = ParseTrainConfig(std::string(bytes), "fuzz");
  if (!config.ok()) return;
  RunFacts facts;
  facts.machine_memory_bytes = int64_t{1} << 34;
  facts.cores = 4;
  if (Validate(*config, facts).ok()) Derive(*config, facts);
  ValidatePrepare(*config).IgnoreError();
  const auto again = ParseTrainConfig(ToText(*config), "fuzz");
  APTM_CHECK(again.ok() && ToText(*again) == ToText(*config));
}

void FuzzDataset(std::string_view bytes) {
  const std::string text(bytes);
  DatasetManifest::FromJson(text, "fuzz").status().IgnoreError();
  // Prepends the first line with a checksum that is correct for the text.
  const std::string sealed = absl::StrCat("{\"checksum\": \"", ChecksumText(Xxh64(text)), "\",\n", text);
  const auto manifest = DatasetManifest::FromJson(sealed, "fuzz");
  if (manifest.ok()) APTM_CHECK(DatasetManifest::FromJson(manifest->ToJson(), "fuzz").ok());
}

void FuzzImageDataset(std::string_view bytes) {
  const std::string text(bytes);
  ImageManifest::FromJson(text, "fuzz").status().IgnoreError();
  const std::string sealed = absl::StrCat("{\"checksum\": \"", ChecksumText(Xxh64(text)), "\",\n", text);
  const auto manifest = ImageManifest::FromJson(sealed, "fuzz");
  if (manifest.ok()) APTM_CHECK(ImageManifest::FromJson(manifest->ToJson(), "fuzz").ok());
}

// The bytes are the format's own header, then the content.
void FuzzImageFile(std::string_view bytes) {
  const std::string_view own = bytes.substr(0, kImageOwnHeaderBytes);
  const MemoryFile memory(SealImageFile(own, bytes.substr(own.size())));
  ImageFile::Open(memory.path()).status().IgnoreError();
  const auto opened = ImageFile::Open(memory.path(), {.checked_at_open_bytes_max = 0});
  if (!opened.ok()) return;
  const ImageFile& file = **opened;
  std::vector<uint8_t> pixels(file.count() > 0 ? static_cast<size_t>(file.shape().pixel_bytes()) : 0);
  std::vector<int32_t> tokens(7);
  for (int64_t i = 0; i < file.count(); ++i) {
    if (!file.ReadPixels(i, pixels).ok() || !file.ReadLabels(i).ok()) return;
    for (int32_t language = 0; language < file.shape().languages; ++language) {
      const auto captions = file.CaptionCount(i, language);
      if (!captions.ok() || *captions == 0) continue;
      const CaptionKey last = {i, language, *captions - 1};
      if (!file.ReadTokens(last, 0, tokens).ok()) continue;
      for (const int32_t token : tokens) APTM_CHECK(token >= 0 && token < file.shape().vocabulary_size, token);
      APTM_CHECK(file.ReadCaption(last).ok());
    }
  }
}

void FuzzManifest(std::string_view bytes) {
  const std::string text(bytes);
  DecodeManifest(text, "fuzz").status().IgnoreError();
  const std::string sealed = absl::StrCat("{\"checksum\": \"", ChecksumText(Xxh3(text)), "\",\n", text);
  const auto manifest = DecodeManifest(sealed, "fuzz");
  if (manifest.ok()) APTM_CHECK(DecodeManifest(EncodeManifest(*manifest), "fuzz").ok());
}

void FuzzSafetensors(std::string_view bytes) {
  const MemoryFile file(bytes);
  const auto reader = SafetensorsReader::Open(file.path());
  if (!reader.ok()) return;
  std::vector<std::byte> data;
  for (const SafetensorsTensor& tensor : reader->tensors()) {
    data.resize(static_cast<size_t>(tensor.bytes()));
    const absl::Status read = reader->Read(tensor, 0, data);
    APTM_CHECK(read.ok(), read.ToString());
  }
}

// The bytes are the header's numbers, then the content. The checksums and the file's size are corrected, since
// otherwise they would reject everything but the original.
void FuzzTokenFile(std::string_view bytes) {
  constexpr size_t kNumbers = 80, kHeader = 4096;
  std::string file(kHeader, '\0');
  bytes.copy(file.data(), kNumbers);
  if (bytes.size() > kNumbers) file += bytes.substr(kNumbers);
  const auto put = [&](size_t at, uint64_t value) { std::memcpy(file.data() + at, &value, sizeof(value)); };
  const uint64_t chunk = Xxh64(file.data() + kHeader, file.size() - kHeader);
  file.append(reinterpret_cast<const char*>(&chunk), sizeof(chunk));
  put(64, Xxh64(&chunk, sizeof(chunk)));
  put(72, file.size());
  put(kHeader - 8, Xxh64(file.data(), kHeader - 8));
  const MemoryFile memory(file);
  TokenFile::Open(memory.path()).status().IgnoreError();
  const auto opened = TokenFile::Open(memory.path(), {.checked_at_open_bytes_max = 0});
  if (!opened.ok()) return;
  std::vector<int32_t> tokens(static_cast<size_t>((*opened)->token_count()));
  if (!(*opened)->Read(0, tokens).ok()) return;
  for (const int32_t token : tokens) APTM_CHECK(token >= 0 && token < (*opened)->vocabulary_size(), token);
}

void FuzzTokenizer(std::string_view bytes) {
  const auto tokenizer = Tokenizer::FromJson(bytes, "fuzz");
  if (!tokenizer.ok()) return;
  const std::string text =
      "A line, 12 Zeilen und 页面移动 <|endoftext|> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
  std::string wanted = text;
  const std::vector<int32_t> ids = (*tokenizer)->Encode(text);
  for (const int32_t id : ids) APTM_CHECK(id >= 0 && id < (*tokenizer)->vocabulary_size(), id);
  // Special tokens decode to nothing, rules may drop parts of a text, and tokens stand for their normal form.
  const auto special = [&](int32_t id) { return (*tokenizer)->TokenBytes(id).empty(); };
  const int32_t end = (*tokenizer)->end_of_text_id();
  if (special(end)) wanted.erase(wanted.find(kEndOfTextToken), kEndOfTextToken.size());
  const bool loses = bytes.find("Removed") != std::string_view::npos || bytes.find("NFC") != std::string_view::npos ||
                     std::any_of(ids.begin(), ids.end(), [&](int32_t id) { return id != end && special(id); });
  APTM_CHECK(loses || (*tokenizer)->Decode(ids) == wanted);
  APTM_CHECK(Tokenizer::FromJson((*tokenizer)->ToJson(), "fuzz").ok());
}

}  // namespace angel_ptm
