// The real program, from images with captions to a trained model of latents: prepares them, encodes them into one file,
// trains on it, and samples an image for a caption.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "angel_ptm/base/file.h"
#include "angel_ptm/checkpoint/safetensors.h"
#include "angel_ptm/data/images/codecs.h"
#include "angel_ptm/train/output_lock.h"
#include "tests/support/or_die.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_text_encoders.h"

namespace angel_ptm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kModel = R"(
model {
  hunyuan_dit {
    channels: 2 height: 8 hidden_size: 32 num_hidden_layers: 4 num_attention_heads: 2 clip_hidden_size: 8
    clip_length: 6 t5_hidden_size: 16 t5_length: 9 pooled_size: 16
  }
}
batch { global_batch_sequences: 2 micro_batch_sequences: 2 }
optimizer { schedule { warmup_steps: 0 } }
steps: 2
evaluation { every_steps: 0 }
memory { page_bytes: 8192 }
numerics { threads_per_rank: 1 }
)";

class EncodeTest : public ::testing::Test {
 protected:
  static constexpr int32_t kSide = 16;  // the autoencoder halves it

  void SetUp() override {
    OrDie(MakeDirectories(dir_ / "images"));
    OrDie(MakeDirectories(dir_ / "model"));
    const char* const captions[] = {"a red fox", "猫", "fox"};
    for (int i = 0; i < 3; ++i) {
      Image image = MakeImage(kSide, kSide, 3);
      for (size_t p = 0; p < image.pixels.size(); ++p) image.pixels[p] = static_cast<uint8_t>(p * (7 + i) + 40 * i);
      OrDie(WritePng(absl::StrCat(dir_ / "images/", i, ".png"), image));
      OrDie(WriteFile(absl::StrCat(dir_ / "images/", i, ".txt"), captions[i]));
    }
    OrDie(WriteFile(dir_ / "config.textproto", kModel));
    WriteTinyTextEncoders(dir_ / "model", ANGEL_PTM_SPIECE);
    // With a scaling factor that suits its random weights.
    OrDie(MakeDirectories(dir_ / "model/vae"));
    const std::string weights = "/diffusion_pytorch_model.safetensors";
    Spill(dir_ / "model/vae" + weights, Slurp(AUTOENCODER + weights));
    Spill(dir_ / "model/vae/config.json",
          absl::StrReplaceAll(Slurp(absl::StrCat(AUTOENCODER, "/config.json")), {{"0.13025", "0.8"}}));
    Prepare();
  }
  void Prepare() {
    Run(absl::StrCat("prepare ", CONFIG, " --set data.directory=", dir_ / "data",
                     " --set data.prepare.images.source=FOLDER --set data.prepare.input=", dir_ / "images",
                     " --set data.prepare.images.height=16 --set data.prepare.images.width=16",
                     " --set data.prepare.validation_fraction=0 --set data.prepare.vocabulary_size=258"));
  }
  // Returns what the program prints; expects that it fails if `fails`.
  std::string Run(const std::string& words, bool fails = false) {
    const std::string out = dir_ / "said";
    EXPECT_EQ(std::system(absl::StrCat(PROGRAM, " ", words, " > ", out, " 2>&1").c_str()) != 0, fails) << Slurp(out);
    return Slurp(out);
  }
  std::string Texts() const {
    return absl::StrCat(" --clip ", dir_ / "model", " --t5 ", dir_ / "model", " --clip-length 6 --t5-length 9");
  }
  std::string Images(const std::string& from) const {
    return absl::StrCat(" --images ", dir_ / from, " --autoencoder ", dir_ / "model");
  }

  const TemporaryFolder dir_;
};

