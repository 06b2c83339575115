// GPT-2's pre-tokenisation (Radford et al. 2019): text is cut into words, and byte-pair merges never cross a cut. The
// same pattern and white-space set as Hugging Face's ByteLevel pre-tokenizer with use_regex = true.
#ifndef ANGEL_PTM_DATA_PRETOKENIZER_H_
#define ANGEL_PTM_DATA_PRETOKENIZER_H_

#include <cstddef>
#include <memory>
#include <string_view>

namespace angel_ptm {

// Compiled once; any number of threads may use one Pretokenizer, each with a Cursor of its own.
class Pretokenizer {
 public:
  Pretokenizer();
  ~Pretokenizer();
  Pretokenizer(const Pretokenizer&) = delete;
  Pretokenizer& operator=(const Pretokenizer&) = delete;

  // A thread's working memory.
  class Cursor {
   public:
    explicit Cursor(const Pretokenizer& pretokenizer);
    ~Cursor();
    Cursor(Cursor&&) noexcept;
    Cursor& operator=(Cursor&&) noexcept;

    // Starts on `text`, which must be valid UTF-8 and outlive the cursor's use of it.
    void Reset(std::string_view text);
    // The next word, a view into the text; empty at the end. The words concatenated are the text.
    std::string_view Next();

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct Pattern;
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace angel_ptm

#endif  // ANGEL_PTM_DATA_PRETOKENIZER_H_