TEST_F(EncodeTest, FromPreparedImagesToASampledOne) {
  const std::string both = absl::StrCat("encode --output ", dir_ / "train.safetensors", Images("data"), Texts());
  const std::string said = Run(both);
  EXPECT_THAT(said, HasSubstr("3 latents in "));
  EXPECT_THAT(said, HasSubstr("3 captions in "));
  EXPECT_FALSE(OrDie(PathExists(dir_ / "train.safetensors.texts")));
  EXPECT_FALSE(OrDie(PathExists(dir_ / "train.safetensors.latents")));
  const std::string run =
      absl::StrCat(" --set data.directory=", dir_.path(), " --set output.directory=", dir_ / "run ");
  EXPECT_THAT(Run(absl::StrCat("train ", dir_ / "config.textproto", run)), HasSubstr("saved "));
  const std::string sampled = absl::StrCat("generate --checkpoint ", dir_ / "run", " --steps 2 --output ",
                                           dir_ / "sampled", " --prompt 'a red fox' --clip ", dir_ / "model", " --t5 ",
                                           dir_ / "model", " --autoencoder ", dir_ / "model");
  EXPECT_THAT(Run(sampled), HasSubstr("1 images and "));
  const Image image = OrDie(DecodeImage(Slurp(dir_ / "sampled.images/0000.png"), "0000.png"));
  EXPECT_EQ(image.width, kSide);
  EXPECT_THAT(Slurp(dir_ / "sampled.images/samples.jsonl"), HasSubstr("\"prompt\":\"a red fox\""));
  // The negative prompt and the type that text states are computed in change the latents.
  const std::string latents = Slurp(dir_ / "sampled");
  Run(sampled + " --negative-prompt 猫");
  EXPECT_NE(Slurp(dir_ / "sampled"), latents);
  EXPECT_THAT(Run(sampled + " --negative-prompt 猫 --guidance 1", true),
              HasSubstr("--guidance: 1 leads away from nothing, wanted another for the negative prompt \"猫\""));
  EXPECT_THAT(Run(sampled + " --negative-prompt '猫\xff'", true),
              HasSubstr("--negative-prompt: wanted a text in UTF-8"));
  Run(sampled + " --text-compute BF16");
  EXPECT_NE(Slurp(dir_ / "sampled"), latents);
  Run(sampled + " --device-bytes 1MiB --host-bytes 1GiB");
  EXPECT_EQ(Slurp(dir_ / "sampled"), latents);
  // Refused before the encoders run.
  for (const char* flag : {" --size 7x8", " --control-scale 1"}) {
    EXPECT_THAT(Run(absl::StrCat(sampled, flag, " --clip ", dir_ / "nothing"), true),
                HasSubstr(absl::StrCat(flag).substr(1, 6)));
  }

  // A model that reads sizes gets those of whole images.
  const std::string sizes =
      absl::StrCat(" --set data.directory=", dir_.path(), " --set output.directory=", dir_ / "sizes ");
  Run(absl::StrCat("train ", dir_ / "config.textproto", sizes, "--set model.hunyuan_dit.size_and_style=true"));
  EXPECT_THAT(Run(absl::StrReplaceAll(sampled, {{dir_ / "run", dir_ / "sizes"}})), HasSubstr("1 images and "));

  // The second time everything comes from the cache, with the same bytes.
  const std::string bytes = Slurp(dir_ / "train.safetensors");
  const std::string again = Run(both);
  EXPECT_THAT(again, HasSubstr("3 from the cache"));
  EXPECT_THAT(again, HasSubstr(": 0 texts encoded"));
  EXPECT_EQ(Slurp(dir_ / "train.safetensors"), bytes);
}

// A branch that reads a condition samples with an image and prompts in words.
TEST_F(EncodeTest, ConditionsOfPromptsAreImages) {
  Run(absl::StrCat("encode --output ", dir_ / "train.safetensors", Images("data"), Texts(), " --conditions ",
                   dir_ / "data"));
  const auto run = [&](const std::string& words, const std::string& name) {
    return absl::StrCat(words, " ", dir_ / "config.textproto", " --set data.directory=", dir_.path(),
                        " --set output.directory=", dir_ / name);
  };
  Run(run("train", "run"));
  Run(absl::StrCat("export --checkpoint ", dir_ / "run", " --format diffusers --output ", dir_ / "exported"));
  const std::string control = " --set model.hunyuan_dit.control=true --set optimizer.adamw.learning_rate=0.1 ";
  Run(run("import", "branch") + control + "--format diffusers --from " + (dir_ / "exported"));
  Run(run("train", "branch") + control + "--resume");
  const std::string generate = absl::StrCat(
      "generate --checkpoint ", dir_ / "branch", " --steps 2 --output ", dir_ / "sampled",
      " --prompt 'a red fox' --prompt 猫 --negative-prompt fox --clip ", dir_ / "model", " --t5 ", dir_ / "model");
  EXPECT_THAT(Run(generate, true), HasSubstr("wanted --autoencoder and one --condition, or one for each of the 2 "
                                             "prompts, got 0 and no --autoencoder; or --texts, a file with both"));
  const std::string with = absl::StrCat(generate, " --autoencoder ", dir_ / "model", " --condition ", dir_ / "images/");
  const auto latents = [&](const std::string& words) {
    Run(words);
    return Slurp(dir_ / "sampled");
  };
  const std::string of_one = latents(with + "0.png");
  EXPECT_TRUE(latents(absl::StrCat(with, "0.png --condition ", dir_ / "images/0.png")) == of_one);
  EXPECT_FALSE(latents(absl::StrCat(with, "0.png --condition ", dir_ / "images/1.png")) == of_one);
  EXPECT_FALSE(OrDie(PathExists(dir_ / "sampled.texts.safetensors.conditions")));
  OrDie(WritePng(dir_ / "images/high.png", MakeImage(kSide, 2 * kSide, 3)));
  EXPECT_THAT(Run(with + "high.png", true), HasSubstr("high.png: wanted 16 x 16, got 16 x 32"));
  EXPECT_THAT(Run(absl::StrCat("generate --checkpoint ", dir_ / "run", " --output ", dir_ / "x --prompt fox --clip ",
                               dir_ / "model", " --t5 ", dir_ / "model", " --condition x"),
                  true),
              HasSubstr("--condition: the checkpoint's model reads none"));
}

constexpr const char* kDit = R"(
model {
  dit {
    channels: 2 height: 8 hidden_size: 32 num_hidden_layers: 2 num_attention_heads: 2 text_length: 12
    text_hidden_size: 32 text_num_hidden_layers: 1 latents: true
  }
}
batch { global_batch_sequences: 2 micro_batch_sequences: 2 }
optimizer { schedule { warmup_steps: 0 } }
steps: 2
evaluation { every_steps: 0 }
memory { page_bytes: 8192 }
numerics { threads_per_rank: 1 }
)";

// A model that reads captions itself trains on latents that lie beside the prepared images.
TEST_F(EncodeTest, ATransformerThatReadsCaptionsTrainsOnLatents) {
  OrDie(WriteFile(dir_ / "dit.textproto", kDit));
  const std::string train = absl::StrCat("train ", dir_ / "dit.textproto", " --set data.directory=", dir_ / "data",
                                         " --set output.directory=", dir_ / "run");
  EXPECT_THAT(Run(train, true), HasSubstr("data/train-latents.safetensors, wanted what angel-ptm encode --images "));
  Run(absl::StrCat("encode --output ", dir_ / "data/train-latents.safetensors", Images("data")));
  EXPECT_THAT(Run(train + " --set sampling.every_steps=1 --set sampling.prompt=fox --set sampling.prompt=猫"),
              HasSubstr("2 x 8 x 8 latents in 16 patches"));
  // A report shows no images until the latents are decoded.
  EXPECT_THAT(Slurp(dir_ / "run/report.html"), Not(HasSubstr("<img alt")));
  const std::string report = absl::StrCat("report ", dir_ / "run");
  EXPECT_THAT(Run(absl::StrCat(report, " --autoencoder ", dir_ / "model")),
              HasSubstr("decoded the samples of 2 steps"));
  EXPECT_THAT(Slurp(dir_ / "run/report.html"), HasSubstr("<td>猫</td><td><img alt="));
  EXPECT_THAT(Run(absl::StrCat(report, " --autoencoder ", dir_ / "model")),
              HasSubstr("decoded the samples of 0 steps"));
  EXPECT_THAT(Run(absl::StrCat(report, " --isa avx512"), true),
              HasSubstr("--isa: wanted --autoencoder, for which it is"));
  const std::string generate = absl::StrCat("generate --checkpoint ", dir_ / "run", " --steps 2 --output ",
                                            dir_ / "sampled", " --prompt 'a red fox' --prompt 猫");
  EXPECT_THAT(Run(generate), HasSubstr("2 latents in "));
  EXPECT_FALSE(OrDie(PathExists(dir_ / "sampled.images")));
  EXPECT_THAT(Run(absl::StrCat(generate, " --autoencoder ", dir_ / "model")), HasSubstr("2 images and "));
  EXPECT_EQ(OrDie(DecodeImage(Slurp(dir_ / "sampled.images/0001.png"), "0001.png")).height, kSide);
  EXPECT_THAT(Slurp(dir_ / "sampled.images/samples.jsonl"), HasSubstr("\"prompt\":\"猫\""));
  EXPECT_THAT(Run(absl::StrCat(generate, " --clip ", dir_ / "model"), true),
              HasSubstr("--clip: the checkpoint's model makes images of prompts that it reads itself"));
}

// The bytes after a safetensors file's header.
std::string TensorBytes(const std::string& path) {
  const int64_t begin = OrDie(SafetensorsReader::Open(path)).tensors().front().offset;
  return Slurp(path).substr(static_cast<size_t>(begin));
}

// One file's two parts are what encoding each alone writes, with captions in the images' order.
TEST_F(EncodeTest, OneFileHasBothParts) {
  OrDie(WriteFile(dir_ / "captions.txt", "a red fox\n猫\nfox\n"));
  const std::string captions = " --captions " + (dir_ / "captions.txt");
  Run(absl::StrCat("encode --output ", dir_ / "both", Images("images"), Texts(), captions));
  Run(absl::StrCat("encode --output ", dir_ / "latents", Images("images")));
  Run(absl::StrCat("encode --output ", dir_ / "texts", Texts(), captions));
  EXPECT_FALSE(OrDie(PathExists(dir_ / "both.encoding")));
  OrDie(JoinSafetensors({dir_ / "texts", dir_ / "latents"}, dir_ / "joined"));
  EXPECT_EQ(Slurp(dir_ / "both"), Slurp(dir_ / "joined"));
  Run(absl::StrCat("encode --output ", dir_ / "prepared", Texts(), Images("data")));
  // Latents of a prepared set also name that set.
  EXPECT_EQ(OrDie(SafetensorsReader::Open(dir_ / "prepared")).metadata().count("images_xxh64"), 1u);
  EXPECT_TRUE(TensorBytes(dir_ / "prepared") == TensorBytes(dir_ / "joined"));
}

// A set of two languages is not silently one of the first.
TEST_F(EncodeTest, EachLanguageOrAll) {
  OrDie(WriteFile(dir_ / "images/0.zh.txt", "狐狸"));
  Prepare();
  OrDie(WriteFile(dir_ / "captions.txt", "a red fox\n狐狸\n猫\nfox\n"));
  Run(absl::StrCat("encode --output ", dir_ / "texts", Texts(), " --captions ", dir_ / "captions.txt"));
  const auto both = [&](const std::string& flags) {
    return Run(absl::StrCat("encode --output ", dir_ / "both", Images("data"), Texts(), flags));
  };
  const auto rows = [&](const std::string& file, const char* tensor) {
    const SafetensorsReader reader = OrDie(SafetensorsReader::Open(file));
    const SafetensorsTensor& found = *reader.Find(tensor);
    std::string bytes(static_cast<size_t>(found.bytes()), '\0');
    OrDie(reader.Read(found, 0, std::as_writable_bytes(std::span(bytes))));
    std::vector<std::string> read;
    const size_t row = bytes.size() / static_cast<size_t>(found.shape[0]);
    for (size_t at = 0; at < bytes.size(); at += row) read.push_back(bytes.substr(at, row));
    return read;
  };
  EXPECT_THAT(both(""), HasSubstr("note: captions are in en where an image has one in it; --language all encodes those "
                                  "in zh, too"));
  const std::vector<std::string> latents = rows(dir_ / "both", "latents"), texts = rows(dir_ / "texts", "t5");
  EXPECT_EQ(rows(dir_ / "both", "t5"), (std::vector{texts[0], texts[2], texts[3]}));
  EXPECT_THAT(both(" --language all"), AllOf(HasSubstr("4 latents in "), Not(HasSubstr("note: "))));
  EXPECT_EQ(rows(dir_ / "both", "t5"), texts);
  EXPECT_EQ(rows(dir_ / "both", "latents"), (std::vector{latents[0], latents[0], latents[1], latents[2]}));
  both(" --language zh");
  EXPECT_EQ(rows(dir_ / "both", "t5"), std::vector{texts[1]});
  EXPECT_EQ(rows(dir_ / "both", "latents"), std::vector{latents[0]});
  const std::string output = "encode --output " + (dir_ / "out");
  EXPECT_THAT(Run(output + Images("data") + " --language fr", true),
              HasSubstr("has captions in en, zh, wanted one of these or all, got \"fr\""));
  EXPECT_THAT(Run(output + Images("images") + " --language en", true),
              HasSubstr("--language: wanted a data set of angel-ptm prepare"));
}

TEST_F(EncodeTest, OneAtATimeWritesAFile) {
  const OutputLock lock = OrDie(OutputLock::Take(dir_ / "out.encoding"));
  const std::string said = Run(absl::StrCat("encode --output ", dir_ / "out", Images("images")), true);
  EXPECT_THAT(said, HasSubstr("out.encoding is in use by process "));
  EXPECT_THAT(said, HasSubstr("choose another --output"));
  EXPECT_FALSE(OrDie(PathExists(dir_ / "out")));
  Run(absl::StrCat("encode --output ", dir_ / "other", Images("images")));
}

TEST_F(EncodeTest, WhatIsMissingIsNamed) {
  const std::string output = "encode --output " + (dir_ / "out");
  EXPECT_THAT(Run(output, true), HasSubstr("nothing to encode: wanted --images and --autoencoder"));
  EXPECT_THAT(Run(output + Texts(), true), HasSubstr("--captions is missing"));
  EXPECT_THAT(Run(absl::StrCat(output, " --images ", dir_ / "data"), true), HasSubstr("--autoencoder is missing"));
  EXPECT_THAT(Run(output + Images("images") + Texts(), true), HasSubstr("have no captions: wanted --captions FILE"));
  OrDie(WriteFile(dir_ / "captions.txt", "fox\n"));
  EXPECT_THAT(Run(absl::StrCat(output, Images("data"), Texts(), " --captions ", dir_ / "captions.txt"), true),
              HasSubstr("wanted a caption for each of the 3 images"));
  EXPECT_THAT(Run(absl::StrCat(output, Images("data"), " --t5-length 9"), true),
              HasSubstr("--t5-length: no captions are encoded that it is for"));
  EXPECT_THAT(Run(absl::StrCat(output, Texts(), " --captions ", dir_ / "captions.txt", " --seed 2"), true),
              HasSubstr("--seed: no images are encoded that it is for"));
  EXPECT_THAT(Run(absl::StrCat(output, Images("data"), " --nvme-directory ", dir_.path()), true),
              HasSubstr("--nvme-directory: no weights rest in files without budgets"));
  EXPECT_THAT(Run(absl::StrCat(output, Images("data"), " --text-compute BF16"), true),
              HasSubstr("--text-compute: no captions are encoded that it is for"));
  EXPECT_THAT(Run(absl::StrCat(output, Texts(), " --captions ", dir_ / "captions.txt", " --text-compute FP16"), true),
              HasSubstr("--text-compute: wanted FP32 or BF16, got \"FP16\""));
  // If the second part fails, nothing of the first remains.
  OrDie(WriteFile(dir_ / "captions.txt", "fox\nfox\nfox\n"));
  OrDie(WritePng(dir_ / "images/2.png", MakeImage(kSide, 2 * kSide, 3)));
  EXPECT_THAT(Run(absl::StrCat(output, Images("images"), Texts(), " --captions ", dir_ / "captions.txt"), true),
              HasSubstr("2.png: wanted 16 x 16 like "));
  for (const char* end : {"", ".texts", ".latents"}) EXPECT_FALSE(OrDie(PathExists(dir_ / "out" + end))) << end;
}

}  // namespace
}  // namespace angel_ptm
